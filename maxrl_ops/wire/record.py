"""The events of a run, as its log tells them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class _Nothing(dict[Any, Any]):
    """What every record without entries shares; a dataclass wants its defaults hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


_NOTHING: Mapping[Any, Any] = _Nothing()


class Algorithm(StrEnum):
    """The family an objective belongs to, as the log's `RL Method:` spells it."""

    GRPO = "GRPO"
    MAXRL = "MaxRL"


@dataclass(frozen=True, slots=True)
class RunStarted:
    """An attempt's header.

    Attributes:
        attempt: 1 for the first start; each restart adds one.
        resumed_from: The checkpoint's iteration; iterations after it will be written again.
        bounds: Lowest and highest threshold that a control may ask for.
        prompt_sampling: difficulty; None where prompts are drawn as the task gives them.
        replay: Prompts of an iteration whose earlier correct completions are learned from again;
            None where there are none.
        schedule: hybrid or adaptive; None where the objective is to stay.
        hand_over_to: The objective that such a schedule ends with.
        hand_over_after: Iterations before a hybrid's hand-over.
        extra: Lines this version does not know, by key.
    """

    algorithm: Algorithm
    objective: str | None = None
    task: str | None = None
    model: str | None = None
    device: str | None = None
    reward: str | None = None
    seed: int | None = None
    target_iterations: int | None = None
    prompts_per_iteration: int | None = None
    n_samples: int | None = None
    correctness_threshold: float | None = None
    weight_temperature: float | None = None
    learning_rate: float | None = None
    reference_threshold: float | None = None
    bounds: tuple[float, float] | None = None
    prompt_sampling: str | None = None
    replay: int | None = None
    schedule: str | None = None
    hand_over_to: str | None = None
    hand_over_after: int | None = None
    attempt: int | None = None
    resumed_from: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IterationRecord:
    """One iteration. What was not measured is None, never 0.

    Without slots, for speed: an instance holds what was measured, and its class the rest.

    Attributes:
        n_correct: Samples whose reward is above the live threshold (and that compiled).
        n_total: Samples that have a reward; unscored ones are not among them.
        correct_reward_mean: None without a correct sample.
        loss: None where no group carried signal.
        reference_correct: As n_correct, at the task's reference threshold.
        rewards_above: How many of `rewards_of` rewards lie above each level of the task's grid.
        replayed: Prompts whose earlier correct completions were learned from again; they are part
            of no count of samples or groups, but of loss and entropy.
        effective_samples: Mean of 1 / sum(w^2) over groups with signal, of `effective_of` correct
            samples; with the weight temperature halved and doubled beside it.
        compile_ratio: Share of samples that compiled; likewise tests, trivial. 0 to 1.
        length_mean: Tokens of a completion.
        duration, sample_time, verify_time, update_time: Seconds.
        tokens: Sampled tokens.
        at: When the iteration ended, RFC 3339 in UTC.
        verdict: What stands in the closing brackets.
        extra: Lines this version does not know, by key.
    """

    iteration: int
    target_iterations: int | None = None
    n_correct: int | None = None
    n_total: int | None = None
    correct_reward_mean: float | None = None
    loss: float | None = None
    objective: str | None = None
    reference_correct: int | None = None
    reference_total: int | None = None
    rewards_above: Mapping[float, int] = _NOTHING
    rewards_of: int | None = None
    groups_all_wrong: int | None = None
    groups_all_correct: int | None = None
    groups_mixed: int | None = None
    replayed: int | None = None
    effective_samples: float | None = None
    effective_of: float | None = None
    effective_half: float | None = None
    effective_double: float | None = None
    reward_mean: float | None = None
    reward_std: float | None = None
    compile_ratio: float | None = None
    tests_pass_ratio: float | None = None
    trivial_ratio: float | None = None
    unique: int | None = None
    unique_of: int | None = None
    unscored: int | None = None
    length_mean: float | None = None
    grad_norm: float | None = None
    entropy: float | None = None
    kl: float | None = None
    learning_rate: float | None = None
    duration: float | None = None
    sample_time: float | None = None
    verify_time: float | None = None
    update_time: float | None = None
    tokens: int | None = None
    control_revision: int | None = None
    at: str | None = None
    verdict: str | None = None
    extra: Mapping[str, str] = _NOTHING

    def __post_init__(self) -> None:
        """Keep what was measured."""
        values = self.__dict__
        for name in [name for name, value in values.items() if value is None or value == {}]:
            del values[name]

    @classmethod
    def of(cls, values: dict[str, Any]) -> "IterationRecord":
        """The record with these fields, `iteration` among them; none may be None or empty.

        For readers, it takes a tenth of the constructor's time. The dictionary becomes the
        record's own.
        """
        record = object.__new__(cls)
        object.__setattr__(record, "__dict__", values)
        return record

    def known(self) -> Mapping[str, Any]:
        """The fields that were measured, by name."""
        return self.__dict__

    @property
    def correctness(self) -> float | None:
        """n_correct / n_total, 0 to 1."""
        if self.n_correct is None or not self.n_total:
            return None
        return self.n_correct / self.n_total

    @property
    def reference_correctness(self) -> float | None:
        """Correctness at the reference threshold, 0 to 1."""
        if self.reference_correct is None or not self.reference_total:
            return None
        return self.reference_correct / self.reference_total


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A held-out evaluation after `iteration` (0: before training). Ratios are 0 to 1.

    Attributes:
        pass_at_k: Unbiased pass@k by k, 1 among them.
        se: Standard error of pass@1 over prompts.
        wrong_ratio: Share of samples that compile but fail a test; None for a task that compiles
            nothing.
    """

    iteration: int
    greedy: float
    pass_at_k: Mapping[int, float]
    se: float
    compile_ratio: float | None = None
    wrong_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint is complete; `seconds` is what writing it took."""

    iteration: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """One value a control changed, as the log spells it."""

    key: str
    value: str
    was: str


@dataclass(frozen=True, slots=True)
class ControlApplied:
    """The trainer took a control over from `iteration` on."""

    revision: int
    iteration: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class ControlRejected:
    """The trainer goes on unchanged, and says why."""

    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateSkipped:
    """Loss or gradient was not finite: that step was not taken, nor another on its batch."""

    iteration: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The attempt's last word: `outcome` is finished, stopped or failed."""

    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A line that is not ours; `reason` is one of a few words, for counting."""

    line: str
    reason: str


Event = (
    RunStarted
    | IterationRecord
    | Evaluated
    | CheckpointSaved
    | ControlApplied
    | ControlRejected
    | UpdateSkipped
    | RunEnded
    | Unparsed
)
