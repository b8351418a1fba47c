"""Objectives: golden values with their arithmetic, and what must hold for every group."""

import math
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.wire.record import Algorithm
from maxrl_ops.wire.settings import OBJECTIVE_NAMES
from trainer.objectives import (
    OBJECTIVES,
    effective_samples,
    grpo_advantages,
    is_correct,
    maxrl_weights,
)

DEMO_REWARDS = [28.6, 28.0, -4.5, 5.0, 25.1]
DEMO_LOG_PROBS = [-5 + reward / 50 for reward in DEMO_REWARDS]


def mask(rewards: list[float], threshold: float = 20.0) -> list[bool]:
    return [is_correct(reward, threshold) for reward in rewards]


def loss(name: str, log_probs: list[float], rewards: list[float], t: float = 1.0) -> float:
    value = OBJECTIVES[name].loss(log_probs, rewards, mask(rewards), t)
    assert value is not None
    return value


def test_grpo_on_the_guides_samples() -> None:
    # mean 16.44, population std 13.6077: (28.6 - 16.44) / 13.6077 = 0.8936
    expected = [0.8936, 0.8495, -1.5388, -0.8407, 0.6364]
    assert grpo_advantages(DEMO_REWARDS) == pytest.approx(expected, abs=5e-5)
    assert loss("grpo", DEMO_LOG_PROBS, DEMO_REWARDS) == pytest.approx(-0.272155, abs=1e-6)


def test_masked_grpo_leaves_out_groups_without_a_correct_sample() -> None:
    # 8 for an answer that is wrong, 0 for none: (8 - 2) / 3.4641 for grpo, nothing when masked.
    wrong = [8.0, 0.0, 0.0, 0.0]
    assert loss("grpo", [-4.0, 0.0, 0.0, 0.0], wrong) == pytest.approx(3**0.5)
    assert OBJECTIVES["grpo_masked"].coefficients(wrong, mask(wrong), 1.0) is None
    assert loss("grpo_masked", DEMO_LOG_PROBS, DEMO_REWARDS) == pytest.approx(-0.272155, abs=1e-6)


def test_grpo_on_one_success_in_four() -> None:
    # mean .25, std sqrt(3)/4: .75 / .4330 = sqrt(3)
    assert grpo_advantages([1, 0, 0, 0]) == pytest.approx([3**0.5] + [-(3**-0.5)] * 3)


def test_maxrl_on_the_guides_samples() -> None:
    weights = maxrl_weights(DEMO_REWARDS, mask(DEMO_REWARDS), 1.0)
    assert weights is not None
    assert weights == pytest.approx([0.633309, 0.347567, 0, 0, 0.019124], abs=5e-7)
    assert effective_samples(weights) == pytest.approx(1.9148, abs=5e-5)
    assert effective_samples([1e-200 * w for w in weights]) == pytest.approx(1.9148, abs=5e-5)
    assert effective_samples([-1.0, 0.0]) == 0


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 4.4308), (1, 4.433510), (2, 4.4390)])
def test_maxrl_loss_at_three_temperatures(temperature: float, expected: float) -> None:
    value = loss("maxrl", DEMO_LOG_PROBS, DEMO_REWARDS, temperature)
    assert value == pytest.approx(expected, abs=5e-5)


def test_maxrl_on_small_groups() -> None:
    assert loss("maxrl", [-2, -3, -2.5], [25, 30, 22]) == pytest.approx(2.9931428, abs=1e-7)
    value = loss("maxrl", [-2, -3, -2.5, -4], [25, 10, 22, -5])
    assert value == pytest.approx(2.0237129, abs=1e-7)


@pytest.mark.parametrize(("threshold", "count"), [(15, 3), (20, 3), (25, 3), (30, 0)])
def test_thresholds_select(threshold: float, count: int) -> None:
    assert sum(mask(DEMO_REWARDS, threshold)) == count


def test_correct_is_strictly_above() -> None:
    assert not is_correct(20.0, 20.0)


@pytest.mark.parametrize("rewards", [[8.0] * 4, [0.0, 8.0]])
def test_no_correct_sample_is_no_signal_for_maxrl(rewards: list[float]) -> None:
    assert OBJECTIVES["maxrl"].coefficients(rewards, mask(rewards), 1.0) is None


def test_equal_rewards_are_no_signal_for_grpo() -> None:
    assert OBJECTIVES["grpo"].coefficients([23.0] * 4, [True] * 4, 1.0) is None


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "tailrl"])
def test_rewards_of_any_scale_are_a_preference(name: str) -> None:
    objective = OBJECTIVES[name]
    small = objective.coefficients([3e-9, 0.0, 1e-9, 0.0], [False] * 4, 1.0)
    assert small is not None
    # Mean 1e-9; grpo divides by 1e-6 where the deviation is less.
    large = [3e-3, 0.0, 1e-3, 0.0] if name == "grpo" else [3.0, 0.0, 1.0, 0.0]
    same = OBJECTIVES["dr_grpo" if name == "grpo" else name].coefficients(large, [False] * 4, 1.0)
    assert same is not None
    scale = 1.0 if name == "grpo" else 1e-9
    assert small == pytest.approx([scale * c for c in same])


@given(value=st.floats(1e-6, 1e6), ulps=st.lists(st.integers(-4, 4)))
def test_rounding_is_no_preference(value: float, ulps: list[int]) -> None:
    rewards = [value, value + 0.0, *(value + n * math.ulp(value) for n in ulps)]
    for name in ("grpo", "dr_grpo", "rloo", "tailrl"):
        assert OBJECTIVES[name].coefficients(rewards, [True] * len(rewards), 1.0) is None


def test_nothing_overflows() -> None:
    rewards = [1e6, 1e6 - 1, 25.0]
    value = OBJECTIVES["maxrl"].loss([-1.0, -2.0, -3.0], rewards, [True] * 3, 1e-9)
    assert value == 1.0


@pytest.mark.parametrize(
    ("name", "rewards", "advantages"),
    [
        # mean .25: 1 - .25, 0 - .25
        ("dr_grpo", [1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
        # the others of the first have mean 0, those of the rest 1/3
        ("rloo", [1, 0, 0, 0], [1, -1 / 3, -1 / 3, -1 / 3]),
        ("maxrl_mean", [1, 0, 0, 0], [3, -1, -1, -1]),
        ("maxrl_mean", [1, 1, 1, 0], [1 / 3, 1 / 3, 1 / 3, -1]),
        # omega: .5 / 2 for the two above 0, and .5 more for the one above .5; mean .25
        ("tailrl", [1, 0.5, 0, 0], [2, 0, -1, -1]),
    ],
)
def test_advantages_of_small_groups(
    name: str, rewards: list[float], advantages: list[float]
) -> None:
    coefficients = OBJECTIVES[name].coefficients(rewards, mask(rewards, 0.75), 1.0)
    assert coefficients is not None
    assert [c * len(rewards) for c in coefficients] == pytest.approx(advantages)


def test_the_setting_knows_every_objective() -> None:
    assert set(OBJECTIVE_NAMES) == set(OBJECTIVES)


def test_maxrl_zscore_on_the_guides_samples() -> None:
    assert loss("maxrl_zscore", DEMO_LOG_PROBS, DEMO_REWARDS) == pytest.approx(6.425029, abs=1e-6)
    value = loss("maxrl_zscore", [-2, -3, -2.5, -4], [25, 10, 22, -5])
    assert value == pytest.approx(3.178131, abs=1e-6)


# A relative baseline knows no mean of the others for one sample alone.
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_groups_that_tell_nothing(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.coefficients([0.0] * 4, [False] * 4, 1.0) is None
    alone = objective.coefficients([25.0], [True], 1.0)
    assert alone is None or objective.algorithm is Algorithm.MAXRL


def binary_order(name: str, count: int, p: float) -> float:
    """Expected coefficient of grad p on 0-1 rewards, by enumeration of every group.

    A correct sample's score is grad p / p, a wrong one's -grad p / (1 - p).
    """
    expected = 0.0
    for outcome in product([0.0, 1.0], repeat=count):
        chance = math.prod(p if r else 1 - p for r in outcome)
        coefficients = OBJECTIVES[name].coefficients(outcome, [r > 0.5 for r in outcome], 1.0)
        if coefficients is not None:
            scores = (1 / p if r else -1 / (1 - p) for r in outcome)
            expected += chance * sum(c * s for c, s in zip(coefficients, scores, strict=True))
    return expected


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("maxrl", 2, 1.744688),
        ("maxrl_mean", 2, 1.0),
        ("maxrl", 4, 2.712224),
        ("maxrl_mean", 4, 2.299249),
        ("grpo", 4, 1.643812),
        ("rloo", 4, 1.0),
    ],
)
def test_the_order_of_an_estimator(name: str, count: int, expected: float) -> None:
    assert binary_order(name, count, 0.255312) == pytest.approx(expected, abs=2e-6)


def test_tailrl_is_maxrl_less_its_mean_on_binary_rewards() -> None:
    rewards, correct = [1.0, 0.0, 1.0, 0.0], [True, False, True, False]
    weights = OBJECTIVES["maxrl"].coefficients(rewards, correct, 1.0)
    assert weights is not None
    centred = [weight - 0.25 for weight in weights]
    assert OBJECTIVES["tailrl"].coefficients(rewards, correct, 1.0) == pytest.approx(centred)


rewards_lists = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=32)


@given(rewards_lists, st.floats(1e-9, 1e6))
def test_maxrl_weights_sum_to_one_and_leave_the_wrong_out(rewards: list[float], t: float) -> None:
    correct = mask(rewards)
    weights = maxrl_weights(rewards, correct, t)
    if not any(correct):
        assert weights is None
        return
    assert weights is not None
    assert math.fsum(weights) == pytest.approx(1.0)
    assert all(w == 0 for w, c in zip(weights, correct, strict=True) if not c)
    assert 1 - 1e-9 <= effective_samples(weights) <= sum(correct) + 1e-9


@given(rewards_lists, st.floats(-1e3, 1e3))
def test_a_shift_of_all_rewards_changes_nothing(rewards: list[float], shift: float) -> None:
    shifted = [reward + shift for reward in rewards]
    correct = [True] * len(rewards)
    for name in sorted(OBJECTIVES):
        before = OBJECTIVES[name].coefficients(rewards, correct, 1.0)
        after = OBJECTIVES[name].coefficients(shifted, correct, 1.0)
        if max(rewards) - min(rewards) > 1e-3 and name != "maxrl_mean":
            assert before is not None
            assert after == pytest.approx(before, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@given(rewards_lists, st.floats(1e-9, 1e6))
def test_nothing_overflows_and_what_is_relative_sums_to_nought(
    name: str, rewards: list[float], t: float
) -> None:
    coefficients = OBJECTIVES[name].coefficients(rewards, mask(rewards), t)
    if coefficients is None:
        return
    assert len(coefficients) == len(rewards)
    assert all(map(math.isfinite, coefficients))
    if name in {"grpo", "grpo_masked", "dr_grpo", "rloo", "maxrl_mean", "tailrl"}:
        largest = max(map(abs, coefficients))
        assert math.fsum(coefficients) == pytest.approx(0, abs=1e-6 * (1 + largest))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@given(rewards=rewards_lists, seed=st.integers(0, 99))
def test_the_order_of_samples_does_not_matter(name: str, rewards: list[float], seed: int) -> None:
    order = Random(seed).sample(range(len(rewards)), len(rewards))
    shuffled = [rewards[i] for i in order]
    before = OBJECTIVES[name].coefficients(rewards, mask(rewards), 1.0)
    after = OBJECTIVES[name].coefficients(shuffled, mask(shuffled), 1.0)
    if before is None or after is None:
        # Rounding decides whether all but equal rewards are equal.
        assert max(rewards) - min(rewards) < 1e-3 or before is after
    else:
        assert after == pytest.approx([before[i] for i in order], abs=1e-6, rel=1e-6)
