"""The autopilot: LOW and its threshold rung, and everything that holds it back."""

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import header, record

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import (
    Answered,
    Decision,
    ForeignControl,
    Hold,
    Input,
    Output,
    Published,
    Superseded,
)
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.rules import RULES
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    ControlApplied,
    ControlRejected,
    IterationRecord,
    RunStarted,
)
from trainer.tasks.own import REWARD_GRID, THRESHOLD_BOUNDS

POLICY = Policy()
LOWERED = (Change("correctness_threshold", "25.0", "30.0"),)


def fold(
    events: Iterable[Input], state: autopilot.State | None = None
) -> tuple[autopilot.State, list[Output]]:
    # A reducer changes the state that it is given: tests go on from the same one more than once.
    state = autopilot.State() if state is None else deepcopy(state)
    outputs: list[Output] = []
    for event in events:
        state, new = autopilot.reduce(state, event, POLICY)
        outputs += new
    return state, outputs


def decisions(outputs: Iterable[Output]) -> list[Decision]:
    return [output for output in outputs if isinstance(output, Decision)]


def holds(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    return [(output.rule, output.key) for output in outputs if isinstance(output, Hold)]


def low(first: int, last: int, correct: int = 26, threshold: float = 30.0) -> list[IterationRecord]:
    """Iterations first..last with 26 of 64 correct: 41%, at most 47% over a window of 20."""
    return [record(n, correct, threshold=threshold) for n in range(first, last + 1)]


def test_low_fires_once_the_window_is_full_and_has_been_low_for_its_dwell() -> None:
    state, outputs = fold([header(), *low(1, 60)])
    (decision,) = decisions(outputs)
    # 20 iterations of 64 samples without any variance are the first window; 5 verdicts in a row.
    assert decision.iteration == 24
    assert decision.changes == {"correctness_threshold": 25.0}
    assert (decision.rule, decision.rung, decision.base_revision) == ("LOW", "threshold", 0)
    assert decision.intent == "LOW:threshold:1.24"
    assert decision.time == "2026-11-24T00:00:24Z"
    assert decision.evidence["correctness"] == pytest.approx(26 / 64, abs=1e-4)
    assert decision.evidence["upper"] < 0.5  # type: ignore[operator]
    assert decision.evidence["empty_iterations"] == 1
    assert "30" in decision.because
    assert [flying.revision for flying in state.in_flight] == [1]
    assert state.judged == 60


@pytest.mark.parametrize("correct", [32, 38, 64])
def test_a_run_that_is_not_clearly_low_is_left_alone(correct: int) -> None:
    _, outputs = fold([header(), *low(1, 80, correct)])
    assert not decisions(outputs)
    assert ("LOW", "not fired") in holds(outputs)


def test_a_low_run_that_learns_is_left_alone() -> None:
    rising = [record(n, correct=5 + n // 4) for n in range(1, 81)]
    _, outputs = fold([header(), *rising])
    assert not decisions(outputs)
    assert ("LOW", "rising") in holds(outputs)


def test_a_short_run_is_watched_not_changed() -> None:
    short = [replace(r, target_iterations=100) for r in low(1, 100)]
    _, outputs = fold([header(iterations=100), *short])
    assert [d.iteration for d in decisions(outputs)] == []
    assert ("LOW", "late") in holds(outputs)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rewards_above": {}, "rewards_of": None}, "does not tell how many rewards"),
        ({"rewards_above": {25.0: 0, 20.0: 0, 15.0: 0, 30.0: 0}}, "no threshold from 15 to 30"),
    ],
)
def test_the_rung_is_refused_where_it_would_not_help(
    changed: dict[str, object], words: str
) -> None:
    records = [replace(r, **changed) for r in low(1, 60)]  # type: ignore[arg-type]
    _, outputs = fold([header(), *records])
    assert not decisions(outputs)
    refused = [o for o in outputs if isinstance(o, Hold) and o.key == "no remedy"]
    assert words in refused[0].because


def test_the_threshold_goes_down_as_far_as_it_takes() -> None:
    records = [replace(r, rewards_above={15.0: 26, 20.0: 26, 25.0: 0, 30.0: 0}) for r in low(1, 60)]
    (decision,) = decisions(fold([header(), *records])[1])
    assert decision.changes == {"correctness_threshold": 20.0}


def test_the_threshold_of_a_task_with_rewards_from_0_to_1_goes_down_on_its_own_grid() -> None:
    """Nothing is above 0.9, 26 of 64 rewards are 0.6, and the task declares no more than these."""
    own = replace(
        header(), reference_threshold=0.5, bounds=THRESHOLD_BOUNDS, correctness_threshold=0.9
    )
    above = {level: 26 if level < 0.6 else 0 for level in REWARD_GRID}
    records = [replace(r, n_correct=0, rewards_above=above) for r in low(1, 60)]
    (decision,) = decisions(fold([own, *records])[1])
    assert decision.changes == {"correctness_threshold": 0.5}


@pytest.mark.parametrize(
    "bounds", [(-1e300, 1e300), (-math.inf, 30.0), (math.nan, 30.0), (26.0, 30.0), (0.0, 12.0)]
)
def test_whatever_bounds_a_log_tells_only_its_own_levels_are_asked_for(
    bounds: tuple[float, float],
) -> None:
    records = [replace(r, rewards_above={-math.inf: 64, **r.rewards_above}) for r in low(1, 60)]
    found = decisions(fold([replace(header(), bounds=bounds), *records])[1])
    allowed = bounds[0] <= 25 <= bounds[1]
    assert [d.changes for d in found] == [{"correctness_threshold": 25.0}] * allowed


def test_a_log_without_a_reference_threshold_gets_suggestions_and_no_threshold() -> None:
    silent = [replace(r, reference_correct=None, reference_total=None) for r in low(1, 60)]
    tight = [replace(r, n_correct=9, rewards_above={}) for r in silent]
    _, outputs = fold([*tight, *(replace(r, iteration=r.iteration + 60) for r in tight)])
    assert not decisions(outputs)
    assert ("LOW", "patience") in holds(outputs)
    later = [replace(r, iteration=n, target_iterations=None) for n, r in enumerate(tight * 4, 1)]
    _, outputs = fold(later)
    (decision,) = decisions(outputs)
    assert (decision.mode, decision.changes) == (Mode.SUGGEST, {"n_samples": 16})
    assert "the live threshold" in decision.because
    assert "threshold: the log tells no correctness" in str(decision.evidence["skipped"])


def test_a_log_that_tells_no_correctness_is_only_watched() -> None:
    silent = [replace(r, reference_correct=None, n_correct=None) for r in low(1, 60)]
    _, outputs = fold([header(), *silent])
    assert ("all", "silent") in holds(outputs)
    assert not decisions(outputs)


# --- What becomes of a decision -------------------------------------------------------------------


def decided() -> tuple[autopilot.State, Decision]:
    state, outputs = fold([header(), *low(1, 24)])
    (decision,) = decisions(outputs)
    return state, decision


def test_applied_restarts_the_window_and_settles() -> None:
    state, decision = decided()
    applied = ControlApplied(1, 25, LOWERED)
    state, outputs = fold([Published(decision.intent, 1, 24), applied], state)
    (answer,) = outputs
    assert isinstance(answer, Answered)
    assert (answer.revision, answer.outcome, answer.iteration) == (1, "applied", 25)
    assert answer.effective["correctness_threshold"] == 25
    assert (state.rows.count, state.in_flight, state.revision) == (0, [], 1)
    _, outputs = fold(low(25, 160, threshold=25.0), state)
    # The one rung that there is was taken: whatever follows, no second time.
    assert not decisions(outputs)
    told = [key for rule, key in holds(outputs) if rule == "LOW"]
    assert told == ["not fired", "settling", "cooldown", "patience", "late"]


def test_rejected_changes_nothing_and_is_not_asked_again() -> None:
    state, decision = decided()
    events = [Published(decision.intent, 1, 24), ControlRejected(1, "out of bounds")]
    state, outputs = fold(events, state)
    assert [o.outcome for o in outputs if isinstance(o, Answered)] == ["rejected"]
    assert state.in_force.correctness_threshold == 30
    assert state.rows
    assert not decisions(fold(low(25, 160), state)[1])


def test_silence_is_unconfirmed_once_and_a_late_answer_counts() -> None:
    state, decision = decided()
    state, outputs = fold([Published(decision.intent, 1, 24), *low(25, 40)], state)
    answers = [o for o in outputs if isinstance(o, Answered)]
    assert [(a.outcome, a.iteration) for a in answers] == [("unconfirmed", 28)]
    assert ("LOW", "unconfirmed") in holds(outputs)
    state, outputs = fold([ControlApplied(1, 41, LOWERED)], state)
    assert [o.outcome for o in outputs if isinstance(o, Answered)] == ["applied"]
    assert state.in_flight == []


def test_a_decision_that_is_not_published_yet_is_not_unconfirmed() -> None:
    state, _ = decided()
    _, outputs = fold(low(25, 60), state)
    assert not [o for o in outputs if isinstance(o, Answered)]


def test_an_operator_who_came_later_supersedes() -> None:
    state, decision = decided()
    applied = ControlApplied(2, 26, (*LOWERED, Change("n_samples", "16", "8")))
    state, outputs = fold([Published(decision.intent, 1, 24), *low(25, 25), applied], state)
    answers = [(o.revision, o.outcome) for o in outputs if isinstance(o, Answered)]
    assert answers == [(2, "applied"), (1, "superseded")]
    assert (state.in_flight, state.revision, state.in_force.n_samples) == ([], 2, 16)


def test_what_was_not_published_may_be_decided_again_once_the_log_is_read() -> None:
    state, decision = decided()
    state, _ = fold([Superseded(decision.intent, 50, "late")], state)
    _, outputs = fold(low(25, 80), state)
    (again,) = decisions(outputs)
    assert again.iteration == 51
    assert holds(outputs)[0] == ("LOW", "behind")


def test_an_operators_control_alone_restarts_the_window() -> None:
    state, _ = fold([header(), *low(1, 20)])
    state, outputs = fold([ControlApplied(1, 21, (Change("n_samples", "16", "8"),))], state)
    assert [o.outcome for o in outputs if isinstance(o, Answered)] == ["applied"]
    _, outputs = fold(low(21, 70), state)
    (decision,) = decisions(outputs)
    # 20 to settle, and a whole window after that.
    assert decision.iteration == 21 + 20 + 20
    assert decision.base_revision == 1


def test_nothing_is_decided_while_an_operators_control_awaits_its_answer() -> None:
    asked = ForeignControl(1, "uid:7", 20)
    state, outputs = fold([header(), *low(1, 20), asked, *low(21, 60)])
    assert not decisions(outputs)
    answers = [(o.revision, o.outcome, o.iteration) for o in outputs if isinstance(o, Answered)]
    assert answers == [(1, "unconfirmed", 24)]
    assert ("LOW", "unconfirmed") in holds(outputs)
    state, outputs = fold([ControlRejected(1, "no"), *low(61, 61)], state)
    assert [o.outcome for o in outputs if isinstance(o, Answered)] == ["rejected"]
    (decision,) = decisions(outputs)
    assert (decision.iteration, decision.base_revision) == (61, 1)


def test_of_two_controls_within_an_iteration_the_trainer_answers_the_later() -> None:
    asked = [ForeignControl(1, "uid:7", 5), ForeignControl(2, "uid:7", 5)]
    applied = ControlApplied(2, 6, (Change("n_samples", "16", "8"),))
    state, outputs = fold([header(), *low(1, 5), *asked, applied, *low(6, 12)])
    answers = [(o.revision, o.outcome) for o in outputs if isinstance(o, Answered)]
    assert answers == [(2, "applied"), (1, "superseded")]
    assert state.in_flight == []
    # One that is found only after its answer awaits none.
    assert fold([ForeignControl(1, "uid:7", 12)], state) == (state, [])


def test_an_answer_to_an_operator_is_none_to_the_decision_that_wanted_the_number() -> None:
    state, decision = decided()
    events = [ForeignControl(1, "uid:7", 24), ControlRejected(1, "no")]
    state, _ = fold([*events, Superseded(decision.intent, 24, "revision 1 came first")], state)
    assert (state.decided, state.changed_at, state.taken, state.in_flight) == (0, None, [], [])


@pytest.mark.parametrize("fate", ["superseded", "rejected"])
def test_what_came_to_nothing_costs_no_cooldown(fate: str) -> None:
    state, decision = decided()
    state.decided, state.in_flight[0].changed_before = 2, 3
    published = Published(decision.intent, 1, 24)
    of_fate: dict[str, list[Input]] = {
        "superseded": [Superseded(decision.intent, 30, "late")],
        "rejected": [published, ControlRejected(1, "no")],
    }
    state, _ = fold(of_fate[fate], state)
    assert (state.decided, state.changed_at) == (1, 3)


def test_verdicts_in_a_row_end_where_there_is_none() -> None:
    silent = [replace(r, reference_correct=None) for r in low(23, 23)]
    _, outputs = fold([header(), *low(1, 22), *silent, *low(24, 60)])
    (decision,) = decisions(outputs)
    # 20, 21 and 22 were low; 24 begins anew.
    assert decision.iteration == 28


def test_observe_and_suggest_decide_but_send_nothing() -> None:
    for mode in (Mode.OBSERVE, Mode.SUGGEST):
        state, outputs = fold([header(), *low(1, 160)], autopilot.State(mode=mode))
        (decision,) = decisions(outputs)
        assert decision.mode is mode
        assert state.in_flight == []


# --- An adaptive run ------------------------------------------------------------------------------


def adaptive() -> RunStarted:
    return replace(
        header(),
        algorithm=Algorithm.GRPO,
        objective="grpo",
        schedule="adaptive",
        hand_over_to="maxrl",
        correctness_threshold=20.0,
    )


def test_an_adaptive_run_hands_over_once_most_samples_are_right() -> None:
    state, outputs = fold([adaptive(), *low(1, 40, correct=40, threshold=20.0)])
    (decision,) = decisions(outputs)
    assert (decision.rule, decision.iteration) == ("ADAPT", 24)
    assert decision.changes == {"objective": "maxrl"}
    applied = ControlApplied(1, 25, (Change("objective", "maxrl", "grpo"),))
    state, outputs = fold([applied, *low(25, 160, correct=40, threshold=20.0)], state)
    assert not decisions(outputs)
    # What it was to do is done.
    assert "ADAPT" not in {rule for rule, _ in holds(outputs)} | state.firing


def test_a_rule_that_has_nothing_left_does_not_keep_others_from_their_change() -> None:
    """Low once without a remedy, LOW fires until its lower bound is above .55; ADAPT from .50."""
    steady = low(31, 140, correct=36, threshold=20.0)
    state, outputs = fold([adaptive(), *low(1, 30, threshold=20.0), *steady])
    assert ("LOW", "patience") in holds(outputs)
    (decision,) = decisions(outputs)
    assert decision.rule == "ADAPT"
    assert "LOW" in state.firing


def test_rising_does_not_hold_a_hand_over_back() -> None:
    rising = [record(n, 30 + n // 3, threshold=20.0) for n in range(1, 60)]
    (decision,) = decisions(fold([adaptive(), *rising])[1])
    assert decision.rule == "ADAPT"


@pytest.mark.parametrize("correct", [20, 32])
def test_an_adaptive_run_that_is_not_there_yet_says_what_it_waits_for(correct: int) -> None:
    _, outputs = fold([adaptive(), *low(1, 22, correct, threshold=20.0)])
    assert not decisions(outputs)
    assert ("ADAPT", "not fired") in holds(outputs)


def test_no_other_run_is_handed_over() -> None:
    plain = replace(adaptive(), schedule=None, hand_over_to=None)
    hybrid = replace(adaptive(), schedule="hybrid", hand_over_after=200)
    for started in (plain, hybrid):
        state, outputs = fold([started, *low(1, 60, correct=50, threshold=20.0)])
        assert not decisions(outputs)
        assert not state.firing & {rule.name for rule in RULES}


# --- Restarts -------------------------------------------------------------------------------------


def test_a_resume_drops_the_rows_behind_its_checkpoint() -> None:
    state, _ = fold([header(), *low(1, 20), header(attempt=2, resumed_from=15)])
    assert [row.iteration for row in state.rows.records] == list(range(1, 16))
    assert (state.attempt, state.iteration) == (2, 15)
    state, outputs = fold(low(16, 24), state)
    (decision,) = decisions(outputs)
    assert decision.intent == "LOW:threshold:2.24"


def test_a_control_replayed_after_a_resume_is_answered_only_once() -> None:
    state, decision = decided()
    applied = ControlApplied(1, 25, LOWERED)
    state, _ = fold([Published(decision.intent, 1, 24), applied], state)
    state, outputs = fold([header(attempt=2, resumed_from=20), *low(21, 24), applied], state)
    assert not [o for o in outputs if isinstance(o, Answered)]
    assert state.in_force.correctness_threshold == 25


def test_iteration_1_again_is_a_new_attempt_of_a_log_without_headers() -> None:
    state, _ = fold([*low(1, 10), *low(1, 3)])
    assert state.attempt == 2
    assert [row.iteration for row in state.rows.records] == [1, 2, 3]


def story() -> list[Input]:
    """A run with everything in it: a decision, its answer, an operator, a crash and a resume."""
    return [
        header(),
        *low(1, 24),
        Published("LOW:threshold:1.24", 1, 24),
        *low(25, 25),
        ControlApplied(1, 26, LOWERED),
        *low(26, 90, threshold=25.0),
        ForeignControl(2, "uid:7", 90, changes={"n_samples": 99}),
        ForeignControl(3, "uid:7", 90),
        ControlRejected(2, "no"),
        *low(91, 95, threshold=25.0),
        header(attempt=2, resumed_from=80),
        *low(81, 110, threshold=25.0),
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, len(story())))
def test_who_folds_the_past_again_goes_on_as_if_never_stopped(cut: int) -> None:
    state = autopilot.State()
    stored: list[Input] = []
    for event in story()[:cut]:
        state, outputs = autopilot.reduce(state, event, POLICY)
        stored += [event, *decisions(outputs)]
    again = autopilot.State()
    for event in stored:
        again, _ = autopilot.reduce(again, event, POLICY, deciding=False)
    assert again == state
    assert fold(story()[cut:], again) == fold(story()[cut:], state)


def test_the_past_is_not_decided_anew_under_another_policy() -> None:
    milder = replace(POLICY, low=replace(POLICY.low, below=0.1))
    state, outputs = fold([header(), *low(1, 24)])
    again = autopilot.State()
    for event in [header(), *low(1, 24), *decisions(outputs)]:
        again, _ = autopilot.reduce(again, event, milder, deciding=False)
    assert again.taken == state.taken == ["LOW.threshold"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), min_size=1, max_size=120))
def test_whatever_happens_at_most_three_changes(rows: list[tuple[int, int]]) -> None:
    events: list[Input] = [header(iterations=1000)]
    for n, (correct, live) in enumerate(rows, 1):
        events.append(replace(record(n, correct, iterations=1000), n_correct=min(live, correct)))
    _, outputs = fold(events)
    assert len(decisions(outputs)) <= POLICY.limits.most_changes


INPUTS = st.one_of(
    st.lists(st.integers(0, 64), min_size=1, max_size=30),
    st.builds(ForeignControl, st.integers(1, 4), st.just("uid:7"), st.integers(0, 60)),
    st.builds(ControlApplied, st.integers(1, 4), st.integers(1, 60), st.just(LOWERED)),
    st.builds(ControlRejected, st.integers(1, 4), st.just("no")),
    st.builds(lambda n: header(attempt=2, resumed_from=n), st.integers(0, 60)),
    st.sampled_from(["publish", "supersede"]),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(INPUTS, max_size=25))
def test_whatever_is_published_and_answered_the_past_folds_to_the_same(script: list[Any]) -> None:
    state = autopilot.State()
    stored: list[Input] = []
    wanted: list[Decision] = []
    at = 0

    def take(event: Input) -> None:
        nonlocal state
        state, outputs = autopilot.reduce(state, event, POLICY)
        wanted.extend(decisions(outputs))
        stored.extend([event, *decisions(outputs)])

    for step in [header(iterations=10**6), [26] * 30, *script]:
        match step:
            case list() as counts:
                for at, correct in enumerate(counts, state.iteration + 1):
                    take(record(at, correct, iterations=10**6))
            case "publish" if wanted:
                decision = wanted.pop(0)
                take(Published(decision.intent, decision.base_revision + 1, at))
            case "supersede" if wanted:
                take(Superseded(wanted.pop(0).intent, at, "late"))
            case str():
                pass
            case _:
                take(step)
    again = autopilot.State()
    for event in stored:
        again, _ = autopilot.reduce(again, event, POLICY, deciding=False)
    assert again == state
    # A rung that was rejected stays taken.
    assert 0 <= state.decided <= len(state.taken)
    assert len({flying.decision.intent for flying in state.in_flight if flying.decision}) <= 1
