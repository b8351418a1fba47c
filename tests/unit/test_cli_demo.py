"""The guide's five samples; the figures are those of facts/objectives.md."""

import json
from typing import Any

import pytest

from maxrl_ops.cli.app import run


def demo_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["demo", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_golden(capsys: pytest.CaptureFixture[str]) -> None:
    told = demo_json(capsys)

    advantages = [sample["grpo_advantage"] for sample in told["samples"]]
    assert advantages == pytest.approx([0.8936, 0.8495, -1.5388, -0.8407, 0.6364], abs=5e-5)
    weights = [sample["maxrl_weight"] for sample in told["samples"]]
    assert weights == pytest.approx([0.633309, 0.347567, 0, 0, 0.019124], abs=5e-7)
    assert told["grpo_loss"] == pytest.approx(-0.272155, abs=5e-7)
    assert told["maxrl_loss"] == pytest.approx(4.433510, abs=5e-7)
    assert told["effective_samples"] == pytest.approx(1.9148, abs=5e-5)
    assert (told["n_correct"], told["n_total"]) == (3, 5)
    assert told["correct_reward_mean"] == pytest.approx(27.2333, abs=5e-5)


@pytest.mark.parametrize(("temperature", "loss"), [("0.5", 4.4308), ("2", 4.4390)])
def test_the_weight_temperature_hardly_moves_the_loss(
    temperature: str, loss: float, capsys: pytest.CaptureFixture[str]
) -> None:
    told = demo_json(capsys, "--weight-temperature", temperature)
    assert told["maxrl_loss"] == pytest.approx(loss, abs=5e-5)


@pytest.mark.parametrize(("threshold", "correct"), [("15", 3), ("20", 3), ("25", 3), ("30", 0)])
def test_the_threshold_selects(
    threshold: str, correct: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_json(capsys, "--correctness-threshold", threshold)["n_correct"] == correct


def test_without_a_correct_sample_maxrl_has_nothing_to_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = demo_json(capsys, "--correctness-threshold", "30")
    assert (told["maxrl_loss"], told["effective_samples"]) == (None, None)

    assert run(["demo", "--correctness-threshold", "30"]) == 0
    printed = capsys.readouterr().out
    assert "no signal" in printed
    assert "No sample is above 30" in printed


def test_the_table_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["demo"]) == 0
    printed = capsys.readouterr().out

    assert "Iterator code     28.60     yes            +0.8936       0.633309" in printed
    assert "Correctness: 3/5 (60.0%)" in printed
    assert "\x1b" not in printed
