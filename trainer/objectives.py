"""Objectives: one group's rewards and correct mask -> the coefficient of each sequence log-prob.

A group is the N completions of one prompt. With l_i the log-probability of completion i, the loss
of a group is `-sum(c_i * l_i)`; the loss of a batch is the mean over its groups that carry signal.
Groups are never pooled: pooling loses MaxRL's 1/p weighting of hard prompts. Standard library
only, so that the CLI can show the numbers without torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from maxrl_ops.wire.record import Algorithm

# A standard deviation below this is rounding, not signal.
_LEAST_STD = 1e-6

Coefficients = tuple[float, ...]


def is_correct(reward: float, threshold: float) -> bool:
    """Whether a reward counts as correct: strictly above the threshold."""
    return reward > threshold


def grpo_advantages(rewards: Sequence[float]) -> Coefficients:
    """A_i = (r_i - mean) / std with the population std; all 0 where the rewards are equal.

    Source: DeepSeekMath, arXiv 2402.03300, section 4.1; the guide's `relative_rewards`.
    """
    mean, std = fmean(rewards), pstdev(rewards)
    if std < _LEAST_STD:
        return (0.0,) * len(rewards)
    return tuple((reward - mean) / std for reward in rewards)


def _grpo(
    rewards: Sequence[float],
    correct: Sequence[bool],  # noqa: ARG001 - GRPO learns from right and wrong alike
    weight_temperature: float,  # noqa: ARG001
) -> Coefficients | None:
    advantages = grpo_advantages(rewards)
    if not any(advantages):
        return None
    return tuple(advantage / len(rewards) for advantage in advantages)


def maxrl_weights(
    rewards: Sequence[float], correct: Sequence[bool], weight_temperature: float
) -> Coefficients | None:
    """Weights softmax(r / weight_temperature) over the correct samples, 0 elsewhere; None without.

    The guide weights by exp((r - threshold) / T); divided by the total weight the threshold
    cancels, so it selects and does not scale. The maximum is subtracted before exponentiating, so
    that no reward and no temperature overflows.
    Source: the guide, "MaxRL Objective", normalised; on binary rewards arXiv 2602.02710, Eq. 9.
    """
    best = max((r for r, c in zip(rewards, correct, strict=True) if c), default=None)
    if best is None:
        return None
    raw = [
        math.exp((r - best) / weight_temperature) if c else 0.0
        for r, c in zip(rewards, correct, strict=True)
    ]
    total = math.fsum(raw)
    return tuple(weight / total for weight in raw)


def effective_samples(weights: Sequence[float]) -> float:
    """Kish's effective sample size 1 / sum(w^2) of weights that sum to 1, in samples."""
    return 1.0 / math.fsum(weight * weight for weight in weights)


@dataclass(frozen=True, slots=True)
class Objective:
    """One exact formula.

    Attributes:
        name: What `--objective` selects.
        algorithm: The family it belongs to.
        summary: One line for a person.
        source: Paper and equation.
        coefficients: (rewards (N,), correct mask (N,), weight_temperature) -> coefficients (N,) of
            `loss = -sum(c_i * l_i)`, or None where the group carries no signal.
    """

    name: str
    algorithm: Algorithm
    summary: str
    source: str
    coefficients: Callable[[Sequence[float], Sequence[bool], float], Coefficients | None]

    def loss(
        self,
        log_probs: Sequence[float],
        rewards: Sequence[float],
        correct: Sequence[bool],
        weight_temperature: float = 1.0,
    ) -> float | None:
        """The group's loss for given sequence log-probs (N,), or None without signal."""
        coefficients = self.coefficients(rewards, correct, weight_temperature)
        if coefficients is None:
            return None
        return -math.fsum(c * lp for c, lp in zip(coefficients, log_probs, strict=True))


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            "grpo",
            Algorithm.GRPO,
            "advantages relative to the group, right and wrong samples alike",
            "arXiv 2402.03300, section 4.1",
            _grpo,
        ),
        Objective(
            "maxrl",
            Algorithm.MAXRL,
            "likelihood of the correct samples, the better ones weighing more",
            "the guide, normalised; arXiv 2602.02710, Eq. 9",
            maxrl_weights,
        ),
    )
}

DEFAULT_OBJECTIVE: Mapping[Algorithm, str] = {Algorithm.GRPO: "grpo", Algorithm.MAXRL: "maxrl"}
