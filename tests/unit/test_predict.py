"""The predictor, on the guide's group."""

from dataclasses import replace

import pytest
from scripted import record

from maxrl_ops.core.in_force import InForce
from maxrl_ops.core.predict import predict
from trainer.objectives import OBJECTIVES, effective_samples

REWARDS = (28.6, 28.0, -4.5, 5.0, 25.1)
CORRECT = tuple(reward > 20 for reward in REWARDS)


def effective(weight_temperature: float) -> float:
    weights = OBJECTIVES["maxrl"].coefficients(REWARDS, CORRECT, weight_temperature)
    assert weights is not None
    return effective_samples(weights)


def test_the_predictor_tells_the_golden_groups_effective_samples() -> None:
    told = replace(
        record(1, 3, 5, threshold=20.0),
        rewards_above={15.0: 3, 20.0: 3, 25.0: 3, 30.0: 0},
        effective_samples=effective(1.0),
        effective_half=effective(0.5),
        effective_double=effective(2.0),
    )
    in_force = InForce("maxrl", 20.0, 1.0, 5, 1e-4)
    assert effective(1.0) == pytest.approx(1.9148, abs=1e-4)
    for wanted in (0.5, 2.0):
        found = predict([told], in_force, {"weight_temperature": wanted})
        assert found.effective == (effective(1.0), effective(wanted))
        assert not found.is_nothing
    assert pytest.approx(effective(2.0), abs=0.01) == 1 / (0.522**2 + 0.387**2 + 0.091**2)
    assert predict([told], in_force, {"correctness_threshold": 30.0}).kept == (3, 0)
    # 15 and 25 leave the same three samples: a rung that does that is no remedy.
    assert predict([told], in_force, {"correctness_threshold": 25.0}).is_nothing
    assert predict([told], in_force, {"n_samples": 10}).kept == (3, 6)
    assert predict([told], in_force, {"objective": "grpo"}) == predict([], in_force, {})
