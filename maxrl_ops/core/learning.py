"""What no control can mend, and a person should know: DEAD GROUPS, NO LEARNING, REWARD HACKING."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from maxrl_ops.core.policy import DeadGroups, Hacking, NoLearning
from maxrl_ops.wire.record import Evaluated, IterationRecord


class Mean(NamedTuple):
    """Of so many values, and its standard error."""

    value: float
    error: float


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """None where fewer than two values are told, or too large ones; NaN and inf are not told."""
    # NaN and infinity are what is not itself less itself.
    told = [value for value in values if value is not None and value - value == 0]
    count = len(told)
    if count < 2:
        return None
    try:
        mean = math.fsum(told) / count
        # statistics.variance is exact, and fifty times slower.
        variance = math.fsum([(value - mean) ** 2 for value in told]) / (count - 1)
    except OverflowError:
        # A log may hold 1e308.
        return None
    return Mean(mean, math.sqrt(variance / count))


class Means:
    """Of iterations: what the reward is paid for, and what it stands for; None where untold.

    Each is found out when it is asked for: most of the time the first ones tell enough.
    """

    def __init__(self, records: Sequence[IterationRecord]) -> None:
        """Over these."""
        self._records = records

    @cached_property
    def length(self) -> Mean | None:
        """Tokens of a completion."""
        return mean_of([r.length_mean for r in self._records])

    @cached_property
    def unique(self) -> Mean | None:
        """Share of the completions that are unlike all others."""
        return mean_of([_unique(r) for r in self._records])

    @cached_property
    def compiling(self) -> Mean | None:
        """Share that compiles."""
        return mean_of([r.compile_ratio for r in self._records])

    @cached_property
    def tests(self) -> Mean | None:
        """Share that passes its tests."""
        return mean_of([r.tests_pass_ratio for r in self._records])

    @cached_property
    def reward(self) -> Mean | None:
        """Of all samples."""
        return mean_of([r.reward_mean for r in self._records])

    @cached_property
    def right(self) -> Mean | None:
        """Correctness at the reference threshold."""
        return mean_of([r.reference_correctness for r in self._records])

    @cached_property
    def unearned(self) -> Mean | None:
        """Share that counts as correct and fails its tests."""
        return mean_of([_unearned(r) for r in self._records])


@dataclass(slots=True)
class Progress:
    """Whether a run gets anywhere.

    Attributes:
        first: The run's first iterations, which later ones are held against.
        means: Of the first ones, once they are asked for.
        figures: What the newest iteration told.
        frozen: For how many iterations in a row those have been the same.
        idle: For how many there was no gradient.
        tells_loss: The log has told a loss or a gradient: silence about it means something.
    """

    first: list[IterationRecord] = field(default_factory=list)
    means: Means | None = field(default=None, compare=False)
    figures: tuple[object, ...] = ()
    frozen: int = 0
    idle: int = 0
    tells_loss: bool = False

    def append(self, record: IterationRecord, keep: int, *, is_ours: bool) -> None:
        """Take an iteration in; the first `keep` ones are kept. `is_ours`: of our own trainer."""
        if len(self.first) < keep:
            self.first.append(record)
            self.means = None
        loss, norm = record.loss, record.grad_norm
        if loss is None and norm is None:
            # Our trainer tells no loss where no group carried signal; another may never tell one.
            self.idle = self.idle + 1 if is_ours or self.tells_loss else 0
        else:
            self.tells_loss = True
            still = norm == 0 or record.learning_rate == 0
            self.idle = self.idle + 1 if still else 0
        figures = (record.n_correct, record.correct_reward_mean, loss, norm)
        self.frozen = self.frozen + 1 if figures == self.figures and loss is not None else 0
        self.figures = figures

    def rewind(self, first: int) -> None:
        """Without the iterations from `first` on."""
        self.first = [record for record in self.first if record.iteration < first]
        self.means = None
        self.figures, self.frozen, self.idle = (), 0, 0

    def began_with(self) -> Means:
        """The means of the first iterations."""
        if self.means is None:
            self.means = Means(self.first)
        return self.means


def no_learning(progress: Progress, policy: NoLearning) -> str | None:
    """Why nothing is learned, in words; None where something may be."""
    if progress.idle >= policy.iterations:
        return f"no gradient for {progress.idle} iterations: nothing is learned"
    # The first of them is not a repetition.
    if progress.frozen + 1 >= policy.iterations:
        return f"loss and correctness have not moved for {progress.frozen + 1} iterations"
    return None


def dead_groups(records: Sequence[IterationRecord], policy: DeadGroups) -> str | None:
    """What most prompts of a window have in common; None where enough of them teach something."""
    wrong = sum(record.groups_all_wrong or 0 for record in records)
    correct = sum(record.groups_all_correct or 0 for record in records)
    total = wrong + correct + sum(record.groups_mixed or 0 for record in records)
    if not total:
        return None
    if wrong / total > policy.above:
        return (
            f"{wrong / total:.0%} of the groups had no correct sample: "
            "easier prompts, or more samples a prompt, would teach more"
        )
    if correct / total > policy.above:
        return (
            f"{correct / total:.0%} of the groups had no wrong sample: "
            "harder prompts would teach more"
        )
    return None


def hacking(
    first: Means | None,
    now: Sequence[IterationRecord],
    evaluations: tuple[Evaluated | None, Evaluated | None],
    policy: Hacking,
) -> str | None:
    """How the reward seems to be had without the work, in words; None where it does not.

    Args:
        first: What the run began with; None while there is nothing to hold against it.
        now: The newest iterations, none of those that it began with.
        evaluations: The first held-out evaluation, and the newest.
        policy: The numbers.
    """
    trivial = mean_of([record.trivial_ratio for record in now])
    if trivial is not None and trivial.value > policy.trivial:
        return f"{trivial.value:.0%} of the completions are trivial"
    if first is None:
        return None
    means = Means(now)
    return _narrowed(first, means, evaluations, policy) or _bought(
        first, means, evaluations, policy
    )


def _unique(record: IterationRecord) -> float | None:
    if record.unique is None or not record.unique_of:
        return None
    return record.unique / record.unique_of


def _unearned(record: IterationRecord) -> float | None:
    right, tests = record.reference_correctness, record.tests_pass_ratio
    return None if right is None or tests is None else right - tests


def _narrowed(
    first: Means,
    now: Means,
    evaluations: tuple[Evaluated | None, Evaluated | None],
    policy: Hacking,
) -> str | None:
    """Whether completions became short, or alike, and held-out ones no better.

    Who learns where there is but one right answer gives fewer different ones, too.
    """
    if _is_clear(_held_out_rise(evaluations), policy, 0.0):
        return None
    for words, was, then in (
        ("completions are {:.1f} tokens long, they were {:.1f}", first.length, now.length),
        ("{:.0%} of the completions are unique, {:.0%} were", first.unique, now.unique),
    ):
        if was is not None and then is not None and then.value < policy.halved * was.value:
            return words.format(then.value, was.value)
    return None


def _bought(
    first: Means,
    now: Means,
    evaluations: tuple[Evaluated | None, Evaluated | None],
    policy: Hacking,
) -> str | None:
    """Whether compiling, correctness or the reward got better, and what it stands for did not."""
    if _is_clear(_rise(first.compiling, now.compiling), policy, policy.least_rise) and (
        _is_flat(_rise(first.tests, now.tests), policy)
        or _is_flat(_held_out_rise(evaluations), policy)
    ):
        return "more completions compile than at first, and no more of them are right"
    if _is_clear(_rise(first.unearned, now.unearned), policy, policy.least_rise):
        return "more completions than at first count as correct and fail their tests"
    is_richer = _is_clear(_rise(first.reward, now.reward), policy, 0.0)
    if is_richer and _is_flat(_rise(first.right, now.right), policy):
        return "the reward is higher than at first, and no more completions are correct"
    return None


def _rise(was: Mean | None, then: Mean | None) -> Mean | None:
    if was is None or then is None:
        return None
    return Mean(then.value - was.value, math.hypot(was.error, then.error))


def _held_out_rise(evaluations: tuple[Evaluated | None, Evaluated | None]) -> Mean | None:
    first, newest = evaluations
    if first is None or newest is None or first is newest:
        return None
    error = math.hypot(first.se, newest.se)
    return Mean(newest.pass_at_k[1] - first.pass_at_k[1], error)


def _is_clear(rise: Mean | None, policy: Hacking, least: float) -> bool:
    return rise is not None and rise.value > least and rise.value > policy.z * rise.error


def _is_flat(rise: Mean | None, policy: Hacking) -> bool:
    """Told, and not clearly above 0."""
    return rise is not None and rise.value <= policy.z * rise.error
