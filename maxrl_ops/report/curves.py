"""A run's figures over its iterations, whole but bounded: what a chart is drawn from. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from maxrl_ops.core.stats import counted, design_effect, wilson
from maxrl_ops.report.chart import Point
from maxrl_ops.wire.record import (
    ControlApplied,
    Evaluated,
    Event,
    IterationRecord,
    RunStarted,
)

# As many as a chart has pixels across, twice.
_MOST_POINTS = 1000
# Iterations that a smoothed share and its interval are made of.
WINDOW = 20
_Z = 1.96

_FIGURES = (
    *("loss", "correct_reward_mean", "reward_mean", "reward_std", "grad_norm", "entropy", "kl"),
    *("compile_ratio", "tests_pass_ratio", "trivial_ratio", "length_mean", "learning_rate"),
    *("sample_time", "verify_time", "update_time"),
)


@dataclass(slots=True)
class Curve:
    """Values over iterations; of a long run the means of neighbours.

    Attributes:
        points: (iteration, value), rising.
    """

    points: list[Point] = field(default_factory=list)
    _held: list[Point] = field(default_factory=list)
    _each: int = 1

    def add(self, iteration: float, value: float | None) -> None:
        """One more value; what is missing or not finite is left out."""
        if value is None or not math.isfinite(value):
            return
        self._held.append((iteration, value))
        if len(self._held) < self._each:
            return
        self.points.append(_mean(self._held))
        self._held.clear()
        if len(self.points) >= 2 * _MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [_mean(pair) for pair in pairs]
            self._each *= 2

    def drop_from(self, iteration: float) -> None:
        """Forget what a resume makes again."""
        while self.points and self.points[-1][0] >= iteration:
            self.points.pop()
        self._held = [held for held in self._held if held[0] < iteration]

    def whole(self) -> list[Point]:
        """With the values that no mean is made of yet."""
        return [*self.points, _mean(self._held)] if self._held else self.points


def _newest(curve: Curve, at: float) -> float | None:
    values = [value for x, value in curve.whole() if x <= at]
    return values[-1] if values else None


def _mean(points: Iterable[Point]) -> Point:
    chosen = list(points)
    count = len(chosen)
    return sum(x for x, _ in chosen) / count, sum(y for _, y in chosen) / count


@dataclass(slots=True)
class Smooth:
    """A share of samples over a moving window, with Wilson's interval on effective counts.

    Attributes:
        middle, low, high: Curves of the share and its interval's ends.
    """

    middle: Curve = field(default_factory=Curve)
    low: Curve = field(default_factory=Curve)
    high: Curve = field(default_factory=Curve)
    _rows: list[tuple[int, int]] = field(default_factory=list)

    def add(self, iteration: int, count: int | None, total: int | None) -> None:
        """One iteration's `count` of `total`."""
        if count is None or not total or not 0 <= count <= total:
            return
        self._rows = [*self._rows[1 - WINDOW :], (count, total)]
        samples = sum(n for _, n in self._rows)
        share = sum(k for k, _ in self._rows) / samples
        interval = wilson(share, samples / design_effect(counted(self._rows)), _Z)
        self.middle.add(iteration, share)
        self.low.add(iteration, interval.lower)
        self.high.add(iteration, interval.upper)

    def drop_from(self, iteration: int) -> None:
        """Forget what a resume makes again."""
        for curve in (self.middle, self.low, self.high):
            curve.drop_from(iteration)
        self._rows = []


@dataclass(slots=True)
class Curves:
    """What a log tells, folded for charts; a resume takes back what it makes again.

    Attributes:
        figures: Curves by the name of the record's field, and a few made of them.
        correctness, reference: Shares of correct samples.
        thresholds, objectives: (iteration, value) from which on each held.
        evaluations: Held-out evaluations, oldest first.
        samples: How many were drawn up to an iteration: (iteration, count).
        seconds: Wall seconds that iterations took up to one: (iteration, seconds); neither
            loading nor evaluations are among them.
        first, last: The lowest and the highest iteration told.
    """

    figures: dict[str, Curve] = field(default_factory=dict)
    correctness: Smooth = field(default_factory=Smooth)
    reference: Smooth = field(default_factory=Smooth)
    thresholds: list[tuple[int, float]] = field(default_factory=list)
    objectives: list[tuple[int, str]] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    samples: Curve = field(default_factory=Curve)
    seconds: Curve = field(default_factory=Curve)
    first: int | None = None
    last: int = 0
    _drawn: int = 0
    _trained: float = 0.0

    def append(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case RunStarted():
                self._start(event)
            case IterationRecord():
                self._iterate(event)
            case Evaluated(iteration):
                self._drop_evaluations_from(iteration)
                self.evaluations.append(event)
            case ControlApplied(_, iteration, changes):
                for change in changes:
                    self._change(iteration, change.key, change.value)
            case _:
                pass

    def samples_at(self, iteration: int) -> int | None:
        """How many samples had been drawn by then, those that a resume drew again among them.

        None where the log does not tell, which is not 0: that is what had been drawn before the
        first iteration of a log that tells.
        """
        drawn = _newest(self.samples, iteration)
        if drawn is not None:
            return round(drawn)
        return 0 if self.first == 1 and iteration < 1 and self.samples.whole() else None

    def seconds_at(self, iteration: int) -> float | None:
        """The wall seconds of the iterations until then."""
        return _newest(self.seconds, iteration)

    def curve(self, name: str) -> list[Point]:
        """The curve of that name; empty where the log never told it."""
        known = self.figures.get(name)
        return known.whole() if known else []

    def _start(self, header: RunStarted) -> None:
        first = 0 if header.resumed_from is None else header.resumed_from + 1
        self._drop_from(first)
        if header.correctness_threshold is not None and not self.thresholds:
            self.thresholds.append((first, header.correctness_threshold))
        if header.objective is not None and not self.objectives:
            self.objectives.append((first, header.objective))

    def _drop_from(self, first: int) -> None:
        for curve in self.figures.values():
            curve.drop_from(first)
        self.correctness.drop_from(first)
        self.reference.drop_from(first)
        self._drop_evaluations_from(first)
        self.thresholds = [each for each in self.thresholds if each[0] < first]
        self.objectives = [each for each in self.objectives if each[0] < first]
        self.last = min(self.last, max(0, first - 1))

    def _drop_evaluations_from(self, iteration: int) -> None:
        # They rise: looking at all of them each time would take forever where there are many.
        while self.evaluations and self.evaluations[-1].iteration >= iteration:
            self.evaluations.pop()

    def _iterate(self, record: IterationRecord) -> None:
        at = record.iteration
        if at <= self.last:
            self._drop_from(at)
        self.first = at if self.first is None else min(self.first, at)
        self.last = at
        self.correctness.add(at, record.n_correct, record.n_total)
        self.reference.add(at, record.reference_correct, record.reference_total)
        if record.n_total is not None:
            self._drawn += record.n_total
            self.samples.add(at, self._drawn)
        if record.duration is not None:
            self._trained += record.duration
            self.seconds.add(at, self._trained)
        for name in _FIGURES:
            self._add(name, at, getattr(record, name))
        self._add("correct", at, record.correctness)
        self._add("reference_correct", at, record.reference_correctness)
        if record.duration and record.tokens is not None:
            self._add("tokens_per_second", at, record.tokens / record.duration)
        if record.effective_samples is not None and record.effective_of:
            self._add("effective_ratio", at, record.effective_samples / record.effective_of)
        groups = (record.groups_all_wrong, record.groups_mixed, record.groups_all_correct)
        if None not in groups and (whole := sum(g or 0 for g in groups)):
            for name, count in zip(("all wrong", "mixed", "all correct"), groups, strict=True):
                self._add(name, at, (count or 0) / whole)
        if record.objective and (not self.objectives or self.objectives[-1][1] != record.objective):
            self.objectives.append((at, record.objective))

    def _add(self, name: str, at: int, value: float | None) -> None:
        if value is not None:
            self.figures.setdefault(name, Curve()).add(at, value)

    def _change(self, iteration: int, key: str, value: str) -> None:
        if key == "objective":
            self.objectives.append((iteration, value))
        if key == "correctness_threshold":
            try:
                self.thresholds.append((iteration, float(value)))
            except ValueError:
                return


def reached(evaluations: Iterable[Evaluated], level: float) -> int | None:
    """The iteration at which held-out pass@1 was at `level` for the second time running."""
    before = False
    for each in evaluations:
        now = each.pass_at_k.get(1, math.nan) >= level
        if now and before:
            return each.iteration
        before = now
    return None
