"""The states of a run, which may follow which, and what becomes of a run whose trainer ended.

Everything that decides over a restart lives here: no I/O, no clock; randomness is an argument.
"""

import math
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

CRASH_LOOP_FAILURES = 5
REBOOTED = "the machine was rebooted"
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 60.0

# Usage, not found, in use, EX_CONFIG: starting again would change nothing.
CONFIGURATION_CODES = frozenset({2, 3, 4, 78})


class State(StrEnum):
    """What a run is doing, as state.json and `status` name it."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    BACKING_OFF = "backing_off"
    STALLED = "stalled"
    STOPPING = "stopping"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


ENDED = frozenset({State.FINISHED, State.FAILED, State.STOPPED})
ACTIVE = frozenset(State) - ENDED

# A trainer may end in any state that has one, and ENDED is for ever: continuing an ended run
# makes a new one (`start --from`). STOPPING leads out only: a stop is not taken back.
_NEXT: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.RUNNING, State.STALLED, State.BACKING_OFF, State.STOPPING})
    | ENDED,
    State.RUNNING: frozenset({State.PAUSED, State.STALLED, State.BACKING_OFF, State.STOPPING})
    | ENDED,
    State.PAUSED: frozenset({State.STARTING, State.RUNNING, State.STALLED, State.BACKING_OFF})
    | frozenset({State.STOPPING})
    | ENDED,
    State.STALLED: frozenset({State.RUNNING, State.BACKING_OFF, State.STOPPING}) | ENDED,
    State.BACKING_OFF: frozenset({State.STARTING, State.STOPPED, State.FAILED}),
    State.STOPPING: ENDED,
    **{state: frozenset() for state in ENDED},
}


class TransitionError(Exception):
    """A state that cannot follow another: a bug of whoever asked, never a person's mistake."""


def enter(state: State, new: State) -> State:
    """`new`, if it may follow `state`.

    Raises:
        TransitionError: It may not.
    """
    if new not in _NEXT[state]:
        raise TransitionError(f"{new} cannot follow {state}")
    return new


def backoff_seconds(failures: int, jitter: float) -> float:
    """How long to wait after the nth failure in a row.

    Doubles from 1 s to 60 s; `jitter` (0 to 1) spreads it over 50% to 100% of that, so that runs
    which one full disk or lost GPU brought down do not all come back in the same second.
    """
    doublings = min(max(failures, 1) - 1, 16)
    longest = min(_LONGEST_BACKOFF_SECONDS, math.ldexp(_FIRST_BACKOFF_SECONDS, doublings))
    return longest * (0.5 + 0.5 * jitter)


def failures_in_a_row(before: int, *, new_checkpoint: bool) -> int:
    """The count with one more failure: progress that survives starts it anew."""
    return 1 if new_checkpoint else before + 1


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt of the trainer ended.

    Attributes:
        code: Its exit code; None when a signal ended it, or nobody saw.
        signal: The signal's number, or None.
        said: Its log's own reason (`Run failed: ...`), or None.
        said_finished: The log's last word is `Run finished`.
        cause: What its last lines, or the kernel, tell of a death it did not explain, or None.
        error: Why it could not even be started, or None.
        is_permanent: `error` would come back at every start.
        was_told: It was told to end, so that it can be started again: an exit code of 0 says no
            more than that it obeyed.
        is_cut_off: A reboot ended it, which is no failure of its own.
    """

    code: int | None = None
    signal: int | None = None
    said: str | None = None
    said_finished: bool = False
    cause: str | None = None
    error: str | None = None
    is_permanent: bool = False
    was_told: bool = False
    is_cut_off: bool = False

    @property
    def signal_name(self) -> str | None:
        """`SIGKILL`, or None when no signal ended it."""
        return None if self.signal is None else signal_name(self.signal)

    @property
    def is_finished(self) -> bool:
        """It did all it had to do; the log is asked only where no exit code was seen."""
        is_unseen = self.code is None and self.signal is None and self.error is None
        if is_unseen or (self.was_told and self.code == 0):
            return self.said_finished
        return self.code == 0

    @property
    def reason(self) -> str:
        """One line for a person: what it said itself, else what was seen from outside."""
        seen = self._seen() if self.cause is None else f"{self.cause} ({self._seen()})"
        return self.said or self.error or seen

    def _seen(self) -> str:
        if self.signal is not None:
            return _SIGNAL_WORDS.get(self.signal, f"killed by {signal_name(self.signal)}")
        if self.code is None:
            return REBOOTED if self.is_cut_off else "ended while no supervisor watched"
        # How shells report the signal that ended what they ran.
        if self.code > 128 and (name := signal_name(self.code - 128)).startswith("SIG"):
            return f"exit code {self.code} ({name})"
        return f"exit code {self.code}"


_SIGNAL_WORDS: Mapping[int, str] = {
    signal.SIGSEGV: "segmentation fault (SIGSEGV)",
    signal.SIGABRT: "aborted (SIGABRT)",
    signal.SIGBUS: "bus error (SIGBUS)",
    signal.SIGFPE: "arithmetic error (SIGFPE)",
    signal.SIGILL: "illegal instruction (SIGILL)",
}


_CAUSES = (
    ("CUDA out of memory", re.compile(r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError")),
    ("NCCL error", re.compile(r"NCCL (error|WARN|timeout)|ncclUnhandledCudaError|ncclSystemError")),
    ("CUDA error", re.compile(r"CUDA error: |device-side assert")),
    (
        "out of memory",
        re.compile(r"^(\| )?(MemoryError|std::bad_alloc)|DefaultCPUAllocator: can't"),
    ),
)


def cause_in(lines: Sequence[str]) -> str | None:
    """What an attempt's last lines tell of its death; None where they tell nothing we know."""
    for cause, pattern in _CAUSES:
        if any(pattern.search(line) for line in lines):
            return cause
    return None


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a run, and why in one line; no reason for a run that finished."""

    state: State
    reason: str | None


def judge(
    ending: Ending, *, stop_asked: bool, failures: int, restart_asked: bool = False
) -> Verdict:
    """What becomes of a run whose attempt ended so.

    Args:
        ending: How.
        stop_asked: Somebody asked for the run's stop before.
        failures: Failures in a row without a new complete checkpoint, this one included.
        restart_asked: It was ended to be started again: no failure, however it ended.
    """
    if ending.is_finished:
        return Verdict(State.FINISHED, None)
    if stop_asked:
        return Verdict(State.STOPPED, _stop_reason(ending))
    if ending.code in CONFIGURATION_CODES or ending.is_permanent:
        return Verdict(State.FAILED, ending.reason)
    if restart_asked or ending.is_cut_off:
        return Verdict(State.BACKING_OFF, ending.reason)
    if failures >= CRASH_LOOP_FAILURES:
        return Verdict(
            State.FAILED,
            f"crash loop: {failures} failures in a row without a new checkpoint, "
            f"the last: {ending.reason}",
        )
    return Verdict(State.BACKING_OFF, ending.reason)


def _stop_reason(ending: Ending) -> str:
    as_asked = ending.signal == signal.SIGTERM or ending.code == 128 + signal.SIGTERM
    return "stopped as asked" if as_asked else f"stopped as asked ({ending.reason})"
