"""Each rule on runs whose truth is known: when it fires, what it does, what holds it."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from scripted import header, record
from test_autopilot import decisions, fold, holds

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Decision, Hold, Input, Judged, Output, Published
from maxrl_ops.core.policy import POLICIES, Mode, Policy
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    Evaluated,
    IterationRecord,
    RunStarted,
    UpdateSkipped,
)

LONG = 2000
PLAIN = replace(
    header(iterations=LONG), correctness_threshold=20.0, n_samples=8, learning_rate=1e-4
)


def steady(first: int, last: int, correct: int = 40, **more: Any) -> list[IterationRecord]:
    """Iterations with so many of 64 correct, a loss that moves, at threshold 20."""
    made = []
    for n in range(first, last + 1):
        plain = record(n, correct, threshold=20.0, iterations=LONG)
        made.append(replace(plain, loss=4.0 + n % 7 / 10, **more))
    return made


def obey(state: autopilot.State, decision: Decision, at: int) -> list[Input]:
    """A trainer that does as it is told at iteration `at`."""
    known, revision = state.in_force.known(), decision.base_revision + 1
    changes = tuple(
        Change(key, str(new), str(known.get(key, "run"))) for key, new in decision.changes.items()
    )
    return [Published(decision.intent, revision, at - 1), ControlApplied(revision, at, changes)]


def drive(
    events: Iterable[Input], state: autopilot.State | None = None, policy: Policy | None = None
) -> tuple[autopilot.State, list[Output]]:
    """Fold events; what is decided is obeyed at the next iteration."""
    policy = policy or Policy()
    state = state or autopilot.State()
    said: list[Output] = []
    wish: Decision | None = None
    for event in events:
        if wish is not None and isinstance(event, IterationRecord):
            for answer in obey(state, wish, event.iteration):
                state, outputs = autopilot.reduce(state, answer, policy)
                said += outputs
            wish = None
        state, outputs = autopilot.reduce(state, event, policy)
        said += outputs
        wish = next((d for d in decisions(outputs) if d.mode is Mode.ACT), wish)
    return state, said


def taken(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    return [(d.rule, d.rung) for d in decisions(outputs)]


def refusal(outputs: Iterable[Output], rule: str) -> str:
    held = [o for o in outputs if isinstance(o, Hold) and (o.rule, o.key) == (rule, "no remedy")]
    return held[0].because


# --- LOW ------------------------------------------------------------------------------------------


def test_low_goes_down_its_ladder_and_returns_from_the_warm_up() -> None:
    state, said = drive([PLAIN, *steady(1, 1000, 26)])
    # Every iteration has correct samples: the threshold is left alone, and the run has its time.
    assert taken(said) == [("LOW", "warm_up"), ("ADAPT", "return"), ("LOW", "n_samples")]
    first, back, more = decisions(said)
    assert first.iteration == Policy().low.patience
    assert first.changes == {"objective": "grpo"}
    assert "threshold: 0% of the iterations" in str(first.evidence["skipped"])
    # The warm-up began an iteration after it was decided on, and ADAPT wants its dwell.
    assert back.iteration == first.iteration + 1 + Policy().low.warm_up + Policy().adapt.dwell - 1
    assert back.changes == {"objective": "maxrl"}
    assert more.changes == {"n_samples": 16}
    assert more.evidence["kept_predicted"] == 2 * float(more.evidence["kept_now"])
    # A planned return is none of the three changes, and no oscillation.
    assert (state.decided, state.frozen) == (2, set())
    last = [o for o in said if isinstance(o, Hold) and o.key == "no remedy"][-1]
    assert "check the base model" in last.because


def test_a_warm_up_ends_early_where_correctness_is_high_and_not_before_100() -> None:
    state, said = drive([PLAIN, *steady(1, 210, 26)])
    (decision,) = decisions(said)
    state, said = drive(steady(211, 400, 45), state)
    (back,) = decisions(said)
    assert back.rung == "return"
    since = decision.iteration + 1
    assert back.iteration - since == Policy().low.warm_up_least + Policy().adapt.dwell - 1


def test_a_warm_up_needs_room_and_is_not_the_papers() -> None:
    short = [replace(r, target_iterations=400) for r in steady(1, 330, 26)]
    _, said = drive([replace(PLAIN, target_iterations=400), *short])
    assert taken(said) == [("LOW", "n_samples")]
    assert "280 are needed" in str(decisions(said)[0].evidence["skipped"])
    _, said = drive([PLAIN, *steady(1, 300, 26)], policy=POLICIES["paper"])
    assert taken(said)[0] == ("LOW", "n_samples")


def test_low_clears_where_it_is_clearly_over() -> None:
    state, _ = drive([PLAIN, *steady(1, 40, 26)])
    assert "LOW" in state.firing
    state, _ = drive(steady(41, 75, 36), state)
    # Between the two levels it goes on firing, but would not act.
    assert "LOW" in state.firing
    assert state.said["LOW"] == "eased"
    state, _ = drive(steady(76, 120, 44), state)
    assert "LOW" not in state.firing


# --- HIGH -----------------------------------------------------------------------------------------


def high(first: int, last: int, **more: Any) -> list[IterationRecord]:
    levels = {15.0: 64, 20.0: 63, 25.0: 40, 30.0: 0}
    weights = {"effective_samples": 5.0, "effective_of": 7.8}
    weights |= {"effective_half": 4.2, "effective_double": 6.0}
    return steady(first, last, 63, **{"rewards_above": levels, **weights, **more})


def test_high_goes_up_its_ladder() -> None:
    _, said = drive([PLAIN, *high(1, 600)])
    assert taken(said) == [
        ("HIGH", "threshold"),
        ("HIGH", "weight_temperature"),
        ("HIGH", "n_samples"),
    ]
    assert [d.changes for d in decisions(said)] == [
        {"correctness_threshold": 25.0},
        {"weight_temperature": 0.5},
        {"n_samples": 4},
    ]
    first, second, _ = decisions(said)
    assert first.iteration == 24
    assert (first.evidence["kept_now"], first.evidence["kept_predicted"]) == (63, 40)
    assert second.evidence["effective_predicted"] == 4.2


def test_highs_rungs_leave_enough_to_learn_from() -> None:
    thin = {15.0: 64, 20.0: 63, 25.0: 15, 30.0: 0}
    _, said = drive([PLAIN, *high(1, 60, rewards_above=thin, effective_half=3.9)])
    (decision,) = decisions(said)
    assert decision.rung == "n_samples"
    skipped = str(decision.evidence["skipped"])
    assert "1.9 samples of a group would stay above 25" in skipped
    assert "3.9 effective samples of a group would stay" in skipped


def test_unstable_vetoes_high() -> None:
    started = replace(PLAIN, n_samples=32, weight_temperature=2.0, objective="maxrl_zscore")
    wild = [replace(r, grad_norm=50.0 if r.iteration > 20 else 1.0) for r in high(1, 40)]
    _, said = drive([started, *wild])
    assert not decisions(said)
    assert "it would change nothing" not in refusal(said, "UNSTABLE")
    assert ("HIGH", "vetoed") in holds(said)


# --- UNSTABLE -------------------------------------------------------------------------------------


def norms(first: int, last: int, factor: float = 1.0) -> list[IterationRecord]:
    rng = random.Random(first)
    made = steady(first, last, 40, effective_samples=2.0, effective_of=5.0, effective_double=3.0)
    return [replace(r, grad_norm=factor * rng.lognormvariate(0, 0.2)) for r in made]


def test_unstable_goes_down_its_ladder() -> None:
    events: list[Input] = [PLAIN]
    for place in range(3):
        events += [
            *norms(200 * place + 1, 200 * place + 150),
            *norms(200 * place + 151, 200 * place + 200, 30),
        ]
    _, said = drive(events)
    assert taken(said) == [
        ("UNSTABLE", "n_samples"),
        ("UNSTABLE", "weight_temperature"),
        ("UNSTABLE", "objective"),
    ]
    first, second, third = decisions(said)
    assert first.iteration == 154
    assert first.changes == {"n_samples": 16}
    assert "4 of 6 gradient norms spike" in first.because
    assert (second.changes, third.changes) == (
        {"weight_temperature": 2.0},
        {"objective": "maxrl_zscore"},
    )
    assert second.evidence["effective_predicted"] == 3.0


def test_a_drift_is_found_that_no_spike_tells_and_a_falling_norm_is_none() -> None:
    rising = [replace(r, grad_norm=2.0 ** ((n - 60) / 8)) for n, r in enumerate(norms(61, 120), 61)]
    state, said = drive([PLAIN, *norms(1, 60), *rising])
    assert taken(said) == [("UNSTABLE", "n_samples")]
    falling = [
        replace(r, grad_norm=(r.grad_norm or 1) * 0.97**n) for n, r in enumerate(norms(1, 200))
    ]
    state, said = drive([PLAIN, *falling])
    assert not decisions(said)
    assert state.gradient.drift == 0


def test_a_rung_that_would_change_nothing_is_skipped_and_costs_nothing() -> None:
    same = {"effective_samples": 2.0, "effective_double": 2.001, "effective_of": 5.0}
    started = replace(PLAIN, n_samples=32)
    calm = [replace(r, **same) for r in norms(1, 150)]  # type: ignore[arg-type]
    wild = [replace(r, **same) for r in norms(151, 160, 30)]  # type: ignore[arg-type]
    state, said = drive([started, *calm, *wild])
    (decision,) = decisions(said)
    assert decision.rung == "objective"
    # What the log does not tell of may change something: half and double are all it tells.
    unequal = replace(started, weight_temperature=1.5)
    (other,) = decisions(drive([unequal, *calm, *wild])[1])
    assert other.changes == {"weight_temperature": 2.0}
    assert decision.evidence["skipped"] == (
        "n_samples: n_samples is 32 already; weight_temperature: it would change nothing"
    )
    assert state.decided == 1


# --- COLLAPSE and NONFINITE -----------------------------------------------------------------------


def evaluated(at: int, pass_at_1: float) -> Evaluated:
    return Evaluated(at, pass_at_1, {1: pass_at_1}, 0.02)


def test_what_was_reached_and_is_lost_is_fetched_from_the_best_checkpoint() -> None:
    events: list[Input] = [PLAIN, evaluated(0, 0.4), CheckpointSaved(0, 0.1)]
    events += [*steady(1, 50, 44), evaluated(50, 0.7), CheckpointSaved(50, 0.1)]
    events += [*steady(51, 100, 44), evaluated(100, 0.6), CheckpointSaved(100, 0.1)]
    _, said = drive([*events, *steady(101, 125, 6)])
    (decision,) = decisions(said)
    assert (decision.rule, decision.rung) == ("COLLAPSE", "restart_1")
    assert decision.changes == {
        "learning_rate": 3e-5,
        "lifecycle": "restart_from",
        "restart_from": 50,
    }
    assert 105 <= decision.iteration <= 125
    assert float(decision.evidence["best_lower"]) - float(decision.evidence["upper"]) > 0.1


def went_back(attempt: int) -> list[Input]:
    """The supervisor has started the trainer again from checkpoint 50."""
    header_ = replace(PLAIN, attempt=attempt, resumed_from=50)
    changes = (
        Change("learning_rate", "3e-05", "0.0001"),
        Change("lifecycle", "restart_from", "run"),
    )
    return [header_, ControlApplied(1, 51, changes)]


def test_a_restart_is_answered_by_the_attempt_that_it_begins() -> None:
    events: list[Input] = [PLAIN, evaluated(0, 0.4), *steady(1, 50, 44)]
    events += [evaluated(50, 0.7), CheckpointSaved(50, 0.1), *steady(51, 100, 44)]
    state, said = fold([*events, *steady(101, 116, 6)])
    (decision,) = decisions(said)
    state, said = fold([Published(decision.intent, 1, 116), *went_back(2)], state)
    assert state.in_flight == []
    assert (state.iteration, state.in_force.learning_rate) == (50, 3e-5)
    state, said = fold(steady(51, 160, 44), state)
    assert not decisions(said)
    assert [o.verdict for o in said if isinstance(o, Judged)] == ["inconclusive"]
    # A second collapse is answered once more; a third only told.
    state, said = fold(steady(161, 200, 6), state)
    assert taken(said) == [("COLLAPSE", "restart_2")]


def test_held_out_evaluations_below_the_first_are_a_collapse_too() -> None:
    events: list[Input] = [PLAIN, evaluated(0, 0.6), CheckpointSaved(0, 0.1)]
    for start in (0, 30, 60):
        events += [*steady(start + 1, start + 30, 40), evaluated(start + 30, 0.5)]
    _, said = drive([*events, *steady(91, 100, 40)])
    (decision,) = decisions(said)
    assert (decision.rule, decision.iteration) == ("COLLAPSE", 65)
    # Nothing was ever learned at that rate: 0.02 of it, where a checkpoint asks for 0.3 of it.
    assert decision.changes["restart_from"] == 0
    assert decision.changes["learning_rate"] == 2e-6


def test_an_evaluation_while_the_verifier_is_down_is_none() -> None:
    """It counts every sample as wrong; two of those would be a collapse."""
    events: list[Input] = [PLAIN, evaluated(0, 0.6), *steady(1, 59, 40)]
    dark = [IterationRecord(n, 1000, n_total=0, unscored=64) for n in range(60, 101)]
    events += [*dark[:20], evaluated(79, 0.0), *dark[20:], evaluated(100, 0.0)]
    state, said = drive([*events, *steady(101, 119, 40)])
    assert not decisions(said)
    assert state.held_out.below == 0
    _, said = drive([evaluated(119, 0.1), evaluated(120, 0.1), *steady(121, 130, 40)], state)
    assert taken(said) == [("COLLAPSE", "restart_1")]


def test_low_leaves_a_run_that_may_have_fallen_to_collapse() -> None:
    """LOW's change would have to settle, and to cool down, before COLLAPSE could act."""
    events: list[Input] = [PLAIN, evaluated(0, 0.4), *steady(1, 20, 10), evaluated(20, 0.2)]
    empty = steady(21, 40, 10, n_correct=0)
    _, said = drive([*events, *empty])
    assert ("LOW", "fallen") in holds(said)
    assert not decisions(said)
    _, said = drive([*events, *empty, evaluated(40, 0.1), *steady(41, 50, 10)])
    assert taken(said) == [("COLLAPSE", "restart_1")]


def test_without_an_evaluation_it_goes_back_to_before_the_fall() -> None:
    """What was saved since is fallen too; the model that the run began with needs no saving."""
    events: list[Input] = [PLAIN, *steady(1, 100, 44), *steady(101, 110, 6)]
    late = [CheckpointSaved(110, 0.1), *steady(111, 130, 6)]
    (decision,) = decisions(drive([*events, *late])[1])
    assert decision.changes["restart_from"] == 0
    assert "the model that it began with" in decision.because
    events.insert(20, CheckpointSaved(19, 0.1))
    (decision,) = decisions(drive([*events, *late])[1])
    assert decision.changes["restart_from"] == 19


def test_a_rate_that_was_raised_since_is_taken_back_whole() -> None:
    events: list[Input] = [PLAIN, evaluated(0, 0.4), *steady(1, 60, 44), evaluated(60, 0.7)]
    events.append(CheckpointSaved(60, 0.1))
    raised = ControlApplied(1, 61, (Change("learning_rate", "0.003", "0.0001"),))
    state, said = drive([*events, raised, *steady(61, 100, 4)])
    (decision,) = decisions(said)
    assert decision.changes == {
        "learning_rate": 1e-4,
        "lifecycle": "restart_from",
        "restart_from": 60,
    }
    back = ControlApplied(2, 61, (Change("lifecycle", "restart_from", "run"),))
    header_ = replace(PLAIN, attempt=2, resumed_from=60)
    state, said = fold([Published(decision.intent, 2, 100), header_, back], state)
    assert state.in_flight == []
    state, said = fold(steady(61, 120, 44), state)
    assert not decisions(said)


def test_a_restart_is_never_put_back() -> None:
    """The rate before it is the one that the run came to harm under."""
    events: list[Input] = [PLAIN, evaluated(0, 0.4), *steady(1, 60, 44), evaluated(60, 0.7)]
    events.append(CheckpointSaved(60, 0.1))
    state, said = fold([*events, *steady(61, 100, 6)])
    (decision,) = decisions(said)
    changes = (Change("learning_rate", "3e-05", "0.0001"),)
    started = replace(PLAIN, attempt=2, resumed_from=60)
    state, _ = fold([Published(decision.intent, 1, 100), started], state)
    state, said = fold([ControlApplied(1, 61, changes), *steady(61, 102, 20)], state)
    assert [o.verdict for o in said if isinstance(o, Judged)] == ["harmed"]
    assert not decisions(said)


@pytest.mark.parametrize("how", ["update", "loss", "gradient"])
def test_three_updates_that_were_not_finite(how: str) -> None:
    events: list[Input] = [PLAIN, *steady(1, 30), CheckpointSaved(30, 0.1)]
    wrong: dict[str, dict[str, Any]] = {
        "loss": {"loss": float("nan")},
        "gradient": {"grad_norm": float("inf")},
    }
    for row in steady(31, 40):
        is_skipped = row.iteration in {33, 36, 39}
        if is_skipped and how == "update":
            events.append(UpdateSkipped(row.iteration, "loss nan"))
        events.append(replace(row, **wrong.get(how, {})) if is_skipped else row)
    _, said = drive(events)
    (decision,) = decisions(said)
    assert (decision.rule, decision.iteration) == ("NONFINITE", 39)
    assert decision.changes["restart_from"] == 30
    assert decision.changes["learning_rate"] == 3e-5


def test_two_updates_that_were_not_finite_are_none_too_many() -> None:
    skips: list[Input] = [UpdateSkipped(n, "loss nan") for n in (5, 26, 27)]
    _, said = drive(
        [PLAIN, CheckpointSaved(0, 0.1), *steady(1, 5), skips[0], *steady(6, 26), *skips[1:]]
    )
    assert not decisions(said)


# --- ADAPT ----------------------------------------------------------------------------------------


def adaptive() -> RunStarted:
    return replace(
        PLAIN, algorithm=Algorithm.GRPO, objective="grpo", schedule="adaptive", hand_over_to="maxrl"
    )


def test_the_paper_switches_the_other_way_and_back() -> None:
    paper = POLICIES["paper"]
    state, said = drive([adaptive(), *steady(1, 40, 20)], policy=paper)
    assert [d.changes for d in decisions(said)] == [{"objective": "maxrl"}]
    # Not back within 200 iterations: that would be an oscillation.
    state, said = drive(steady(41, 300, 50), state, paper)
    (back,) = decisions(said)
    assert (back.changes, back.iteration >= 225) == ({"objective": "grpo"}, True)
    _, said = drive(steady(301, 700, 20), state, paper)
    assert not [d for d in decisions(said) if d.rule == "ADAPT"]
