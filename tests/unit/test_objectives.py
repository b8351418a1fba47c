"""Objectives: golden values with their arithmetic, and what must hold for every group."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_grpo_on_one_success_in_four() -> None:
    # mean .25, std sqrt(3)/4: .75 / .4330 = sqrt(3)
    assert grpo_advantages([1, 0, 0, 0]) == pytest.approx([3**0.5] + [-(3**-0.5)] * 3)


def test_maxrl_on_the_guides_samples() -> None:
    weights = maxrl_weights(DEMO_REWARDS, mask(DEMO_REWARDS), 1.0)
    assert weights is not None
    assert weights == pytest.approx([0.633309, 0.347567, 0, 0, 0.019124], abs=5e-7)
    assert effective_samples(weights) == pytest.approx(1.9148, abs=5e-5)


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


def test_nothing_overflows() -> None:
    rewards = [1e6, 1e6 - 1, 25.0]
    value = OBJECTIVES["maxrl"].loss([-1.0, -2.0, -3.0], rewards, [True] * 3, 1e-9)
    assert value == 1.0


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
    for name in ("grpo", "maxrl"):
        before = OBJECTIVES[name].coefficients(rewards, correct, 1.0)
        after = OBJECTIVES[name].coefficients(shifted, correct, 1.0)
        if max(rewards) - min(rewards) > 1e-3:
            assert before is not None
            assert after == pytest.approx(before, abs=1e-6)
