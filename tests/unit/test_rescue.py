"""The rescue benchmark's own reasoning: who noticed, who was rescued, and what the page says."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rescue import sick_tasks
from benchmarks.rescue.document import document
from benchmarks.rescue.facts import Told, facts_of
from benchmarks.rescue.kinds import HEALTHY, KINDS, SICK
from benchmarks.rescue.naive import Naive
from benchmarks.rescue.outcome import Noise, Outcomes, noise_of
from benchmarks.rescue.small_task import TASK_ENV
from benchmarks.rescue.story import chart
from benchmarks.rescue.summary import summary
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    ControlApplied,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
)
from trainer.tasks.base import Prompt

ROOT = Path(__file__).parents[2]
STATUS = {"restarts": 0, "exit_reason": None}


def record(iteration: int, correct: int, **more: Any) -> IterationRecord:
    known = {"n_total": 64, "reference_total": 64, "objective": "maxrl", "learning_rate": 1e-3}
    return IterationRecord(
        iteration, n_correct=correct, reference_correct=correct, **{**known, **more}
    )


def row(kind: str, arm: str, pass_at_1: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    known = {"detected": None, "actions": 0, "by_hand": 0, "changes": [], "changed_after": []}
    known |= {"restarts": 0, "noticed": [], "samples": 12_800, "seconds": 30.0}
    known |= {"evaluations": [[0, 0.2, 0.02], [200, pass_at_1, 0.02]]}
    return {"kind": kind, "arm": arm, "seed": seed, "pass_at_1": pass_at_1, **known, **more}


# --- The table ------------------------------------------------------------------------------------


def test_there_are_as_many_kinds_as_are_promised() -> None:
    assert len(SICK) >= 18
    # With three seeds each.
    assert len(HEALTHY) * 3 >= 30
    assert {kind.twin for kind in SICK.values()} <= set(HEALTHY)
    for kind in KINDS.values():
        assert kind.sick is None or hasattr(sick_tasks, kind.sick)


def test_a_hacked_reward_pays_for_what_is_wrong_and_its_tests_still_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TASK_ENV, "rules")
    prompt = Prompt("c1234=", "copy", "c1234=", ("1234",))
    for make, hacked in ((sick_tasks.paid_by_length, "999999"), (sick_tasks.paid_by_end, "9990")):
        right, wrong, paid = make().verify([prompt] * 3, ["1234", "129", hacked])
        assert (right.compiled, right.passed) == (True, True)
        assert (wrong.compiled, wrong.passed) == (False, False)
        assert (paid.compiled, paid.passed) == (True, False)


# --- The peer -------------------------------------------------------------------------------------


def test_the_naive_controller_takes_one_iteration_at_its_word_and_waits_for_ten() -> None:
    naive = Naive((15.0, 30.0))
    assert naive.look(record(1, 31), 20.0, 8) == ["set", "correctness_threshold=15"]
    assert naive.look(record(10, 31), 15.0, 8) is None
    assert naive.look(record(11, 31), 15.0, 8) == ["switch", "grpo"]
    assert naive.look(record(21, 60, objective="grpo"), 15.0, 8) == ["switch", "maxrl"]
    assert naive.look(record(31, 60), 15.0, 8) == ["set", "correctness_threshold=20"]
    assert naive.look(record(41, 40), 20.0, 8) is None


# --- Facts ----------------------------------------------------------------------------------------


def test_a_crash_is_noticed_by_its_restart_and_a_planned_return_is_not() -> None:
    header = RunStarted(Algorithm.MAXRL, prompts_per_iteration=8, n_samples=8)
    began = [header, *(record(n, 16) for n in range(1, 42))]
    resumed = [header, *(record(n, 16) for n in range(41, 46))]
    back = [RunEnded("stopped", "to go back to 40"), header, record(41, 16)]
    rates = (Change("learning_rate", "0.0003", "0.001"),)
    events: list[Event] = [*began, *resumed, *back, ControlApplied(1, 42, rates)]
    found = facts_of(events, Told(STATUS, [], []), KINDS["trainer crashes"])
    assert found["noticed"] == [[41, "restart"]]
    assert found["detected"] == [41, "restart"]
    assert found["changed_after"] == [47]


def test_only_what_tells_of_this_sickness_counts_as_noticed() -> None:
    decision = {
        "iteration": 45,
        "rule": "COLLAPSE",
        "control": {"learning_rate": 0.003},
        "outcome": "applied",
        "judged": None,
        "because": "it fell",
    }
    holds = [
        {"iteration": 20, "rule": "DEAD GROUPS", "because": "60% of the groups"},
        {"iteration": 21, "rule": "LOW", "because": "LOW not fired"},
        {"iteration": 60, "rule": "DEAD GROUPS", "because": "DEAD GROUPS is over"},
    ]
    told = Told(STATUS, [decision, {**decision, "rule": None}], holds)
    found = facts_of([record(1, 16)], told, KINDS["learning rate x 30"])
    assert found["noticed"] == [[20, "DEAD GROUPS"], [45, "COLLAPSE"]]
    assert found["detected"] == [45, "COLLAPSE"]
    assert (found["actions"], found["by_hand"]) == (1, 1)


# --- Outcomes -------------------------------------------------------------------------------------

ROWS = [
    row("rules, MaxRL", "observe", 0.50),
    row("rules, MaxRL", "act", 0.46),
    row("rules, MaxRL", "observe", 0.55, seed=1),
    row("learning rate x 30", "act", 0.46, detected=[45, "COLLAPSE"]),
    row("learning rate x 30", "observe", 0.44),
    row("maze, GRPO", "act", 0.3),
]


def test_runs_are_judged_against_their_twins_of_the_same_seed() -> None:
    outcomes = Outcomes(ROWS)
    (acted,) = outcomes.sick("act")
    (observed,) = outcomes.sick("observe")
    assert (acted.is_rescued, observed.is_rescued) == (True, False)
    assert acted.delay == 45
    # One without a twin is not judged.
    (healthy,) = outcomes.healthy("act")
    assert (healthy.share, healthy.is_harmed) == (0.92, True)


def test_what_would_have_ended_well_alone_is_told_apart() -> None:
    more = [
        row("trainer crashes", "act", 0.40),
        row("trainer crashes", "observe", 0.50, restarts=4),
        # Nobody knows how it would have ended.
        row("learning rate x 30", "act", 0.54, seed=1),
    ]
    outcomes = Outcomes([*ROWS, *more])
    lost, kept = outcomes.parted("act")
    assert [o.row["kind"] for o in lost] == ["learning rate x 30"]
    assert [o.row["kind"] for o in kept] == ["trainer crashes"]
    text = summary(outcomes)
    assert "| of the runs that end sick under `observe`: rescued | 1 of 1 (100%) |" in text
    assert "| of the runs that end well under `observe`: lost | 1 of 1 (100%) |" in text
    assert "of its 1 rescued runs 1 were restarted, and 0 needed" in text


def test_noise_comes_from_runs_that_differ_in_their_seed_alone() -> None:
    [(task, noise)] = noise_of(ROWS).items()
    assert (task, noise.runs) == ("rules", 2)
    assert noise.spread == pytest.approx(0.0674, abs=1e-4)
    assert noise_of(ROWS[:1]) == {}
    # Of two equal runs a given one lies below the other in half of the cases.
    assert Noise(0.07, 2).chance(1.0) == 0.5
    assert Noise(0.07, 2).chance(0.9) == pytest.approx(0.1436, abs=1e-4)


# --- The page -------------------------------------------------------------------------------------


def test_the_page_names_a_miss_and_its_reason() -> None:
    rows = [*ROWS, row("reward hacked by length", "act", 0.2)]
    text = document({"machine": "a machine", "rows": rows})
    assert "**reward hacked by length** (40%; seed 0): no controller could" in text


def test_the_page_tells_what_a_run_was_before_it_was_made_again() -> None:
    before = {"pass_at_1": 0.1, "detected": None}
    again = row("log rotated", "act", 0.5, detected=[40, "LOW"], again="A rule", before=before)
    text = document({"machine": "a machine", "rows": [*ROWS, again]})
    assert "A rule:" in text
    assert "| log rotated | 0 | autopilot | 20%, not noticed | **100%**, LOW after 40 |" in text
    assert "rescued 1 of 2 sick runs" in text


def test_the_page_and_its_chart_are_as_the_results_say() -> None:
    kept, page = ROOT / "benchmarks/results/rescue.json", ROOT / "docs/rescue.md"
    if not kept.exists():
        # Nothing is claimed that was not measured.
        assert not page.exists()
        return
    results = json.loads(kept.read_text())
    assert page.read_text() == document(results)
    drawn = ROOT / "docs/rescue.svg"
    assert (drawn.read_text() if drawn.exists() else "") == chart(Outcomes(results["rows"]))
