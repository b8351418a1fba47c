"""What a change would do to the samples that are learned from, told before it is made.

The log carries what is needed: how many rewards lie above each level of the task's grid, and the
effective samples at half and at double the weight temperature. What it does not tell is not
predicted.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from maxrl_ops.core.decision import Scalar
from maxrl_ops.core.figures import short
from maxrl_ops.core.in_force import InForce
from maxrl_ops.wire.record import Algorithm, IterationRecord
from trainer.objectives import OBJECTIVES

_WEIGHED = frozenset({"maxrl", "maxrl_zscore"})
# Less than this share of what there is makes no difference.
_NOTHING = 0.01


@dataclass(frozen=True, slots=True)
class Prediction:
    """Means over a window; None what cannot be told.

    Attributes:
        kept: Samples of an iteration that are learned from now, and then.
        effective: Effective samples of a group now, and then.
        is_whole: Nothing that the change bears on is untold.
    """

    kept: tuple[float, float] | None = None
    effective: tuple[float, float] | None = None
    is_whole: bool = True

    @property
    def is_nothing(self) -> bool:
        """Everything stays as it is; what cannot be told may change."""
        told = [pair for pair in (self.kept, self.effective) if pair is not None]
        stays = all(abs(b - a) <= _NOTHING * max(abs(a), 1e-9) for a, b in told)
        return self.is_whole and bool(told) and stays

    def evidence(self) -> dict[str, Scalar]:
        """As a decision carries it."""
        found: dict[str, Scalar] = {}
        for name, pair in (("kept", self.kept), ("effective", self.effective)):
            if pair is not None:
                found[f"{name}_now"], found[f"{name}_predicted"] = map(short, pair)
        return found


def uses_threshold(objective: str | None) -> bool:
    """Whether the objective learns from correct samples alone; so an unknown one may."""
    known = OBJECTIVES.get(objective or "")
    return objective != "tailrl" and (known is None or known.algorithm is Algorithm.MAXRL)


def uses_weights(objective: str | None) -> bool:
    """Whether the objective looks at weight_temperature."""
    return objective in _WEIGHED


def predict(
    records: Sequence[IterationRecord], in_force: InForce, changes: Mapping[str, Scalar]
) -> Prediction:
    """What `changes` would do, judged by these iterations."""
    if changes.keys() & {"objective", "lifecycle", "learning_rate"}:
        return Prediction()
    samples = in_force.n_samples
    new = changes.get("n_samples")
    ratio = float(new) / samples if samples and isinstance(new, int | float) else 1.0
    if "n_samples" in changes and not samples:
        return Prediction()
    effective = _effective(records, in_force, changes, ratio)
    return Prediction(
        _kept(records, in_force, changes.get("correctness_threshold"), ratio),
        effective,
        is_whole=effective is not None or "weight_temperature" not in changes,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are told and finite; None where none is, or they are too large."""
    told = [value for value in values if value is not None and math.isfinite(value)]
    try:
        return math.fsum(told) / len(told) if told else None
    except OverflowError:
        return None


def _kept(
    records: Sequence[IterationRecord], in_force: InForce, threshold: Scalar | None, ratio: float
) -> tuple[float, float] | None:
    if not uses_threshold(in_force.objective):
        total = _mean(record.n_total for record in records)
        return None if total is None else (total, total * ratio)
    now = _mean(record.n_correct for record in records)
    then = now
    if isinstance(threshold, float):
        then = _mean(record.rewards_above.get(threshold) for record in records)
    return None if now is None or then is None else (now, then * ratio)


def _effective(
    records: Sequence[IterationRecord],
    in_force: InForce,
    changes: Mapping[str, Scalar],
    ratio: float,
) -> tuple[float, float] | None:
    """Where a threshold moves, other samples are weighed: that cannot be told from these."""
    if not uses_weights(in_force.objective) or "correctness_threshold" in changes:
        return None
    now = _mean(record.effective_samples for record in records)
    column = _column(in_force.weight_temperature, changes.get("weight_temperature"))
    if now is None or column is None:
        return None
    then = _mean(map(column, records))
    # As many times the samples, as many times the effective ones: the rewards' spread stays.
    return None if then is None else (now, then * ratio)


def _column(
    live: float | None, wanted: Scalar | None
) -> Callable[[IterationRecord], float | None] | None:
    """What the log tells of the wanted weight temperature: the live one's half or double."""
    if wanted is None:
        return lambda record: record.effective_samples
    if live is None or not isinstance(wanted, float):
        return None
    if math.isclose(wanted, live / 2):
        return lambda record: record.effective_half
    if math.isclose(wanted, live * 2):
        return lambda record: record.effective_double
    return None
