"""A trainer that stands still: found, made to tell what it does, and ended, to be started again."""

import math
import time

from maxrl_ops import stacks
from maxrl_ops.attempt import Attempt
from maxrl_ops.core.run_state import State
from maxrl_ops.core.stall import StallWatch
from maxrl_ops.state_file import StateFile
from maxrl_ops.tuning import Tuning
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir

# What a process needs to write its stacks down.
_STACKS_SECONDS = 0.2
# state.json is written anew where the longest iteration has grown by so much, and not at each.
_WORTH_KEEPING = 1.1


class Standstill:
    """Watches over one attempt after the other.

    Attributes:
        reason: Why the attempt is being ended, in one line; None while it moves.
    """

    def __init__(self, run: RunDir, spec: RunSpec, tuning: Tuning, file: StateFile) -> None:
        """Watch on where the state says that an earlier supervisor has watched."""
        self._run, self._spec, self._tuning, self._file = run, spec, tuning, file
        self.reason: str | None = None
        self._watch = StallWatch(tuning.stall, time.monotonic(), file.value.longest)
        self._told_at = self._deadline = 0.0
        self._is_told = False

    def begin(self, first_iteration: int) -> None:
        """Another attempt begins, with that iteration."""
        self.reason = None
        self._watch = StallWatch(
            self._tuning.stall, time.monotonic(), first_iteration=first_iteration
        )

    def go_on(self) -> None:
        """Who found that it stands still was cut off; what is left is to end it."""
        self._end(self._file.value.exit_reason or "stalled", 0.0)

    def look(self, attempt: Attempt) -> bool:
        """Look at a trainer that lives; whether it has to be killed, for it does not end."""
        now = time.monotonic()
        if self.reason is not None:
            if not self._is_told and now >= self._told_at:
                self._is_told = True
                attempt.terminate()
            return now >= self._deadline
        mark, beat = attempt.progress()
        still = self._watch.look(
            now,
            mark,
            None if beat is None else beat.iteration,
            is_paused=beat is not None and beat.phase == "pause",
            is_loading=beat is None or beat.phase == "load",
        )
        if still is None:
            self._keep()
            return False
        where = "" if beat is None else f" in phase {beat.phase} of iteration {beat.iteration}"
        # TERM comes second: it may end a process before that has told its stacks.
        self._end(f"stalled: no progress for {still:.0f} s{where}", _STACKS_SECONDS)
        self._file.become(State.STALLED, exit_reason=self.reason)
        stacks.dump(self._run, self._spec, attempt.identity)
        attempt.wake()
        return False

    def next_deadline(self) -> float:
        """When it is told or killed next (monotonic seconds), while there is a reason to."""
        if self.reason is None:
            return math.inf
        return self._deadline if self._is_told else self._told_at

    def _end(self, reason: str, after: float) -> None:
        self.reason, self._is_told = reason, False
        self._told_at = time.monotonic() + after
        self._deadline = self._told_at + self._tuning.stall_grace

    def _keep(self) -> None:
        """Who adopts the trainer has not seen how long its iterations take."""
        longest, kept = self._watch.longest, self._file.value.longest
        if longest is not None and (kept is None or longest > _WORTH_KEEPING * kept):
            self._file.change(longest=longest)
