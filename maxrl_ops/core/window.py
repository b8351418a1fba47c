"""The iterations that a verdict is made on: those of one control revision, the newest ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maxrl_ops.core.stats import Interval, Slope, design_effect, slope, wilson
from maxrl_ops.wire.record import IterationRecord

# What the design effect is estimated from, and hence all that anybody keeps.
MOST_ROWS = 100
_SLOPE_ROWS = 60


@dataclass(frozen=True, slots=True)
class Row:
    """What the rules look at of one iteration.

    Attributes:
        n_correct: Correct samples at the live threshold, None where the log is silent.
        reference_correct: Correct samples at the reference threshold.
        reference_total: Of so many; above 0.
        rewards_above: How many of `rewards_of` rewards lie above each level of the task's grid.
    """

    iteration: int
    n_correct: int | None
    reference_correct: int
    reference_total: int
    rewards_above: Mapping[float, int]
    rewards_of: int | None

    @property
    def correctness(self) -> float:
        """At the reference threshold, 0 to 1."""
        return self.reference_correct / self.reference_total


def row_of(record: IterationRecord) -> Row | None:
    """The record's row; None where it does not tell correctness at the reference threshold."""
    if record.reference_correct is None or not record.reference_total:
        return None
    # A log may write anything: more correct samples than samples are no observation.
    if record.reference_correct > record.reference_total:
        return None
    return Row(
        record.iteration,
        record.n_correct,
        record.reference_correct,
        record.reference_total,
        record.rewards_above,
        record.rewards_of,
    )


@dataclass(frozen=True, slots=True)
class WindowStats:
    """Correctness at the reference threshold over the newest iterations of one revision.

    Attributes:
        rows: The iterations pooled, oldest first.
        samples: How many samples they have.
        correctness: Share of correct ones, 0 to 1.
        design_effect: Of samples that are alike; 1 where they are not.
        effective: `samples` / `design_effect`.
        interval: Of `correctness`.
        slope: Of correctness over iterations; None where it cannot be told.
    """

    rows: Sequence[Row]
    samples: int
    correctness: float
    design_effect: float
    effective: float
    interval: Interval
    slope: Slope | None


def effective_samples(rows: Sequence[Row], effect: float) -> float:
    """Independent samples that these rows are worth."""
    return sum(row.reference_total for row in rows) / effect


def measure(
    rows: Sequence[Row], sizes: Sequence[int], least_effective: float, z: float
) -> WindowStats | None:
    """Pool the shortest of `sizes` newest rows that is worth `least_effective` samples.

    Returns:
        None while there are too few.
    """
    effect = design_effect([(r.reference_correct, r.reference_total) for r in rows[-MOST_ROWS:]])
    for size in sizes:
        pooled = rows[-size:]
        effective = effective_samples(pooled, effect)
        if len(pooled) == size and effective >= least_effective:
            correct = sum(row.reference_correct for row in pooled)
            samples = sum(row.reference_total for row in pooled)
            recent = [(float(r.iteration), r.correctness) for r in rows[-_SLOPE_ROWS:]]
            return WindowStats(
                rows=pooled,
                samples=samples,
                correctness=correct / samples,
                design_effect=effect,
                effective=effective,
                interval=wilson(correct / samples, effective, z),
                slope=slope(recent),
            )
    return None
