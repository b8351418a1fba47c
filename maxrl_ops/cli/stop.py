"""`stop`: ask supervisors to end their runs at the next iteration, and wait until they have."""

import dataclasses
import os
import signal
import sys
import time

from maxrl_ops import locks, processes
from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import active, home, named, names, refuse_attached
from maxrl_ops.core.printable import one_line
from maxrl_ops.core.run_state import State, enter
from maxrl_ops.run_reader import Life, life_of
from maxrl_ops.wire.documents import SupervisorState, utc_now
from maxrl_ops.wire.rundir import RunDir, replace

_POLL_SECONDS = 0.1


def stop(name: str | None, *, every: bool, timeout: float) -> int:
    """Stop the run called `name`, the only active one, or every one."""
    runs = _chosen(name, every=every)
    if not runs:
        sys.stdout.write("No run is active.\n")
        return ExitCode.OK
    # All are asked before any is waited for: they end side by side.
    asked = [run for run in runs if _ask(run)]
    try:
        _wait(asked, timeout)
    except KeyboardInterrupt:
        sys.stdout.write(f"\nNo longer waiting; still stopping: {names(asked)}\n")
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _chosen(name: str | None, *, every: bool) -> list[RunDir]:
    if name is not None and every:
        raise CommandError("give a run's NAME or --all, not both")
    if name is not None:
        run = named(name)
        refuse_attached(run)
        return [run]
    candidates = active()
    if len(candidates) > 1 and not every:
        raise CommandError(f"which run? {names(candidates)} are active; --all stops them all")
    return candidates


def _ask(run: RunDir) -> bool:
    """Tell the run's supervisor; whether there is an end to wait for."""
    life = _life_soon(run)
    if life.state is None:
        sys.stdout.write(f"{run.name} was never started.\n")
        return False
    if life.has_ended:
        sys.stdout.write(f"{run.name} is not running: it has {_ended(life.state)} already.\n")
        if life.state.state == State.FAILED:
            _acknowledge(run)
        return False
    if not life.is_active:
        _retire(run, life.state)
        return False
    if not life.supervisor_alive:
        # Only a supervisor stops a trainer: it waits for the checkpoint, and kills the whole group.
        life = supervising.revive(home(), run)
    if life.supervisor_alive and life.state is not None and life.state.supervisor is not None:
        # Not SIGTERM, which a shutdown sends to everybody.
        processes.send_signal(life.state.supervisor, signal.SIGINT)
    return True


def _retire(run: RunDir, state: SupervisorState) -> None:
    """Write down that a run which nobody trains is over: no boot and no daemon takes it up."""
    found = f"{run.name} is not running: its supervisor and trainer are gone"
    if state.host != processes.boot().host:
        # On storage that another machine sees too, it may go on there.
        sys.stdout.write(f"{found}.\n")
        return
    with supervising.as_owner(home()):
        try:
            held = locks.acquire(run.supervisor_lock)
        except locks.LockHeldError as error:
            raise CommandError(f"{run.name}: {error}", ExitCode.IN_USE) from None
        try:
            stopped = enter(State(state.state), State.STOPPED)
            reason = "stopped as asked, when nothing trained it"
            dataclasses.replace(
                state, state=str(stopped), since=utc_now(), trainer=None, exit_reason=reason
            ).save(run)
        finally:
            os.close(held)
    sys.stdout.write(f"{found}; it is over now.\n")


def _acknowledge(run: RunDir) -> None:
    """Write down that somebody knows: alerts and series of a failed run end with that."""
    if run.acknowledged.exists():
        return
    try:
        replace(run.acknowledged, f"uid {os.getuid()} at {utc_now()}\n".encode())
    except OSError as error:
        raise CommandError(f"{run.acknowledged}: {error.strerror}", ExitCode.BAD) from None
    sys.stdout.write(f"{run.name}: acknowledged; its alerts end.\n")


def _ended(state: SupervisorState) -> str:
    return {"stopped": "been stopped"}.get(state.state, str(state.state))


def _life_soon(run: RunDir) -> Life:
    """The life of a run that may have been started this very moment."""
    deadline = time.monotonic() + supervising.BIRTH_SECONDS
    while (life := life_of(run)).state is None and time.monotonic() < deadline:
        if time.time() - run.path.stat().st_mtime > supervising.BIRTH_SECONDS:
            break
        time.sleep(_POLL_SECONDS)
    return life


def _wait(runs: list[RunDir], timeout: float) -> None:
    """Wait until every run has ended, and say each.

    Raises:
        CommandError: Some have not by then; they go on stopping.
    """
    pending, deadline = list(runs), time.monotonic() + timeout
    while pending:
        for run in list(pending):
            if (outcome := _outcome(run)) is not None:
                sys.stdout.write(f"{run.name} {outcome}.\n")
                sys.stdout.flush()
                pending.remove(run)
        if pending and time.monotonic() >= deadline:
            raise CommandError(
                f"{names(pending)} not stopped within {timeout:g} s; still stopping, "
                f"see maxrl-ops status",
                ExitCode.BAD,
            )
        if pending:
            time.sleep(_POLL_SECONDS)


def _outcome(run: RunDir) -> str | None:
    """How a run that was asked to stop has ended, None while it has not."""
    life = life_of(run)
    if life.is_active:
        return None
    if life.state is None or not life.has_ended:
        return "is gone"
    if life.state.state == "failed":
        return one_line(f"failed: {life.state.exit_reason or 'no reason given'}")
    return str(life.state.state)
