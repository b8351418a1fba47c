"""A group's rewards as a library that subtracts their mean is to get them. Pure.

Where TRL's advantage is the reward less the mean of its group, N times the coefficients of our
objective (`loss = -sum(c_i l_i)`) make it our weight less its group's mean: docs/engines.md.
"""

from dataclasses import dataclass
from typing import Any

from maxrl_ops.wire.control import TrainingState
from trainer.batch import Group, Sample, coefficients_of, scored
from trainer.reward import Reward
from trainer.sampler import Completion
from trainer.tasks.base import Prompt
from trainer.verdict import Verdict


@dataclass(frozen=True, slots=True)
class RewardScale:
    """What a reward function of one's own calls correct; see trainer.tasks.base.Scale."""

    reference_threshold: float
    threshold_bounds: tuple[float, float]
    reward_grid: tuple[float, ...]

    @classmethod
    def around(cls, threshold: float, bounds: tuple[float, float] | None = None) -> "RewardScale":
        """A scale with that threshold; what a control may ask for is `bounds`, or only that."""
        low, high = bounds or (threshold, threshold)
        return cls(threshold, (low, high), tuple(sorted({low, threshold, high})))


def shaped_rewards(group: Group, state: TrainingState) -> list[float | None]:
    """N times the objective's coefficients of a group's scored samples, None for the others.

    Zeros, and so no advantage, where the group carries no signal.
    """
    members = scored(group)
    coefficients = coefficients_of(members, state, state.weight_temperature)
    values = iter(coefficients or (0.0,) * len(members))
    return [None if s.reward is None else len(members) * next(values) for s in group]


def graded(completion: Completion, reward: float | None) -> Sample:
    """A completion with the number that a reward function gave it; None, or NaN, for no reward."""
    if reward is None or reward != reward:  # noqa: PLR0124 - NaN
        return Sample(completion, Verdict(parsed=True, unscored="no reward"), None)
    value = float(reward)
    return Sample(completion, Verdict(parsed=True, score=value), Reward({"own": value}))


def text_of(said: Any) -> str:
    """A prompt or completion as text: of a conversation, what was said last."""
    return str(said if isinstance(said, str) else said[-1]["content"])


def prompt_of(text: str) -> Prompt:
    """A prompt that no task of ours made."""
    return Prompt(id=text[:200], family="", text=text, tests=())
