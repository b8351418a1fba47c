"""Rules that only tell: when they do, and what of."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from test_autopilot import decisions, holds
from test_rules import PLAIN, drive, evaluated, high, steady

from maxrl_ops.core.decision import Hold, Input
from maxrl_ops.wire.record import IterationRecord


def alerted(events: Iterable[Input], rule: str) -> str | None:
    _, said = drive(events)
    told = [o.because for o in said if isinstance(o, Hold) and (o.rule, o.key) == (rule, "alert")]
    return told[0] if told else None


def test_dead_groups_are_told_apart() -> None:
    def groups(wrong: int, correct: int, mixed: int) -> str | None:
        counts = {"groups_all_wrong": wrong, "groups_all_correct": correct, "groups_mixed": mixed}
        return alerted([PLAIN, *steady(1, 40, **counts)], "DEAD GROUPS")

    assert "no correct sample" in (groups(5, 1, 2) or "")
    assert "no wrong sample" in (groups(1, 5, 2) or "")
    assert groups(3, 2, 3) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"loss": None}, "no gradient"),
        ({"grad_norm": 0.0}, "no gradient"),
        ({"learning_rate": 0.0}, "no gradient"),
        ({"loss": 4.0, "correct_reward_mean": 27.0}, "have not moved"),
    ],
)
def test_a_run_that_learns_nothing(changed: dict[str, Any], words: str) -> None:
    rows = [replace(r, **changed) for r in steady(1, 40)]
    assert words in (alerted([PLAIN, *rows], "NO LEARNING") or "")
    assert alerted([PLAIN, *steady(1, 40)], "NO LEARNING") is None


def test_no_learning_is_over_once_something_is_learned() -> None:
    idle = [replace(r, loss=None) for r in steady(1, 40)]
    state, _ = drive([PLAIN, *idle])
    assert "NO LEARNING" in state.firing
    state, said = drive(steady(41, 60), state)
    assert "NO LEARNING" not in state.firing
    assert ("NO LEARNING", "not fired") in holds(said)


def bought(**last: float) -> str | None:
    def rows(first: int, count: int, figures: dict[str, float]) -> list[IterationRecord]:
        rng = random.Random(first)
        return [
            replace(r, **{k: v + rng.gauss(0, 0.02) for k, v in figures.items()})  # type: ignore[arg-type]
            for r in steady(first, first + count - 1)
        ]

    first = {
        "compile_ratio": 0.5,
        "tests_pass_ratio": 0.3,
        "reward_mean": 10.0,
        "length_mean": 30.0,
    }
    return alerted([PLAIN, *rows(1, 60, first), *rows(61, 60, {**first, **last})], "REWARD HACKING")


def test_reward_hacking() -> None:
    assert bought() is None
    assert bought(compile_ratio=0.8, tests_pass_ratio=0.6) is None
    assert "compile" in (bought(compile_ratio=0.8) or "")
    # Tests get better, but what counts as correct gets better faster.
    faster = bought(compile_ratio=0.6, tests_pass_ratio=0.5, reference_correct=60)
    assert "count as correct and fail their tests" in (faster or "")
    assert bought(compile_ratio=0.6, tests_pass_ratio=0.5, reference_correct=51) is None
    assert "the reward is higher" in (bought(reward_mean=15.0) or "")
    assert "tokens long" in (bought(length_mean=12.0) or "")
    assert "trivial" in (bought(trivial_ratio=0.4) or "")


def test_fewer_different_answers_are_no_hacking_where_held_out_ones_get_better() -> None:
    def rows(first: int, unique: int) -> list[Input]:
        return [replace(r, unique=unique, unique_of=64) for r in steady(first, first + 59)]

    for last, fires in ((0.31, True), (0.6, False)):
        events = [PLAIN, evaluated(0, 0.3), *rows(1, 50), evaluated(60, last), *rows(61, 20)]
        state, _ = drive(events)
        assert ("REWARD HACKING" in state.firing) is fires


def test_reward_hacking_holds_high_and_thresholds() -> None:
    started = replace(PLAIN, target_iterations=None)
    silent = {"target_iterations": None, "reference_correct": 50, "n_correct": 50}
    hacked = [replace(r, **silent) for r in high(1, 60, trivial_ratio=0.5)]  # type: ignore[arg-type]
    state, said = drive([started, *hacked, *high(61, 120, trivial_ratio=0.5)])
    assert "REWARD HACKING" in state.firing
    assert not decisions(said)
    assert ("HIGH", "vetoed") in holds(said)
