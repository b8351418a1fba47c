"""Objectives: one group's rewards and correct mask -> the coefficient of each sequence log-prob.

A group is the N completions of one prompt. With l_i the log-probability of completion i, the loss
of a group is `-sum(c_i * l_i)`; the loss of a batch is the mean over its groups that carry signal.
Groups are never pooled: pooling loses MaxRL's 1/p weighting of hard prompts. Standard library
only, so that the CLI can show the numbers without torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev

from maxrl_ops.wire.record import Algorithm

# Never divided by less, as in the guide's code.
_LEAST_STD = 1e-6
# Rewards that differ by less than this share of them are equal but for rounding.
_ROUNDING = 1e-13
# exp(30) is 1e13 times the weight of an average sample: beyond, only the floats' end lies.
_LARGEST_EXPONENT = 30.0

Coefficients = tuple[float, ...]


def is_correct(reward: float, threshold: float) -> bool:
    """Whether a reward counts as correct: strictly above the threshold."""
    return reward > threshold


# --- GRPO's family: right and wrong samples, relative to the group -------------------------------


def grpo_advantages(rewards: Sequence[float]) -> Coefficients:
    """A_i = (r_i - mean) / max(std, 1e-6), population std; all 0 where the rewards are equal.

    Source: DeepSeekMath, arXiv 2402.03300, section 4.1; the guide's `relative_rewards`.
    """
    if _are_equal(rewards):
        return (0.0,) * len(rewards)
    mean, std = fmean(rewards), max(pstdev(rewards), _LEAST_STD)
    return tuple((reward - mean) / std for reward in rewards)


def _grpo(rewards: Sequence[float], _: Sequence[bool], __: float) -> Coefficients | None:
    return _averaged(grpo_advantages(rewards))


def _grpo_masked(
    rewards: Sequence[float], correct: Sequence[bool], temperature: float
) -> Coefficients | None:
    """As `grpo`, but nothing where no sample is correct.

    There the rewards tell only how wrong an answer is, and the division by their spread makes as
    much of that as of right against wrong.
    """
    return _grpo(rewards, correct, temperature) if any(correct) else None


def _dr_grpo(rewards: Sequence[float], _: Sequence[bool], __: float) -> Coefficients | None:
    """A_i = r_i - mean: without the division by std, which overweights very easy and hard prompts.

    Source: Understanding R1-Zero-Like Training, arXiv 2503.20783, section 3.
    """
    if _are_equal(rewards):
        return None
    mean = fmean(rewards)
    return _averaged(tuple(reward - mean for reward in rewards))


def _rloo(rewards: Sequence[float], _: Sequence[bool], __: float) -> Coefficients | None:
    """A_i = r_i - mean of the others; a group of one has no others, and no signal.

    Source: Back to Basics, arXiv 2402.14740, section 2.2.
    """
    count, total = len(rewards), math.fsum(rewards)
    if count < 2 or _are_equal(rewards):
        return None
    return _averaged(tuple(r - (total - r) / (count - 1) for r in rewards))


def _tailrl(rewards: Sequence[float], _: Sequence[bool], __: float) -> Coefficients | None:
    """A_i = N (omega_i - mean omega), for graded rewards.

    omega climbs the distinct rewards from the lowest: each gap is shared among the samples above
    it, so that what few samples reach counts most; on 0 and 1 it is the MaxRL weight.
    Source: arXiv 2609.02987.
    """
    if _are_equal(rewards):
        return None
    levels = sorted(set(rewards))
    omega_at, omega = {levels[0]: 0.0}, 0.0
    for below, level in pairwise(levels):
        omega += (level - below) / sum(reward >= level for reward in rewards)
        omega_at[level] = omega
    mean = fmean(omega_at[reward] for reward in rewards)
    return _averaged(tuple(len(rewards) * (omega_at[reward] - mean) for reward in rewards))


def _are_equal(rewards: Sequence[float]) -> bool:
    """Whether no sample is preferred, on whatever scale the rewards are."""
    low, high = min(rewards), max(rewards)
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def _averaged(advantages: Coefficients) -> Coefficients | None:
    """Coefficients of `loss = -mean(A_i l_i)`; None where all are 0."""
    coefficients = tuple(advantage / len(advantages) for advantage in advantages)
    return coefficients if any(coefficients) else None


# --- MaxRL's family: the likelihood of the correct samples ----------------------------------------


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


def _maxrl_mean(_: Sequence[float], correct: Sequence[bool], __: float) -> Coefficients | None:
    """A_i = (1[correct] - mean) / mean over the group, all 0 where all or none are correct.

    Its order is N - 1: two samples are plain REINFORCE with a baseline.
    Source: arXiv 2602.02710, Algorithm 1.
    """
    mean = sum(correct) / len(correct)
    if mean in (0.0, 1.0):
        return None
    return _averaged(tuple((c - mean) / mean for c in correct))


def _maxrl_zscore(
    rewards: Sequence[float], correct: Sequence[bool], weight_temperature: float
) -> Coefficients | None:
    """w_i = exp(z_i / T) / K over the K correct samples, z their rewards' standard score.

    The weights do not sum to 1: a spread of rewards makes the step larger.
    Source: the guide, "normalized variant".
    """
    chosen = [r for r, c in zip(rewards, correct, strict=True) if c]
    if not chosen:
        return None
    mean, std = fmean(chosen), max(pstdev(chosen), _LEAST_STD)
    return tuple(
        math.exp(min((r - mean) / std / weight_temperature, _LARGEST_EXPONENT)) / len(chosen)
        if c
        else 0.0
        for r, c in zip(rewards, correct, strict=True)
    )


def effective_samples(coefficients: Sequence[float]) -> float:
    """Kish's effective sample size (sum w)^2 / sum(w^2) of what is made likelier, in samples."""
    largest = max(coefficients)
    if largest <= 0:
        return 0.0
    # Relative to the largest: the square of a tiny weight would be 0.
    weights = [c / largest for c in coefficients if c > 0]
    return math.fsum(weights) ** 2 / math.fsum(weight * weight for weight in weights)


# --- The table ------------------------------------------------------------------------------------


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
            "grpo_masked",
            Algorithm.GRPO,
            "as grpo, but groups without a correct sample are left out",
            "arXiv 2402.03300, section 4.1, masked",
            _grpo_masked,
        ),
        Objective(
            "dr_grpo",
            Algorithm.GRPO,
            "rewards less the group's mean, not scaled by their spread",
            "arXiv 2503.20783, section 3",
            _dr_grpo,
        ),
        Objective(
            "rloo",
            Algorithm.GRPO,
            "rewards less the mean of the other samples",
            "arXiv 2402.14740, section 2.2",
            _rloo,
        ),
        Objective(
            "maxrl",
            Algorithm.MAXRL,
            "likelihood of the correct samples, the better ones weighing more",
            "the guide, normalised; arXiv 2602.02710, Eq. 9",
            maxrl_weights,
        ),
        Objective(
            "maxrl_mean",
            Algorithm.MAXRL,
            "correct or not, relative to the share of correct samples",
            "arXiv 2602.02710, Algorithm 1",
            _maxrl_mean,
        ),
        Objective(
            "maxrl_zscore",
            Algorithm.MAXRL,
            "likelihood of the correct samples, weighed by their standard score",
            'the guide, "normalized variant"',
            _maxrl_zscore,
        ),
        Objective(
            "tailrl",
            Algorithm.MAXRL,
            "graded rewards, what few samples reach counting most",
            "arXiv 2609.02987",
            _tailrl,
        ),
    )
}

DEFAULT_OBJECTIVE: Mapping[Algorithm, str] = {Algorithm.GRPO: "grpo", Algorithm.MAXRL: "maxrl"}
