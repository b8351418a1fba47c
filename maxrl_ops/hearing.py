"""What the daemon hears about one run beside its log and control/, as events to be stored.

Another policy, a freeze of the host, another mode, declined suggestions: each is an event before
the first one that it governs, so that the stored events alone give the same decisions again.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from maxrl_ops import operator_files
from maxrl_ops.core.decision import Declined, Frozen, Input, ModeSet, PolicyChanged
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.policy_table import table_of
from maxrl_ops.core.state import State
from maxrl_ops.own_log import say
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.rundir import DocumentError, RunDir


class Stamp(NamedTuple):
    """By which a file that is replaced whole is known; an inode alone is soon given out again."""

    inode: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """What no other file of that name has; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked of each run, for as long as it is there
    except FileNotFoundError:
        return None
    return Stamp(status.st_ino, status.st_mtime_ns)


class Hearing:
    """Of one run.

    Attributes:
        policy: The one to judge by from now on.
        is_frozen: Whether the host's autopilot is, now.
    """

    def __init__(self, run: RunDir, policy: Policy, is_frozen: Callable[[], bool]) -> None:
        self.policy, self.is_frozen = policy, is_frozen
        self._run = run
        # What mode.json was when it was read last.
        self._mode_stamp: Stamp | None = None

    def has_news(self, state: State, policy: Policy | None, *, is_frozen: bool) -> bool:
        """Whether `heard` might give something; `is_frozen`: as the host was a moment ago."""
        return (
            is_frozen != state.is_frozen
            or (self.policy is not policy and self.policy != policy)
            or stamp_of(self._run.mode) != self._mode_stamp
            or any(operator_files.is_declined(self._run, intent) for intent in state.suggested)
        )

    def heard(self, state: State, policy: Policy | None, *, is_frozen: bool) -> Iterator[Input]:
        """What is not so yet in that state, under that policy (None: none was told yet).

        `is_frozen`: as the host was a moment ago. Each is to be folded before the next is asked
        for.
        """
        at = state.iteration
        if self.policy is not policy and self.policy != policy:
            yield PolicyChanged(table_of(self.policy), at, utc_now())
        if is_frozen != state.is_frozen:
            yield Frozen(is_frozen, at)
        if (mode := self._other_mode(state)) is not None:
            yield mode
        for intent in list(state.suggested):
            if operator_files.is_declined(self._run, intent):
                yield Declined(intent, at)

    def _other_mode(self, state: State) -> ModeSet | None:
        """What mode.json says, where that is another than the one in force."""
        stamp = stamp_of(self._run.mode)
        if stamp == self._mode_stamp:
            return None
        self._mode_stamp = stamp
        try:
            found = operator_files.mode_of(self._run)
        except (DocumentError, OSError) as error:
            say(f"{self._run.name}: its mode stays {state.mode}: {error}")
            return None
        if found is None or found[0] is state.mode:
            return None
        mode, wish = found
        return ModeSet(mode, state.iteration, wish.author, wish.time)
