"""A sweep as one page: its tables, its curves, and every run in it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean

from maxrl_ops.core import secret_words
from maxrl_ops.core.student import estimate
from maxrl_ops.core.sweep import Point, Sweep, label, spelt
from maxrl_ops.report.chart import Band, Chart, Line, share
from maxrl_ops.report.chart import Point as Place
from maxrl_ops.report.curves import WINDOW, Curves
from maxrl_ops.report.page import charts, facts, page, section, table, text
from maxrl_ops.report.several import LEVELS
from maxrl_ops.report.sweeps import HOW_TO_READ, Outcome, Table, rows, tables
from maxrl_ops.wire.logformat import percent
from maxrl_ops.wire.record import Evaluated

# As many as there are colours.
_MOST_LINES = 8
# Enough for a chart that is half a screen wide.
_MOST_PLACES = 300

Told = tuple[Point, list[Curves]]
"""A point, and the curves of its runs."""


def render(sweep: Sweep, outcomes: Sequence[Outcome], made_at: str) -> str:
    """The whole page."""
    found = tables(rows(sweep.points(), outcomes))
    varied = "; ".join(
        f"{axis.key} {', '.join(spelt(value) for value in axis.values)}" for axis in sweep.axes
    )
    told = [
        (point, [o.curves for o in outcomes if o.point == point and o.curves is not None])
        for point in sweep.points()
    ]
    return page(
        f"{sweep.name}: maxrl-ops sweep",
        f'<header><h1>{text(sweep.name)}</h1><p class="soft">as of {text(made_at)}</p>'
        f'<p class="sentence">{text(varied)}</p>{facts(_facts(sweep, outcomes))}</header>',
        *(section(each.title, _table(each)) for each in found),
        section("How to read them", f"<p>{text(HOW_TO_READ)}</p>"),
        section("Over iterations", *_over_iterations(told)),
        section("Over samples", *_over_samples(told)),
        section("Every run", _runs(outcomes)),
        section("Set-up", table(("", ""), _set_up(sweep))),
    )


def _table(told: Table) -> str:
    return table(told.head, told.rows, numbers=len(told.head) - 1)


def _facts(sweep: Sweep, outcomes: Sequence[Outcome]) -> dict[str, object]:
    states = [each.state for each in outcomes]
    return {
        "runs": len(outcomes),
        "finished": states.count("finished"),
        "failed": states.count("failed") or None,
        "seeds": ", ".join(map(str, sweep.seeds)),
        "task": sweep.settings.get("task"),
        "autopilot": sweep.mode,
        "begun": sweep.created,
    }


def _runs(outcomes: Sequence[Outcome]) -> str:
    levels = [f"to {percent(level)}" for level in LEVELS]
    head = ("run", "", "iterations", "samples", "wall s", "pass@1", *levels)
    return table(head, map(_run, outcomes), numbers=5 + len(levels))


def _run(each: Outcome) -> tuple[object, ...]:
    state = (each.state or "not begun").replace("_", " ")
    pass_at_1 = each.pass_at.get(1)
    return (
        each.name,
        state if each.reason is None or each.state == "finished" else f"{state}: {each.reason}",
        each.iterations,
        each.samples,
        None if each.seconds is None else f"{each.seconds:.1f}",
        None if pass_at_1 is None else percent(pass_at_1),
        *(_reached(each, at) for at in each.reached.values()),
    )


def _reached(run: Outcome, at: Mapping[str, float] | None) -> str | None:
    """At which iteration; nothing of a run that goes on, or was stopped: it might have."""
    if at is not None:
        return f"{at['iterations']:g}"
    return "never" if run.is_counted else None


def _set_up(sweep: Sweep) -> Iterator[tuple[str, str]]:
    yield from ((key, spelt(value)) for key, value in sweep.settings.items())
    if sweep.command:
        yield "command", secret_words.masked(sweep.command)
    yield "job", sweep.job_name


# --- Curves ---------------------------------------------------------------------------------------


def _over_iterations(told: Sequence[Told]) -> Iterator[str]:
    last = max((curves.last for _, several in told for curves in several), default=0)
    for some, part in _parts(told):
        shown = [
            _evaluated(f"Held-out pass@1{part}", some, _pass_at_1),
            _evaluated(f"Held-out pass@k{part}", some, _pass_at_most),
            _mean_chart(f"Correctness at the reference threshold{part}", some, _reference),
            _mean_chart(f"Entropy{part}", some, lambda curves: curves.curve("entropy")),
            _mean_chart(f"Loss{part}", some, lambda curves: curves.curve("loss")),
            _mean_chart(f"Reward{part}", some, lambda curves: curves.curve("reward_mean")),
        ]
        yield charts(shown, last)


def _over_samples(told: Sequence[Told]) -> Iterator[str]:
    drawn = (curves.samples_at(curves.last) for _, several in told for curves in several)
    last = max((count for count in drawn if count is not None), default=0)
    for some, part in _parts(told):
        yield charts([_evaluated(f"Held-out pass@1{part}", some, _pass_at_1, "sample")], last)


def _parts(told: Sequence[Told]) -> Iterator[tuple[Sequence[Told], str]]:
    """As many points at a time as can be told apart."""
    count = -(-len(told) // _MOST_LINES)
    for number in range(count):
        some = told[number * _MOST_LINES : (number + 1) * _MOST_LINES]
        yield some, "" if count == 1 else f" ({number + 1} of {count})"


def _pass_at_1(each: Evaluated) -> float | None:
    return each.pass_at_k.get(1)


def _pass_at_most(each: Evaluated) -> float | None:
    return each.pass_at_k[max(each.pass_at_k)] if len(each.pass_at_k) > 1 else None


def _reference(curves: Curves) -> list[Place]:
    return curves.reference.middle.whole()


def _evaluated(
    title: str,
    told: Sequence[Told],
    figure: Callable[[Evaluated], float | None],
    unit: str = "iteration",
) -> Chart:
    """A figure of evaluations: a point's mean with its interval, each run behind it."""
    lines, bands = [], []
    for colour, (point, several) in enumerate(told):
        each = [_places(curves, figure, unit) for curves in several]
        if len(each) > 1:
            lines += [Line("", [*places.values()], colour, is_faint=True) for places in each]
        middle, band = _mean_of(each)
        lines.append(Line(label(point), middle, colour))
        bands.append(Band("", band, colour))
    return Chart(
        title,
        lines=lines,
        bands=bands,
        form=share,
        bounds=(0.0, 1.0),
        note="Means over seeds with Student's 95% intervals; single runs are faint.",
        unit=unit,
    )


def _places(
    curves: Curves, figure: Callable[[Evaluated], float | None], unit: str
) -> dict[int, Place]:
    """Where a run's evaluations lie, by iteration; without those of which that is not known."""
    places = {}
    for each in curves.evaluations:
        x = each.iteration if unit == "iteration" else curves.samples_at(each.iteration)
        y = figure(each)
        if x is not None and y is not None and math.isfinite(y):
            places[each.iteration] = float(x), y
    return places


def _mean_of(
    several: Sequence[Mapping[int, Place]],
) -> tuple[list[Place], list[tuple[float, float, float]]]:
    """The mean curve and its band, evaluation by evaluation over the runs that came so far."""
    middle, band, most = [], [], 0
    for at in sorted({at for each in several for at in each}, reverse=True):
        places = [each[at] for each in several if at in each]
        found = estimate([y for _, y in places])
        # Where a run that came further lacks a figure, the others' mean would be a jump.
        if found is not None and len(places) >= most:
            most = len(places)
            x = fmean(x for x, _ in places)
            middle.append((x, found.mean))
            # Of one run nothing is known of how it spreads.
            if (half := found.half) is not None:
                band.append((x, max(0.0, found.mean - half), min(1.0, found.mean + half)))
    return middle[::-1], band[::-1]


def _mean_chart(
    title: str, told: Sequence[Told], curve: Callable[[Curves], Sequence[Place]]
) -> Chart:
    lines = []
    for colour, (point, several) in enumerate(told):
        by_x: dict[float, list[float]] = {}
        for x, y in chain.from_iterable(map(curve, several)):
            by_x.setdefault(x, []).append(y)
        means = [(x, fmean(ys)) for x, ys in sorted(by_x.items())]
        lines.append(Line(label(point), means[:: 1 + len(means) // _MOST_PLACES], colour))
    is_share = title.startswith("Correctness")
    return Chart(
        title,
        lines=lines,
        form=share if is_share else "{:g}".format,
        bounds=(0.0, 1.0) if is_share else None,
        note=f"Means over {WINDOW} iterations and seeds." if is_share else "Means over seeds.",
    )
