"""A run's control/ as the daemon sees it: decisions on their way there, and what is found there.

Nothing is folded or stored here: that is `run_watch`'s, in the order in which it is told.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from maxrl_ops import control_writer
from maxrl_ops.core.decision import Decision, ForeignControl, Published, Scalar, Superseded
from maxrl_ops.core.in_force import CONTROLLED, InForce, with_changes
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.state import State
from maxrl_ops.hearing import Stamp, stamp_of
from maxrl_ops.log_files import RenamingError, rotated
from maxrl_ops.own_log import say
from maxrl_ops.wire import control
from maxrl_ops.wire.control import Control, RevisionTakenError
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.record import RunStarted
from maxrl_ops.wire.rundir import RunDir, open_regular

_ITERATION = re.compile(rb"^Iteration (\d{1,9})\b", re.M)
_TAIL = 256 * 1024
# A full disk is not asked four times a second.
_RETRY_SECONDS = 5.0
# A directory that has changed may change again within one tick of its file system's clock.
_CLOCK_SECONDS = 1.0


class RunControls:
    """Of one run.

    Attributes:
        newest: The newest control that the history knows of, 0 before the first.
        intended: Decisions that are not out yet, oldest first.
        rejected: Revisions that the trainer did not follow.
    """

    def __init__(
        self,
        run: RunDir,
        intended: list[Decision],
        newest: int,
        is_frozen: Callable[[], bool],
    ) -> None:
        """Go on from what the history knows; `is_frozen`: whether the host's autopilot is."""
        self.newest, self.intended = newest, intended
        self.rejected: set[int] = set()
        self._run, self._is_frozen = run, is_frozen
        # Why control/ could not be used, as said last; not tried again before this (monotonic).
        self._refusal: str | None = None
        self._retry_at = 0.0
        # The directory's stamp, since when it is so (monotonic), and whether all there is known.
        self._stamp: Stamp | None = None
        self._since, self._is_known = 0.0, False

    def attend(self, deed: Callable[[], bool]) -> bool:
        """Do something in control/; where that cannot be read or written, say so once.

        The log is read on meanwhile, and what is intended is tried again later.
        """
        if self._retry_at and time.monotonic() < self._retry_at:
            return False
        try:
            is_done = deed()
        except OSError as error:
            place = Path(error.filename or self._run.control)
            if place.name.startswith("."):
                # Written aside, under another name at each attempt.
                place = place.parent
            problem = f"{place}: {error.strerror or error}"
            if problem != self._refusal:
                say(f"{self._run.name}: controls have to wait: {problem}")
            self._refusal, self._is_known = problem, False
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return False
        if self._refusal is not None:
            say(f"{self._run.name}: controls need not wait any more")
        self._refusal = None
        return is_done

    # --- What is found ----------------------------------------------------------------------------

    def has_changed(self) -> bool:
        """Something may have come that was not found yet; a stamp is cheaper than a list."""
        stamp, now = stamp_of(self._run.control), time.monotonic()
        if stamp != self._stamp:
            self._stamp, self._since, self._is_known = stamp, now, False
        if self._is_known:
            return False
        # Whoever asks looks at once.
        self._is_known = stamp is not None and now - self._since > _CLOCK_SECONDS
        return True

    def found(
        self, state: State, started: RunStarted | None, highest: int | None = None
    ) -> list[Published | ForeignControl]:
        """Controls up to `highest` that were not known, the oldest first; known from now on.

        All are read before the first is folded: what is folded must be stored.
        """
        found: list[Published | ForeignControl] = []
        for revision in control.revisions(self._run.control, above=self.newest):
            if highest is None or revision <= highest:
                found.append(self._found(revision, found, state, started))
        self.newest = max([self.newest, *(each.revision for each in found)])
        return found

    def _found(
        self,
        revision: int,
        before: Sequence[Published | ForeignControl],
        state: State,
        started: RunStarted | None,
    ) -> Published | ForeignControl:
        """What a control is; `before` are those that were found just before it."""
        at = max(newest_iteration(self._run.log), replayed_until(self._run))
        found = control.read(self._run.control, revision)
        if found is None:
            # The trainer's answer will say why it cannot be read.
            return ForeignControl(revision, "unknown", at)
        ours = [decision for decision in self.intended if decision.intent == found.intent]
        if ours:
            self.intended.remove(ours[0])
            return Published(found.intent, revision, at)
        approved = {each.intent for each in before if isinstance(each, Published)}
        if found.intent in state.suggested and found.intent not in approved:
            return Published(found.intent, revision, at)
        changes = self._changes_of(found, started)
        return ForeignControl(revision, found.author, at, found.time, changes, found.reason)

    def _changes_of(self, found: Control, started: RunStarted | None) -> dict[str, Scalar]:
        """What a control changes of what was wished before it; all of it where that is unknown."""
        wanted = _told_by(found) | {"lifecycle": found.lifecycle}
        known = self._wished_before(found.revision, started)
        changes = {key: value for key, value in wanted.items() if known.get(key) != value}
        return changes or wanted

    def _wished_before(self, revision: int, started: RunStarted | None) -> dict[str, Scalar]:
        """The training state that a control was written on top of, as far as it is known."""
        for before in reversed(control.revisions(self._run.control)):
            if before >= revision or before in self.rejected:
                continue
            if (found := control.read(self._run.control, before)) is not None:
                return _told_by(found)
        return {"lifecycle": "run"} | ({} if started is None else InForce.at_start(started).known())

    # --- What is published ------------------------------------------------------------------------

    def publish(
        self, decision: Decision, state: State, policy: Policy, *, is_over: bool
    ) -> Published | Superseded:
        """Bring a decision out, or say why not.

        Args:
            decision: One that the log's newest iterations led to.
            state: The autopilot's.
            policy: The one in force.
            is_over: Nobody trains the run any more.

        Raises:
            OSError: control/ cannot be read or written.
        """
        at = max(newest_iteration(self._run.log), decision.iteration)
        for revision in control.revisions(self._run.control, above=decision.base_revision):
            found = control.read(self._run.control, revision)
            if found is not None and found.intent == decision.intent:
                # Published by a daemon that was killed before it could write that down.
                return self._published(decision, revision, at)
        why = self._objection(decision, at, policy, is_over=is_over)
        wished = control_writer.wished(self._run, state.in_force, state.revision)
        if why is None and wished is None:
            why = "the log does not tell the whole training state"
        if why is not None or wished is None:
            return Superseded(decision.intent, at, why or "")
        revision = decision.base_revision + 1
        training = {key: new for key, new in decision.changes.items() if key in CONTROLLED}
        restart_from = decision.changes.get("restart_from")
        wish = Control(
            revision=revision,
            base_revision=decision.base_revision,
            state=with_changes(wished, training),
            author=f"rule:{decision.rule}",
            reason=decision.because,
            time=utc_now(),
            lifecycle=str(decision.changes.get("lifecycle", control_writer.lifecycle(self._run))),
            intent=decision.intent,
            restart_from=None if restart_from is None else int(restart_from),
        )
        try:
            control.publish(self._run.control, wish)
        except RevisionTakenError:
            return Superseded(decision.intent, at, f"revision {revision} came first")
        return self._published(decision, revision, at)

    def _published(self, decision: Decision, revision: int, at: int) -> Published:
        return Published(decision.intent, revision, max(at, replayed_until(self._run)))

    def _objection(
        self, decision: Decision, at: int, policy: Policy, *, is_over: bool
    ) -> str | None:
        """Why a decision is not to be published any more."""
        if self._is_frozen():
            return "the autopilot of this host was frozen"
        if is_over:
            return "the run is over"
        if at > decision.iteration + policy.limits.stale_after:
            return f"the run had come to iteration {at} when this was decided"
        later = control.revisions(self._run.control, above=decision.base_revision)
        return f"revision {later[-1]} came first" if later else None


def _told_by(found: Control) -> dict[str, Scalar]:
    """Everything that a control leaves wished: a checkpoint is saved once, and the run goes on."""
    lifecycle = "run" if found.lifecycle == "checkpoint" else found.lifecycle
    state = {key: getattr(found.state, key) for key in found.state.__slots__}
    return {**state, "lifecycle": lifecycle}


def newest_iteration(log: Path) -> int:
    """The last iteration that the log tells of, 0 where it tells none: its end is enough."""
    if (found := _iteration_at_end(log)) is not None:
        return found
    # It has just been rotated.
    with suppress(RenamingError):
        for earlier in reversed(rotated(log)):
            if (found := _iteration_at_end(earlier.path)) is not None:
                return found
    return 0


def _iteration_at_end(log: Path) -> int | None:
    try:
        with open_regular(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            found = _ITERATION.findall(file.read(_TAIL))
    except FileNotFoundError:
        return None
    return int(found[-1]) if found else None


def replayed_until(run: RunDir) -> int:
    """The iteration up to which a resumed trainer uses its record, without a look at control/."""
    return max((applied.iteration for applied in control.read_applied(run.applied)), default=0)
