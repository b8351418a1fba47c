"""The iterations that a verdict is made on: those of one control revision, the newest ones.

What the log tells is added up as it comes. Any window is then the difference of two sums, exact
since all of them are whole numbers, and costs the same whatever its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from maxrl_ops.core.policy import Window
from maxrl_ops.core.stats import (
    Counts,
    Interval,
    Line,
    Slope,
    design_effect_of,
    score_interval,
    share_of,
    slope,
)
from maxrl_ops.wire.record import IterationRecord

# As many as the widest window that a policy may ask for: all that anybody looks at.
MOST_ROWS = 1000
_KEPT = 1200


# Sums over all iterations up to one, in plain tuples, which take a fifth of a named one's time: of
# correct samples, samples, shares (in UNIT) and their squares, iterations and their squares, and
# iterations times shares.
Sums = tuple[int, int, int, int, int, int, int]
_NOTHING: Sums = (0, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Rows:
    """Iterations of one revision, oldest first, and the sums up to each.

    Attributes:
        records: At most `_KEPT`, at least the newest MOST_ROWS there were.
        sums: One more than records: before the first, and behind each.
        count: How many there were in this revision, forgotten ones too.
    """

    records: list[IterationRecord] = field(default_factory=list)
    sums: list[Sums] = field(default_factory=lambda: [_NOTHING])
    count: int = 0

    def append(self, record: IterationRecord, k: int, n: int) -> None:
        """Take an iteration in: `k` of `n` samples were correct, `n` > 0."""
        share, square = share_of(k, n)
        at = record.iteration
        ks, ns, shares, squares, x, xx, xs = self.sums[-1]
        self.records.append(record)
        self.sums.append(
            (
                ks + k,
                ns + n,
                shares + share,
                squares + square,
                x + at,
                xx + at * at,
                xs + at * share,
            )
        )
        self.count += 1
        if len(self.records) > _KEPT:
            del self.records[:-MOST_ROWS], self.sums[: -MOST_ROWS - 1]

    def clear(self) -> None:
        """Forget all: a revision begins."""
        self.records, self.sums, self.count = [], [_NOTHING], 0

    def rewind(self, first: int) -> None:
        """Without the iterations from `first` on."""
        while self.records and self.records[-1].iteration >= first:
            del self.records[-1], self.sums[-1]
            self.count -= 1

    def newest(self, rows: int) -> Sequence[IterationRecord]:
        """The newest `rows` records, or all there are."""
        return self.records[-rows:]

    def counts(self, rows: int) -> Counts:
        """Sums over the newest `rows` iterations, or over all there are."""
        rows = min(rows, len(self.records))
        low, high = self.sums[-1 - rows], self.sums[-1]
        return Counts(rows, high[0] - low[0], high[1] - low[1], high[2] - low[2], high[3] - low[3])

    def slope(self, rows: int) -> Slope | None:
        """Of correctness over iterations, over the newest `rows`."""
        rows = min(rows, len(self.records))
        low, high = self.sums[-1 - rows], self.sums[-1]
        _, _, s, ss, x, xx, xs = (b - a for a, b in zip(low, high, strict=True))
        return slope(Line(rows, x, xx, xs, s, ss))

    def centre(self, rows: int) -> float:
        """The mean of the newest `rows` iterations."""
        return (self.sums[-1][4] - self.sums[-1 - rows][4]) / rows


class WindowStats(NamedTuple):
    """Correctness over the newest iterations of one revision.

    Attributes:
        rows: How many iterations are pooled.
        samples: How many samples they have.
        correctness: Share of correct ones, 0 to 1.
        design_effect: Of samples that are alike; 1 where they are not.
        effective: `samples` / `design_effect`.
        lower, upper: The interval of `correctness`.
    """

    rows: int
    samples: int
    correctness: float
    design_effect: float
    effective: float
    lower: float
    upper: float

    @property
    def interval(self) -> Interval:
        """Of `correctness`."""
        return Interval(self.lower, self.upper)


def measure(rows: Rows, window: Window) -> WindowStats | None:
    """Pool the shortest of the window's sizes that is worth enough samples; None while none is."""
    sums = rows.sums
    have = len(sums) - 1
    if have < window.sizes[0]:
        return None
    newest = sums[-1]
    effect_rows = min(window.design_effect_rows, have)
    oldest = sums[have - effect_rows]
    effect = design_effect_of(
        effect_rows,
        newest[0] - oldest[0],
        newest[1] - oldest[1],
        newest[2] - oldest[2],
        newest[3] - oldest[3],
    )
    needed = window.least_effective * effect
    for size in window.sizes:
        if size > have:
            return None
        oldest = sums[have - size]
        samples = newest[1] - oldest[1]
        if samples >= needed:
            correctness = (newest[0] - oldest[0]) / samples
            effective = samples / effect
            lower, upper = score_interval(correctness, effective, window.z)
            return WindowStats(size, samples, correctness, effect, effective, lower, upper)
    return None
