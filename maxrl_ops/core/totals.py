"""Counters over a run's log. They never go down: an iteration made again counts once."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
                if event.iteration > self._highest:
                    self._highest = event.iteration
                    self._count(event)
            case _:
                pass

    def _change_algorithm(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            before, after = algorithm_of(change.was), algorithm_of(change.value)
            if change.key == "objective" and before and after and before is not after:
                self.algorithm_changes[before.value, after.value] += 1

    def _count(self, record: IterationRecord) -> None:
        algorithm = algorithm_of(record.objective) or self._algorithm
        if algorithm is not None:
            self.iterations[algorithm.value] += 1
        if record.n_correct is not None and record.n_total is not None:
            self.samples["correct"] += record.n_correct
            self.samples["incorrect"] += max(0, record.n_total - record.n_correct)
        self.samples["unscored"] += record.unscored or 0
        self.tokens += record.tokens or 0
        for phase in ("sample", "verify", "update"):
            self.seconds[phase] += _length(getattr(record, f"{phase}_time"))  # type: ignore[assignment]
        if record.duration is not None and _length(record.duration) == record.duration:
            places = [i for i, bound in enumerate(DURATION_BOUNDS) if record.duration <= bound]
            self.durations[places[0] if places else -1] += 1
            self.duration_sum += record.duration
        values = ((name, getattr(record, name)) for name in _MAY_BE_NONFINITE)
        names = (n for n, value in values if value is not None and not math.isfinite(value))
        self._count_nonfinite(record.iteration, names)

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


def _length(seconds: float | None) -> float:
    """A length of time; what a log cannot mean is 0, for counters never go down."""
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else 0.0


def _named(reason: str) -> Iterator[str]:
    """The figures that `loss nan, grad norm inf` calls not finite."""
    for part in reason.split(","):
        name, _, value = part.strip().rpartition(" ")
        figure = name.replace(" ", "_")
        try:
            if figure in _MAY_BE_NONFINITE and not math.isfinite(float(value)):
                yield figure
        except ValueError:
            continue
