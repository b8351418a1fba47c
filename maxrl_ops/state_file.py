"""state.json as its supervisor keeps it: every change at once, or as soon as the disk lets it."""

from dataclasses import replace
from typing import Any

from maxrl_ops.core.run_state import ENDED, State, enter
from maxrl_ops.own_log import say
from maxrl_ops.wire.documents import SupervisorState, utc_now
from maxrl_ops.wire.rundir import DocumentError, RunDir


def state_before(run: RunDir) -> SupervisorState:
    """What an earlier supervisor left.

    Raises:
        DocumentError: It cannot be understood: better none than a second trainer.
    """
    try:
        before = SupervisorState.load(run)
        State(before.state)
    except FileNotFoundError:
        return SupervisorState(state=State.STARTING, since=utc_now())
    except ValueError as error:
        raise DocumentError(f"{error}; if nothing trains {run.name}, remove {run.state}") from None
    return before


class StateFile:
    """A run's state and its file.

    Attributes:
        value: What holds now, whether or not it could be written.
        is_saved: The file says the same, on disk.
        is_refused: The disk did not take what was written last.
    """

    def __init__(self, run: RunDir, value: SupervisorState) -> None:
        self.value = value
        self.is_saved = True
        self.is_refused = False
        self._run = run

    @property
    def state(self) -> State:
        """The run's state."""
        return State(self.value.state)

    @property
    def has_ended(self) -> bool:
        """The run is over."""
        return self.state in ENDED

    def become(self, state: State, *, durable: bool = True, **changes: Any) -> None:
        """Enter `state`, with other changes that belong to it; say so in the supervisor's log.

        Raises:
            TransitionError: It cannot follow the present one.
        """
        if state is not self.state:
            enter(self.state, state)
            changes["since"] = utc_now()
        # Said first: who has seen the state finds its line in the log.
        attempt, reason = changes.get("attempt", self.value.attempt), changes.get("exit_reason")
        say(f"attempt {attempt} {state}" + (f": {reason}" if reason else ""))
        self.change(durable=durable, state=str(state), **changes)

    def change(self, *, durable: bool = True, **changes: Any) -> None:
        """Change fields, and save.

        Not `durable`: for every process to see at once, and on disk with the next `save`. The disk
        takes tens of milliseconds for each, and a trainer waits to be started again.
        """
        self.value = replace(self.value, **changes)
        self.is_saved = False
        self.save(durable=durable)

    def save(self, *, durable: bool = True) -> None:
        """Write what is not written yet; a full disk is said once, and stops no training."""
        if self.is_saved:
            return
        try:
            self.value.save(self._run, durable=durable)
        except OSError as error:
            if not self.is_refused:
                say(f"{self._run.state} cannot be written, trying again: {error.strerror}")
            self.is_refused = True
            return
        if self.is_refused:
            say(f"{self._run.state} is written again")
        self.is_saved, self.is_refused = durable, False
