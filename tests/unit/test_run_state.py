"""The states of a run: what may follow what, and what becomes of a run whose trainer ended."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.core.run_state import (
    ACTIVE,
    CONFIGURATION_CODES,
    CRASH_LOOP_FAILURES,
    ENDED,
    Ending,
    State,
    TransitionError,
    Verdict,
    backoff_seconds,
    enter,
    failures_in_a_row,
    judge,
)
from maxrl_ops.core.snapshot import UNWATCHED

STATES = st.sampled_from(State)
ENDINGS = st.builds(
    Ending,
    code=st.none() | st.integers(0, 255),
    signal=st.none(),
    said=st.none() | st.just("no CUDA device"),
    said_finished=st.booleans(),
) | st.builds(Ending, signal=st.integers(1, 64))


def may_follow(state: State, new: State) -> bool:
    try:
        return enter(state, new) is new
    except TransitionError:
        return False


def test_every_state_is_active_or_ended() -> None:
    assert set(State) == ACTIVE | ENDED
    assert not ACTIVE & ENDED


@given(STATES, STATES)
def test_an_ended_run_stays_ended_and_a_stop_is_not_taken_back(state: State, new: State) -> None:
    if state in ENDED:
        assert not may_follow(state, new)
    if state is State.STOPPING:
        assert may_follow(state, new) == (new in ENDED)
    assert not may_follow(state, state)


@given(st.sampled_from(sorted(ACTIVE)))
def test_every_active_run_can_be_stopped_and_can_fail(state: State) -> None:
    assert may_follow(state, State.STOPPED)
    assert may_follow(state, State.FAILED)


def test_only_what_waits_is_started() -> None:
    assert {s for s in State if may_follow(s, State.STARTING)} == {
        State.BACKING_OFF, State.PAUSED,
    }  # fmt: skip


def test_a_refused_transition_says_which() -> None:
    with pytest.raises(TransitionError, match="running cannot follow stopped"):
        enter(State.STOPPED, State.RUNNING)


@given(ENDINGS, st.booleans(), st.integers(1, 10), st.sampled_from(sorted(ACTIVE)))
def test_a_verdict_may_follow_where_a_trainer_lives(
    ending: Ending, stop_asked: bool, failures: int, state: State
) -> None:
    verdict = judge(ending, stop_asked=stop_asked, failures=failures)
    assert verdict.state in ENDED | {State.BACKING_OFF}
    assert (verdict.reason is None) == (verdict.state is State.FINISHED)
    if verdict.reason is not None:
        assert verdict.reason
        assert "\n" not in verdict.reason
    if stop_asked:
        # Never restarted, never called failed.
        assert verdict.state in {State.FINISHED, State.STOPPED}
    elif state not in {State.STOPPING, State.BACKING_OFF}:
        assert may_follow(state, verdict.state)


@given(st.integers(0, 255), st.integers(1, 10))
def test_exit_codes_decide_over_a_restart(code: int, failures: int) -> None:
    state = judge(Ending(code=code), stop_asked=False, failures=failures).state
    if code == 0:
        assert state is State.FINISHED
    elif code in CONFIGURATION_CODES or failures >= CRASH_LOOP_FAILURES:
        assert state is State.FAILED
    else:
        assert state is State.BACKING_OFF


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(code=1), "exit code 1"),
        (Ending(signal=signal.SIGKILL), "killed by SIGKILL"),
        (Ending(signal=signal.SIGSEGV), "segmentation fault (SIGSEGV)"),
        (Ending(signal=40), "killed by signal 40"),
        # 128 + 15: the trainer's own answer to a TERM that nobody here sent.
        (Ending(code=143), "exit code 143 (SIGTERM)"),
        (Ending(code=255), "exit code 255"),
        (Ending(), "ended while no supervisor watched"),
        (Ending(code=1, said="loss is nan"), "loss is nan"),
    ],
)
def test_reasons_are_words_for_people(ending: Ending, reason: str) -> None:
    assert judge(ending, stop_asked=False, failures=1) == Verdict(State.BACKING_OFF, reason)


def test_a_crash_loop_names_its_last_failure() -> None:
    assert judge(Ending(code=1), stop_asked=False, failures=5) == Verdict(
        State.FAILED,
        "crash loop: 5 failures in a row without a new checkpoint, the last: exit code 1",
    )


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        (Ending(code=0), Verdict(State.FINISHED, None)),
        (Ending(code=143), Verdict(State.STOPPED, "stopped as asked")),
        (Ending(signal=15), Verdict(State.STOPPED, "stopped as asked")),
        (Ending(signal=9), Verdict(State.STOPPED, "stopped as asked (killed by SIGKILL)")),
        (Ending(code=2), Verdict(State.STOPPED, "stopped as asked (exit code 2)")),
    ],
)
def test_a_stop_that_was_asked_for(ending: Ending, verdict: Verdict) -> None:
    assert judge(ending, stop_asked=True, failures=1) == verdict


def test_an_unseen_end_is_read_from_the_log_and_a_seen_one_is_not() -> None:
    def state(ending: Ending) -> State:
        return judge(ending, stop_asked=False, failures=1).state

    assert state(Ending(said_finished=True)) is State.FINISHED
    assert state(Ending(code=1, said_finished=True)) is State.BACKING_OFF
    assert state(Ending(signal=9, said_finished=True)) is State.BACKING_OFF
    assert state(Ending(error="no such file", said_finished=True)) is State.BACKING_OFF
    assert state(Ending(error="no such file", is_permanent=True)) is State.FAILED


@given(st.integers(-1, 10**6), st.floats(0, 1))
def test_backoff_is_bounded_and_grows(failures: int, jitter: float) -> None:
    pause = backoff_seconds(failures, jitter)
    assert 0.5 <= pause <= 60
    assert pause <= backoff_seconds(failures + 1, jitter)
    assert backoff_seconds(failures, 0) * 2 == backoff_seconds(failures, 1)


def test_backoff_doubles_from_one_second_to_sixty() -> None:
    assert [backoff_seconds(n, 1) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.lists(st.booleans(), max_size=20))
def test_failures_are_counted_since_the_last_checkpoint(checkpoints: list[bool]) -> None:
    count = 0
    for made in checkpoints:
        count = failures_in_a_row(count, new_checkpoint=made)
    since = checkpoints[::-1].index(True) + 1 if True in checkpoints else len(checkpoints)
    assert count == since


def test_it_is_pure() -> None:
    script = "import maxrl_ops.core.run_state, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"random", "logging", "subprocess", "asyncio"} & set(done.stdout.split())


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "supervision.md").read_text()
    table = page[page.index("| state | the run |") :].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", table, re.M)
    told = {state: set(re.findall(r"`(\w+)`", after)) for state, after in rows}
    assert list(told) == list(State)
    assert told == {state: {new for new in State if may_follow(state, new)} for state in State}
    assert all(f"`{state}`" in page for state in UNWATCHED)
