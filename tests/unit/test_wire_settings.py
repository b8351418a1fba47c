"""Settings: a wrong value is one line naming the variable, the value and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.wire.settings import (
    SETTINGS,
    SettingError,
    from_environment,
    from_table,
    to_environment,
)


def test_values_of_every_kind() -> None:
    env = {
        "USE_MAXRL": "False",
        "MAXRL_N_SAMPLES": "16",
        "MAXRL_LEARNING_RATE": "3e-4",
        "MAXRL_DEVICE": "cuda:1",
        "MAXRL_CHECKPOINT": "/models/x y",
        "MAXRL_OPS_HOME": "/anything",
        "PATH": "/bin",
    }
    assert from_environment(env) == {
        "use_maxrl": False,
        "n_samples": 16,
        "learning_rate": 3e-4,
        "device": "cuda:1",
        "checkpoint": "/models/x y",
    }


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("USE_MAXRL", "maybe", "true or false"),
        ("MAXRL_N_SAMPLES", "1", "a whole number from 2 to 1024"),
        ("MAXRL_N_SAMPLES", "8.5", "a whole number"),
        ("MAXRL_N_SAMPLES", "٨", "a whole number"),
        ("MAXRL_ITERATIONS", "0", "a whole number from 1"),
        ("MAXRL_LEARNING_RATE", "0", "a number above 0 and up to 1"),
        ("MAXRL_LEARNING_RATE", "nan", "a number"),
        ("MAXRL_WEIGHT_TEMPERATURE", "-1", "a number from 1e-09"),
        ("MAXRL_CORRECTNESS_THRESHOLD", "inf", "a number from"),
        ("MAXRL_DEVICE", "gpu", "auto, cpu, mps, cuda or cuda:N"),
        ("MAXRL_TASK", "cobol", "rust or arithmetic"),
        ("MAXRL_CHECKPOINT", "", "a directory or a hub id"),
    ],
)
def test_a_wrong_value(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingError) as caught:
        from_environment({name: value})
    message = str(caught.value)
    assert name in message
    assert repr(value) in message
    assert allowed in message
    assert "\n" not in message


def test_an_unknown_variable_names_its_neighbour() -> None:
    with pytest.raises(SettingError, match="did you mean MAXRL_N_SAMPLES"):
        from_environment({"MAXRL_N_SAMPLE": "8"})


def test_tables_are_checked_alike() -> None:
    assert from_table({"iterations": 5, "use_maxrl": True}, "run.toml") == {
        "iterations": 5,
        "use_maxrl": True,
    }
    with pytest.raises(SettingError, match=r"run\.toml.*did you mean iterations"):
        from_table({"iteration": 5}, "run.toml")
    with pytest.raises(SettingError, match=r"run\.toml: iterations"):
        from_table({"iterations": [5]}, "run.toml")
    with pytest.raises(SettingError, match="whole number"):
        from_table({"iterations": 5.0}, "run.toml")


@given(st.floats(min_value=0, max_value=1, exclude_min=True), st.integers(0, 2**63 - 1))
def test_values_survive_the_environment_exactly(rate: float, seed: int) -> None:
    values = {"learning_rate": rate, "seed": seed, "use_maxrl": True}
    assert from_environment(to_environment(values)) == values


def test_names_are_uniform() -> None:
    for key, setting in SETTINGS.items():
        assert setting.env in {f"MAXRL_{key.upper()}", "USE_MAXRL"}
        assert setting.help.endswith(".")
