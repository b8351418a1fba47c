"""What becomes of a change: judged, put back, approved, declined; and what limits there are."""

from dataclasses import replace

import pytest
from test_autopilot import decisions, fold, holds
from test_rules import PLAIN, drive, high, norms, steady, taken

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Decision, Declined, Frozen, Hold, Judged, Output, Published
from maxrl_ops.core.policy import POLICIES, Mode, Policy
from maxrl_ops.wire.record import Change, ControlApplied

# --- Judging --------------------------------------------------------------------------------------


def changed(after: int, first: int = 150) -> tuple[autopilot.State, list[Output]]:
    """UNSTABLE doubled n_samples at `first`; so many of 64 are correct since."""
    calm = [*norms(1, first), *norms(first + 1, first + 4, 30)]
    follow = norms(first + 5, first + 60)
    scored = [replace(r, reference_correct=after, n_correct=after) for r in follow]
    return drive([PLAIN, *calm, *scored])


def test_a_change_that_did_harm_is_put_back_once_and_its_rule_stays_quiet() -> None:
    state, said = changed(after=20)
    (judged,) = [o for o in said if isinstance(o, Judged)]
    assert (judged.revision, judged.verdict) == (1, "harmed")
    assert float(judged.evidence["upper"]) < 0
    done = decisions(said)
    assert taken(said)[:2] == [("UNSTABLE", "n_samples"), ("UNSTABLE", "put_back")]
    back = done[1]
    # In the same iteration as the verdict: neither cooldown nor settling holds it.
    assert back.iteration == judged.iteration == done[0].iteration + 40
    assert back.changes == {"n_samples": 8}
    assert "did harm" in back.because
    assert state.in_force.n_samples == 8
    assert state.frozen == {"UNSTABLE"}


@pytest.mark.parametrize(("after", "verdict"), [(40, "inconclusive"), (52, "helped")])
def test_a_change_that_did_none_stays(after: int, verdict: str) -> None:
    state, said = changed(after)
    assert [o.verdict for o in said if isinstance(o, Judged)] == [verdict]
    assert taken(said) == [("UNSTABLE", "n_samples")]
    assert state.in_force.n_samples == 16


def test_a_persons_change_is_judged_and_never_put_back() -> None:
    applied = ControlApplied(1, 101, (Change("n_samples", "4", "8"),))
    _, said = drive([PLAIN, *steady(1, 100), applied, *steady(101, 141, 32)])
    assert [o.verdict for o in said if isinstance(o, Judged)] == ["harmed"]
    assert not [d for d in decisions(said) if d.rung == "put_back"]


def test_a_change_on_top_of_one_leaves_it_unjudged() -> None:
    first = ControlApplied(1, 101, (Change("n_samples", "4", "8"),))
    second = ControlApplied(2, 111, (Change("n_samples", "16", "4"),))
    _, said = drive([PLAIN, *steady(1, 100), first, *steady(101, 110), second, *steady(111, 160)])
    told = [(o.revision, o.verdict) for o in said if isinstance(o, Judged)]
    assert told == [(1, "inconclusive"), (2, "inconclusive")]


def test_a_run_with_nothing_to_learn_from_takes_the_little_that_there_is() -> None:
    """5% of the rewards lie above 20: no reason to lower a threshold that some samples reach."""
    rare = {"rewards_above": {15.0: 3, 20.0: 3, 25.0: 0, 30.0: 0}}
    started = replace(PLAIN, correctness_threshold=30.0)
    nothing = steady(1, 40, 3, n_correct=0, **rare)
    (decision,) = decisions(drive([started, *nothing])[1])
    assert (decision.rule, decision.changes) == ("LOW", {"correctness_threshold": 20.0})
    few = {"n_correct": 1, "rewards_above": {15.0: 3, 20.0: 3, 25.0: 1, 30.0: 1}}
    some = [replace(r, **few) if r.iteration % 4 == 0 else r for r in nothing]  # type: ignore[arg-type]
    rungs = [rung for _, rung in taken(drive([started, *some])[1])]
    assert rungs
    assert "threshold" not in rungs


def test_the_counterfactual_is_told_at_the_threshold_that_was_given_up() -> None:
    lowered = ControlApplied(1, 101, (Change("correctness_threshold", "15.0", "20.0"),))
    _, said = drive([PLAIN, *steady(1, 100, 30), lowered, *steady(101, 150, 30)])
    (judged,) = [o for o in said if isinstance(o, Judged)]
    assert judged.evidence["old_threshold"] == 20.0
    assert judged.evidence["at_old_threshold"] == pytest.approx(30 / 64, abs=1e-4)


def test_who_pauses_changes_nothing_that_is_judged() -> None:
    paused = ControlApplied(1, 51, (Change("lifecycle", "pause", "run"),))
    state, _ = drive([PLAIN, *steady(1, 50), paused, *steady(51, 60)])
    assert (state.revision, state.rows.count, state.trial) == (1, 60, None)


# --- Limits and modes -----------------------------------------------------------------------------


def test_a_value_that_is_back_within_a_while_freezes_its_rule() -> None:
    state, said = drive([PLAIN, *high(1, 26)])
    assert taken(said) == [("HIGH", "threshold")]
    person = ControlApplied(2, 60, (Change("correctness_threshold", "20.0", "25.0"),))
    state, said = drive([*high(27, 59), person, *high(60, 300)], state)
    assert state.frozen == {"HIGH"}
    assert not decisions(said)
    assert state.said["HIGH"] == "frozen"


def test_no_rule_takes_back_what_was_just_changed() -> None:
    person = ControlApplied(1, 5, (Change("n_samples", "8", "4"),))
    started = replace(PLAIN, n_samples=4, correctness_threshold=30.0, weight_temperature=0.5)
    _, said = drive([started, *high(1, 4), person, *high(5, 190, rewards_above={})])
    assert not decisions(said)
    refused = next(
        o for o in said if isinstance(o, Hold) and (o.rule, o.key) == ("HIGH", "no remedy")
    )
    assert "it would take n_samples back" in refused.because


def test_more_than_three_changes_need_approval() -> None:
    state = autopilot.State()
    state.decided = 3
    _, said = fold([PLAIN, *high(1, 60)], state)
    (decision,) = decisions(said)
    assert decision.mode is Mode.SUGGEST
    state.mode = Mode.OBSERVE
    _, said = fold([PLAIN, *high(1, 60)], state)
    assert not decisions(said)
    assert ("HIGH", "budget") in holds(said)


def suggested() -> tuple[autopilot.State, Decision]:
    state, said = fold([PLAIN, *high(1, 60)], autopilot.State(mode=Mode.SUGGEST))
    (decision,) = decisions(said)
    assert (decision.mode, state.in_flight, state.decided) == (Mode.SUGGEST, [], 0)
    assert ("HIGH", "waiting") in holds(said)
    return state, decision


def test_an_approved_suggestion_is_a_change_like_any() -> None:
    state, decision = suggested()
    state, said = fold([Published(decision.intent, 1, 60), *high(61, 61)], state)
    assert [flying.decision for flying in state.in_flight] == [decision]
    assert state.decided == 1
    applied = ControlApplied(1, 62, (Change("correctness_threshold", "25.0", "20.0"),))
    state, said = fold([applied, *high(62, 102)], state)
    assert [o.verdict for o in said if isinstance(o, Judged)] == ["inconclusive"]
    assert (state.suggested, state.changed_at) == ({}, 62)


def test_a_declined_suggestion_is_not_made_again() -> None:
    state, decision = suggested()
    state, said = fold([Declined(decision.intent, 60), *high(61, 160)], state)
    assert [d.rung for d in decisions(said)] == ["weight_temperature"]
    assert "threshold: taken already" in str(decisions(said)[0].evidence["skipped"])


def test_a_suggestion_lapses_with_what_it_was_made_on() -> None:
    state, _ = suggested()
    state, _ = fold([ControlApplied(1, 61, (Change("n_samples", "16", "8"),))], state)
    assert (state.suggested, state.taken) == ({}, [])
    _, said = fold(high(61, 160), state)
    assert taken(said)[0] == ("HIGH", "threshold")


def test_modes_of_run_policy_and_rule_the_most_careful_counts() -> None:
    careful = replace(Policy(), high=replace(Policy().high, mode=Mode.SUGGEST))
    for policy, mode in ((careful, Mode.SUGGEST), (POLICIES["observe"], Mode.OBSERVE)):
        _, said = drive([PLAIN, *high(1, 40)], policy=policy)
        assert [d.mode for d in decisions(said)] == [mode]


def test_a_frozen_host_changes_nothing_until_it_is_set_free() -> None:
    state, said = fold([PLAIN, Frozen(True, 0), *high(1, 60)])
    assert not decisions(said)
    assert ("HIGH", "host frozen") in holds(said)
    _, said = fold([Frozen(False, 60), *high(61, 61)], state)
    assert taken(said) == [("HIGH", "threshold")]
