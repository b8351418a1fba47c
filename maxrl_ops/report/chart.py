"""Line charts as inline SVG. Pure: figures in, text out.

Colours are classes, so that the page's style sheet has them for light and for dark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 16.0, 34.0

# A log may hold 1e308; the difference of two of them is no number any more.
_LARGEST = 1e100

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of (x, y), x rising.

    Attributes:
        label: For the legend; empty for a curve that needs none.
        colour: 0 to 7: a class of the style sheet.
        is_faint: Drawn behind the others.
        is_stepped: Each value holds until the next.
    """

    label: str
    points: Sequence[Point]
    colour: int = 0
    is_faint: bool = False
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """An area between two curves: (x, low, high), x rising."""

    label: str
    points: Sequence[tuple[float, float, float]]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Dots:
    """Single measurements with an error each, 0 for none: (x, y, error)."""

    label: str
    points: Sequence[tuple[float, float, float]]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at an x: a vertical line with a number, and a text to hover for."""

    x: float
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        form: How a value is spelt at the axis.
        bounds: Of the y axis; None to fit the figures.
        span: Of the x axis, so that charts above each other can be compared; None to fit.
        is_logarithmic: Only values above 0 are drawn.
        unit: What the x axis counts.
    """

    title: str
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    dots: Sequence[Dots] = ()
    marks: Sequence[Mark] = ()
    form: Callable[[float], str] = "{:g}".format
    bounds: Point | None = None
    span: Point | None = None
    is_logarithmic: bool = False
    note: str = ""
    unit: str = "iteration"

    @property
    def is_empty(self) -> bool:
        """There is nothing to draw."""
        return not any(_finite(self, (p[:2] for line in self.lines for p in line.points))) and not (
            any(_finite(self, (p[:2] for dots in self.dots for p in dots.points)))
        )


def share(value: float) -> str:
    """0.5 -> `50%`."""
    return f"{100 * value:g}%"


def svg(chart: Chart) -> str:
    """The chart as an <svg> element; all of its texts are escaped."""
    scale = _Scale.of(chart)
    title = escape(f"{chart.title} over {chart.unit}s")
    parts = [
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{title}">',
        *_grid(scale, chart),
        *(_band(scale, band) for band in chart.bands),
        *(_mark(scale, mark) for mark in chart.marks if scale.has(mark.x)),
        *(_line(scale, line) for line in sorted(chart.lines, key=lambda line: not line.is_faint)),
        *(part for dots in chart.dots for part in _dots(scale, dots, chart.form)),
        "</svg>",
    ]
    return "".join(parts)


def legend(chart: Chart) -> str:
    """What the colours mean, as HTML; empty where one colour says it all."""
    parts: list[Line | Dots | Band] = [*chart.lines, *chart.dots, *chart.bands]
    shown = [
        (part.label, part.colour)
        for part in parts
        if part.label and any(_is_drawn(point[1]) for point in part.points)
    ]
    unique = list(dict.fromkeys(shown))
    if not unique:
        return ""
    items = "".join(f'<li><i class="c{c % 8}"></i>{escape(text)}</li>' for text, c in unique)
    return f'<ul class="legend">{items}</ul>'


# --- Scales ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scale:
    """From figures to places; `y` is the logarithm of a logarithmic axis."""

    x: Point
    y: Point
    is_logarithmic: bool

    @classmethod
    def of(cls, chart: Chart) -> "_Scale":
        points = list(_finite(chart, _all_points(chart)))
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [_height(chart, y) for _, y in points] or [0.0, 1.0]
        low, high = (min(ys), max(ys)) if chart.bounds is None else chart.bounds
        if chart.bounds is None:
            room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
            low, high = low - room, high + room
        first, last = chart.span or (min(xs), max(xs))
        return cls((first, last if last > first else first + 1), (low, high), chart.is_logarithmic)

    def has(self, x: float) -> bool:
        return self.x[0] <= x <= self.x[1]

    def left(self, x: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + width * (x - self.x[0]) / (self.x[1] - self.x[0])

    def top(self, y: float) -> float:
        """Of a value; what is out of bounds stays at their edge."""
        value = math.log10(y) if self.is_logarithmic else y
        part = (value - self.y[0]) / (self.y[1] - self.y[0])
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, max(0.0, part)))

    def place(self, point: Point) -> str:
        return f"{self.left(point[0]):.1f},{self.top(point[1]):.1f}"

    def can_show(self, y: float) -> bool:
        return _is_drawn(y) and (y > 0 or not self.is_logarithmic)


def _all_points(chart: Chart) -> Iterable[Point]:
    for line in chart.lines:
        yield from line.points
    for x, low, high in (p for band in chart.bands for p in band.points):
        yield from ((x, low), (x, high))
    for x, y, error in (p for dots in chart.dots for p in dots.points):
        yield from ((x, y - error), (x, y + error))


def _finite(chart: Chart, points: Iterable[Point]) -> Iterable[Point]:
    for x, y in points:
        if math.isfinite(x) and _is_drawn(y) and (y > 0 or not chart.is_logarithmic):
            yield x, y


def _is_drawn(y: float) -> bool:
    """NaN is not, nor is what no axis could hold."""
    return abs(y) < _LARGEST


def _height(chart: Chart, y: float) -> float:
    return math.log10(y) if chart.is_logarithmic else y


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from `low` to `high`, at most `most` and no fewer than two of them."""
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Rounded, or 0.30000000000000004 stood at the axis.
    return [round(n * step, 12) for n in range(first, last + 1)]


# --- Parts ----------------------------------------------------------------------------------------


def _grid(scale: _Scale, chart: Chart) -> Iterable[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in ticks(*scale.y):
        shown = 10.0**value if chart.is_logarithmic else value
        if chart.is_logarithmic and value != round(value) and scale.y[1] - scale.y[0] > 1:
            continue
        y = scale.top(shown)
        yield f'<line class="grid" x1="{_LEFT:g}" y1="{y:.1f}" x2="{right:g}" y2="{y:.1f}"/>'
        label = f"{shown:.2g}" if chart.is_logarithmic else chart.form(shown)
        yield f'<text class="y" x="{_LEFT - 6:g}" y="{y + 3.5:.1f}">{escape(label)}</text>'
    for value in (tick for tick in ticks(*scale.x, 8) if tick == round(tick)):
        x = scale.left(value)
        yield f'<text class="x" x="{x:.1f}" y="{bottom + 15:g}">{value:g}</text>'
    yield f'<line class="axis" x1="{_LEFT:g}" y1="{bottom:g}" x2="{right:g}" y2="{bottom:g}"/>'
    middle = (_LEFT + right) / 2
    yield f'<text class="x" x="{middle:.1f}" y="{bottom + 29:g}">{escape(chart.unit)}</text>'


def _line(scale: _Scale, line: Line) -> str:
    """Broken where a value is missing."""
    pieces: list[list[str]] = [[]]
    before: Point | None = None
    for point in line.points:
        if not scale.can_show(point[1]):
            pieces.append([])
            before = None
            continue
        if line.is_stepped and before is not None:
            pieces[-1].append(scale.place((point[0], before[1])))
        pieces[-1].append(scale.place(point))
        before = point
    look = f"l c{line.colour % 8}" + (" faint" if line.is_faint else "")
    return "".join(
        f'<polyline class="{look}" points="{" ".join(piece)}"/>' for piece in pieces if piece
    )


def _band(scale: _Scale, band: Band) -> str:
    known = [p for p in band.points if scale.can_show(p[1]) and scale.can_show(p[2])]
    if not known:
        return ""
    upper = [scale.place((x, high)) for x, _, high in known]
    lower = [scale.place((x, low)) for x, low, _ in reversed(known)]
    return f'<polygon class="b c{band.colour % 8}" points="{" ".join([*upper, *lower])}"/>'


def _dots(scale: _Scale, dots: Dots, form: Callable[[float], str]) -> Iterable[str]:
    for x, y, error in dots.points:
        if not scale.can_show(y):
            continue
        left, top = scale.left(x), scale.top(y)
        spread = f" &#177; {escape(form(round(error, 3)))}" if error else ""
        told = f"{escape(dots.label)} at {x:g}: {escape(form(round(y, 3)))}{spread}"
        yield f'<g class="d c{dots.colour % 8}"><title>{told}</title>'
        if error:
            low, high = scale.top(y - error), scale.top(y + error)
            yield f'<line x1="{left:.1f}" y1="{low:.1f}" x2="{left:.1f}" y2="{high:.1f}"/>'
        yield f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3"/></g>'


def _mark(scale: _Scale, mark: Mark) -> str:
    x = scale.left(mark.x)
    return (
        f'<g class="mark"><title>{escape(mark.text)}</title>'
        f'<line x1="{x:.1f}" y1="{_TOP:g}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM:g}"/>'
        f'<text x="{x:.1f}" y="{_TOP - 4:g}">{mark.number}</text></g>'
    )
