"""Counters over a run's log. They never go down: an iteration made again counts once."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import inf, isfinite
from operator import add
from typing import Any

from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    ControlApplied,
    Event,
    IterationRecord,
    RunStarted,
    UpdateSkipped,
)
from trainer.objectives import OBJECTIVES

# Upper bounds of the histogram of iteration durations, in seconds.
DURATION_BOUNDS = (1.0, 5.0, 30.0, 120.0, 600.0)
_MAY_BE_NONFINITE = ("loss", "grad_norm")
_PHASES = (("sample_time", "sample"), ("verify_time", "verify"), ("update_time", "update"))

Figures = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Totals:
    """What a log adds up to.

    Attributes:
        iterations: By algorithm; where the log names none, not counted.
        samples: By outcome: correct, incorrect, unscored.
        seconds: By phase: sample, verify, update.
        durations: Iterations by the first bound of DURATION_BOUNDS that they do not exceed, the
            last place for those beyond all.
        duration_sum: Seconds.
        nonfinite: Iterations whose value was NaN or infinite, by figure.
        algorithm_changes: By (from, to); each control counts once, however often it is replayed.
    """

    iterations: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS) + 1))
    duration_sum: float = 0.0
    nonfinite: Counter[str] = field(default_factory=Counter)
    algorithm_changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    _algorithm: Algorithm | None = None
    _highest: int = 0
    _highest_revision: int = 0
    _nonfinite_at: dict[str, int] = field(default_factory=dict)

    def append(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RunStarted():
                self._algorithm = event.algorithm
            case ControlApplied(revision, _, changes):
                # Not by the iteration: a resume replays a control it may not have got to use yet,
                # and may take a new one over at an iteration that was made before.
                if revision > self._highest_revision:
                    self._highest_revision = revision
                    self._change_algorithm(changes)
            case UpdateSkipped(iteration, reason):
                if iteration > self._highest:
                    self._count_nonfinite(iteration, _named(reason))
            case IterationRecord():
                self.extend((event,))
            case _:
                pass

    def extend(self, records: Sequence[IterationRecord]) -> None:
        """Count iterations, each beyond the one before; those counted already count for nothing."""
        new = [record for record in records if record.iteration > self._highest]
        if not new:
            return
        self._highest = new[-1].iteration
        known = [record.known() for record in new]
        for objective, count in Counter([each.get("objective") for each in known]).items():
            algorithm = algorithm_of(objective) or self._algorithm
            if algorithm is not None:
                self.iterations[algorithm.value] += count
        counts = [
            (k["n_correct"], k["n_total"]) for k in known if "n_correct" in k and "n_total" in k
        ]
        self.samples["correct"] += sum([correct for correct, _ in counts])
        self.samples["incorrect"] += sum([n - correct for correct, n in counts if n > correct])
        self.samples["unscored"] += sum(_told(known, "unscored"))
        self.tokens += sum(_told(known, "tokens"))
        self._count_seconds(known)
        for name in _MAY_BE_NONFINITE:
            if not all(map(isfinite, _told(known, name))):
                self._count_nonfinite_in(new, name)

    def _count_seconds(self, known: Figures) -> None:
        for name, phase in _PHASES:
            # One by one onto the sum so far: however a log is cut, the sums are the same.
            spent = [value for value in _told(known, name) if 0 < value < inf]
            self.seconds[phase] = reduce(add, spent, self.seconds[phase])
        # What a log cannot mean counts for nothing: counters never go down.
        durations = [value for value in _told(known, "duration") if 0 <= value < inf]
        for duration in durations:
            self.durations[bisect_left(DURATION_BOUNDS, duration)] += 1
        self.duration_sum = reduce(add, durations, self.duration_sum)

    def _count_nonfinite_in(self, records: Iterable[IterationRecord], name: str) -> None:
        for record in records:
            value = record.known().get(name)
            if value is not None and not isfinite(value):
                self._count_nonfinite(record.iteration, (name,))

    def _change_algorithm(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            before, after = algorithm_of(change.was), algorithm_of(change.value)
            if change.key == "objective" and before and after and before is not after:
                self.algorithm_changes[before.value, after.value] += 1

    def _count_nonfinite(self, iteration: int, figures: Iterable[str]) -> None:
        """Once an iteration: a skipped update says it, and the iteration's record again."""
        for figure in figures:
            if iteration > self._nonfinite_at.get(figure, 0):
                self._nonfinite_at[figure] = iteration
                self.nonfinite[figure] += 1


def algorithm_of(objective: str | None) -> Algorithm | None:
    """The algorithm an objective belongs to; None for an unknown one."""
    known = OBJECTIVES.get(objective or "")
    return None if known is None else Algorithm(known.algorithm)


def _told(known: Figures, name: str) -> list[Any]:
    """That figure, of the iterations that tell it."""
    return [each[name] for each in known if name in each]


def _named(reason: str) -> Iterator[str]:
    """The figures that `loss nan, grad norm inf` calls not finite."""
    for part in reason.split(","):
        name, _, value = part.strip().rpartition(" ")
        figure = name.replace(" ", "_")
        try:
            if figure in _MAY_BE_NONFINITE and not isfinite(float(value)):
                yield figure
        except ValueError:
            continue
