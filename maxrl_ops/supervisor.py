"""`python -P -m maxrl_ops.supervisor RUN_DIR`: starts, watches, restarts and stops one trainer.

Light: neither torch nor typer. It outlives whoever spawned it; one that is killed may be spawned
again, and adopts the trainer it finds.
"""

import faulthandler
import math
import os
import random
import select
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from maxrl_ops import detached, environment_file, locks, processes, reaping
from maxrl_ops.actuating import Actuator, why_restarted
from maxrl_ops.attempt import (
    Attempt,
    ending_not_started,
    ending_unseen,
    kill_remains,
    newest_checkpoint,
)
from maxrl_ops.core.interruption import is_cut_off
from maxrl_ops.core.run_state import (
    ENDED,
    Ending,
    State,
    backoff_seconds,
    failures_in_a_row,
    judge,
)
from maxrl_ops.environment_file import EnvironmentFileError
from maxrl_ops.notify import Notifier, is_service
from maxrl_ops.own_log import say
from maxrl_ops.standstill import Standstill
from maxrl_ops.state_file import StateFile, state_before
from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.tuning import Tuning
from maxrl_ops.wire.control import Control, newest_answered, read_newest
from maxrl_ops.wire.documents import Exit, RunSpec, SupervisorState, utc_now
from maxrl_ops.wire.rundir import DocumentError, RunDir, is_run_name
from maxrl_ops.wire.settings import SettingError

_TICK_SECONDS = 0.25
# How long a person who asks twice has to wait.
_SHORT_GRACE_SECONDS = 10.0
_KEPT_EXITS = 20
# The kernel needs a moment to bury what was killed, and its locks.
_LOCK_SECONDS = 2.0
_OK, _FAILED, _CONFIGURATION, _NOT_FOUND, _IN_USE, _NOT_UP = range(6)
# Of sysexits.h. systemd starts us again after a bug, but neither after a run that has failed nor
# after a mistake of a person's.
_BUG, _CONFIGURATION_OF_SERVICE = 70, 78


class Supervisor:
    """One run's supervisor, from taking over to the run's end."""

    def __init__(
        self,
        run: RunDir,
        spec: RunSpec,
        state: SupervisorState,
        tuning: Tuning,
        manager: Notifier,
    ) -> None:
        """Prepare to go on from `state`; the caller holds the run's supervisor lock."""
        self._run, self._spec, self._tuning, self._manager = run, spec, tuning, manager
        self._file = StateFile(run, state)
        # Of a unit's stop it is told by SIGUSR2, of a shutdown as everybody is.
        self._signals = StopSignals(term_suspends=spec.restart_on_boot)
        self._lock: int | None = None
        self._attempt: Attempt | None = None
        self._due = 0.0
        # Of state.json, where an earlier supervisor had counted: its crash loop is ours.
        is_counted = state.progress is not None
        self._failures = state.failures if is_counted else 0
        self._checkpoint = newest_checkpoint(run) if state.progress is None else state.progress
        self._control = 0
        self._actuator = Actuator(run, spec)
        self._stop_signals = 0
        self._stop_deadline: float | None = None
        # The control that the trainer ends for, to begin again elsewhere.
        self._restart: Control | None = None
        self._restart_deadline = 0.0
        self._is_killed = self._is_suspended = self._is_up = False
        # The next attempt goes on where one was cut off or suspended: it follows no failure.
        self._goes_on = False
        self._standstill = Standstill(run, spec, tuning, self._file)

    def supervise(self) -> int:
        """Run to the end; the process's exit code.

        Raises:
            LockHeldError: Somebody trains this run whom no supervisor started.
        """
        self._take_over()
        while not self._file.has_ended and not (self._is_suspended and self._attempt is None):
            self._heed_wishes()
            if self._attempt is not None and self._attempt.has_ended():
                self._conclude(self._attempt)
            # At once, where it need not wait.
            if self._attempt is None:
                self._start_when_due()
            else:
                self._follow(self._attempt)
            self._file.save()
            reaping.bury(None if self._attempt is None else self._attempt.identity.pid)
            self._tell_manager()
            self._sleep()
        self._see_it_saved()
        return _FAILED if self._file.state == State.FAILED else _OK

    # --- What was before ------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Go on where an earlier supervisor, if any, was cut off."""
        before = self._file.value
        self._attempt = Attempt.adopt(self._run, before.trainer)
        if self._attempt is None and before.trainer is not None:
            kill_remains(self._run, before.trainer)
            reaping.kill_orphans(self._run, of_ours=False)
        # An adopted trainer holds the lock, as a rule; it is taken when that one has ended.
        self._lock = self._take_lock(0.0 if self._attempt else _LOCK_SECONDS)
        if self._attempt is None and self._lock is None:
            raise locks.LockHeldError(
                f"{self._run.lock} is held, and {self._run.state.name} names no living trainer: "
                f"find who holds it (fuser {self._run.lock}) and end that first"
            )
        here = processes.boot()
        is_rebooted = is_cut_off(before, here)
        self._file.change(
            supervisor=processes.identity_of(os.getpid()),
            tuning=self._tuning.to_keep(),
            host=here.host,
        )
        if before.state == State.STOPPING:
            # The trainer was told; told twice, it would leave without its checkpoint.
            self._stop_deadline = time.monotonic() + self._tuning.stop_grace
        self._restart = self._actuator.ended_for(before.exit_reason)
        self._restart_deadline = time.monotonic() + self._tuning.stop_grace
        if self._attempt is not None and before.state == State.STALLED:
            self._standstill.go_on()
        if self._attempt is not None:
            say(f"adopted the trainer, pid {self._attempt.identity.pid}")
        elif before.attempt and before.state != State.BACKING_OFF:
            self._goes_on = is_rebooted
            self._judge(replace(ending_unseen(self._run), is_cut_off=is_rebooted))
        else:
            self._goes_on = before.suspended

    def _take_lock(self, patience: float) -> int | None:
        deadline = time.monotonic() + patience
        while True:
            try:
                return locks.acquire(self._run.lock)
            except locks.LockHeldError:
                if time.monotonic() >= deadline:
                    return None
                time.sleep(0.05)

    # --- One turn of the loop -------------------------------------------------------------------

    def _heed_wishes(self) -> None:
        signals = self._signals.take()
        self._stop_signals += signals
        newest = self._new_control()
        is_stop = bool(signals) or (newest is not None and newest.lifecycle == "stop")
        if is_stop and (self._stop_deadline is None or self._is_suspended):
            self._stop()
        elif self._signals.suspend_asked and self._stop_deadline is None:
            self._suspend()
        elif newest is not None and newest.lifecycle == "restart_from":
            self._expect_restart(newest)
        else:
            self._end_for_control()
        if self._stop_deadline is not None and self._stop_signals > 1:
            soon = time.monotonic() + _SHORT_GRACE_SECONDS
            self._stop_deadline = min(self._stop_deadline, soon)

    def _new_control(self) -> Control | None:
        try:
            newest = read_newest(self._run.control, above=self._control).newest
        except OSError:
            return None
        if newest is not None:
            self._control = newest.revision
        return newest

    def _expect_restart(self, newest: Control) -> None:
        """Our trainer ends by itself to begin at another checkpoint: that is no failure."""
        if self._attempt is None or self._spec.command or self._is_answered(newest):
            return
        self._restart = newest
        self._restart_deadline = time.monotonic() + self._tuning.stop_grace

    def _end_for_control(self) -> None:
        """End a trainer that cannot read what control/ asks for: the next one begins with it."""
        with suppress(OSError):
            self._actuator.look()
        wish, stall = self._actuator.wish, self._standstill.reason
        is_told = self._stop_deadline or stall or self._restart
        if wish is None or self._attempt is None or is_told:
            return
        self._restart = wish
        self._restart_deadline = time.monotonic() + self._tuning.stop_grace
        # Saved before it is sent: a supervisor that adopts must not tell it again.
        self._file.change(exit_reason=why_restarted(wish))
        self._attempt.terminate()

    def _see_to_restart(self, attempt: Attempt) -> None:
        """Kill a trainer that does not end for it in time; forget it where it was rejected."""
        if self._restart is None:
            return
        if not self._spec.actuate and self._is_answered(self._restart):
            self._restart = None
        elif time.monotonic() >= self._restart_deadline:
            self._kill(attempt)

    def _is_answered(self, control: Control) -> bool:
        try:
            return newest_answered(self._run.applied) >= control.revision
        except OSError:
            return False

    def _stop(self) -> None:
        self._stop_deadline = time.monotonic() + self._tuning.stop_grace
        if self._attempt is None:
            self._file.become(State.STOPPED, exit_reason="stopped as asked")
            return
        # Saved before it is sent: a supervisor that adopts must not restart what it has stopped.
        self._file.become(State.STOPPING)
        self._tell_to_end(self._attempt)
        self._is_suspended = False

    def _tell_to_end(self, attempt: Attempt) -> None:
        """Told twice, the trainer would leave without its checkpoint."""
        if not self._is_suspended and not (self._restart and self._spec.actuate):
            attempt.terminate()

    def _suspend(self) -> None:
        """End the trainer, but not the run: whoever supervises it next goes on with it.

        The state stays what it is until the trainer has ended: were we killed before, the next
        supervisor would adopt a trainer that is leaving, and start it again.
        """
        say("suspended: the trainer is ended, the run is not")
        self._stop_deadline = time.monotonic() + self._tuning.stop_grace
        if self._attempt is not None:
            self._tell_to_end(self._attempt)
        self._is_suspended = True

    def _start_when_due(self) -> None:
        # On a disk that takes nothing it would fail again and again, and for good.
        must_wait = time.monotonic() < self._due or self._file.is_refused
        if self._file.has_ended or self._is_suspended or must_wait:
            return
        self._lock = self._take_lock(0.0) if self._lock is None else self._lock
        if self._lock is None:
            holder = "something the trainer left behind holds it"
            self._wait_a_second(f"waiting for {self._run.lock}: {holder}")
            return
        number = self._file.value.attempt + 1
        try:
            spec, secrets = self._actuator.prepare(number), environment_file.of(self._spec)
        except OSError as error:
            self._wait_a_second(f"waiting for {error.filename or self._run.log}: {error.strerror}")
            return
        except EnvironmentFileError as error:
            self._wait_a_second(f"waiting for another environment file: {error}")
            return
        is_restart = number > 1 and not self._is_restarting and not self._goes_on
        self._file.become(
            State.STARTING,
            durable=False,
            attempt=number,
            restarts=self._file.value.restarts + is_restart,
            stalls=self._file.value.stalls + (self._standstill.reason is not None),
            exit_reason=None,
            suspended=False,
            longest=None,
        )
        self._standstill.begin(max(newest_checkpoint(self._run), 0) + 1)
        self._restart = None
        self._is_killed = self._goes_on = False
        try:
            self._attempt = Attempt.start(self._run, spec, number, self._lock, secrets)
        except OSError as error:
            self._judge(ending_not_started(error))
            return
        except ValueError as error:  # A NUL in the command, say: no kernel will ever take it.
            self._judge(Ending(error=f"cannot be started: {error}", is_permanent=True))
            return
        say(f"attempt {number} started, pid {self._attempt.identity.pid}")
        # Who comes after us must find it, however soon we end.
        self._file.change(durable=False, trainer=self._attempt.identity)
        self._follow(self._attempt)

    def _wait_a_second(self, reason: str) -> None:
        if self._file.value.exit_reason != reason:
            self._file.change(exit_reason=reason)
        self._due = time.monotonic() + 1.0

    def _follow(self, attempt: Attempt) -> None:
        """Look after a trainer that lives."""
        if self._file.state == State.STARTING and (self._spec.command or attempt.has_begun()):
            self._file.become(State.RUNNING)
        if self._stop_deadline is None:
            if self._standstill.look(attempt):
                self._kill(attempt)
            self._see_to_restart(attempt)
        elif time.monotonic() >= self._stop_deadline:
            self._kill(attempt)

    def _kill(self, attempt: Attempt) -> None:
        if not self._is_killed:
            say("the trainer has not stopped in time: killing its group")
        self._is_killed = True
        attempt.kill()

    def _conclude(self, attempt: Attempt) -> None:
        ending, lines = attempt.conclude(), attempt.last_lines()
        if not reaping.kill_orphans(self._run, of_ours=attempt.is_ours):
            say("something that the trainer left behind cannot be killed")
        if self._standstill.reason is not None and self._stop_deadline is None:
            # How it died then is our own doing.
            ending = replace(ending, said=self._standstill.reason)
        elif self._restart is not None and self._is_restarting:
            was_told = self._spec.actuate is not None
            ending = replace(ending, said=why_restarted(self._restart), was_told=was_told)
        self._attempt = None
        if self._is_suspended and not ending.is_finished:
            reason = f"suspended: maxrl-ops resume {self._run.name} goes on with it"
            self._file.become(State.BACKING_OFF, trainer=None, suspended=True, exit_reason=reason)
            return
        self._judge(ending, lines)

    @property
    def _is_restarting(self) -> bool:
        """The trainer's end was asked for by a control, and by nothing else."""
        is_ours = self._standstill.reason is None and self._stop_deadline is None
        return self._restart is not None and is_ours

    def _restart_checkpoint(self, newest: int) -> int:
        control = self._restart
        back = None if control is None else control.restart_from
        return newest if back is None else min(newest, back)

    def _judge(self, ending: Ending, lines: tuple[str, ...] = ()) -> None:
        """Enter the state that follows from how the attempt ended."""
        newest = newest_checkpoint(self._run)
        has_progress = newest > self._checkpoint
        if self._is_restarting:
            # What is saved again on the way is progress again.
            self._failures, self._checkpoint = 0, self._restart_checkpoint(newest)
        elif ending.is_cut_off:
            self._failures, self._checkpoint = 0 if has_progress else self._failures, newest
        else:
            self._failures = failures_in_a_row(self._failures, new_checkpoint=has_progress)
            self._checkpoint = newest
        verdict = judge(
            ending,
            stop_asked=self._stop_deadline is not None,
            failures=self._failures,
            restart_asked=self._is_restarting,
        )
        seen = Exit(
            self._file.value.attempt,
            utc_now(),
            ending.code,
            ending.signal_name,
            ending.reason,
            lines,
        )
        before = tuple(replace(exit_, lines=()) for exit_ in self._file.value.exits)
        if verdict.state == State.BACKING_OFF:
            is_at_once = self._is_restarting or ending.is_cut_off
            pause = 0.0 if is_at_once else backoff_seconds(self._failures, random.random())
            self._due = time.monotonic() + pause * self._tuning.backoff_scale
        self._file.become(
            verdict.state,
            # The next attempt's state, which comes at once or never, is on disk soon enough.
            durable=verdict.state in ENDED,
            trainer=None,
            exits=(*before, seen)[-_KEPT_EXITS:],
            exit_reason=verdict.reason,
            failures=self._failures,
            progress=self._checkpoint,
        )

    def _tell_manager(self) -> None:
        self._manager.alive()
        state = self._file.value
        because = f": {state.exit_reason}" if state.exit_reason else ""
        self._manager.status(f"Attempt {state.attempt} {state.state.replace('_', ' ')}{because}")
        # Also where the first attempt died at once: what is up is that somebody sees to it.
        if not self._is_up and not self._file.has_ended:
            self._is_up = True
            self._manager.ready()

    def _sleep(self) -> None:
        if self._file.has_ended:
            return
        awaited, pause = [self._signals.fileno()], _TICK_SECONDS
        if self._attempt is not None:
            awaited.append(self._attempt.fileno())
            pause = min(pause, max(0.0, self._next_deadline() - time.monotonic()))
        else:
            pause = min(pause, max(0.0, self._due - time.monotonic()))
        select.select(awaited, [], [], pause)

    def _next_deadline(self) -> float:
        """When the trainer is told or killed next (monotonic seconds): a grace ends on time."""
        if self._is_killed:
            return math.inf
        if self._stop_deadline is not None:
            return self._stop_deadline
        if self._standstill.reason is not None:
            return self._standstill.next_deadline()
        return math.inf if self._restart is None else self._restart_deadline

    def _see_it_saved(self) -> None:
        """Wait until the run's end is on disk: who revives us must not start it again."""
        while not self._file.is_saved and self._run.path.is_dir() and not self._signals.take():
            select.select([self._signals], [], [], _TICK_SECONDS)
            self._file.save()
            self._manager.alive()


def spawn(run: RunDir) -> int:
    """Start the run's supervisor, detached from this process and its terminal; its pid.

    Raises:
        OSError: It could not be started.
    """
    module = "maxrl_ops.supervisor"
    return detached.spawn(module, [str(run.path.absolute())], run.supervisor_log)


def main(arguments: list[str]) -> int:
    """Supervise the run that `arguments` names; the process's exit code."""
    arguments = detached.detach_if_asked(arguments)
    # systemd's watchdog ends a loop that stands still by SIGABRT: its log tells where it stood.
    faulthandler.enable()
    if len(arguments) != 1:
        say("usage: python -P -m maxrl_ops.supervisor RUN_DIR")
        return _CONFIGURATION
    try:
        run = RunDir(Path(arguments[0]).absolute())
        return _supervise(run, Notifier.take(os.environ, os.getpid()))
    except locks.LockHeldError as error:
        message, code = str(error), _IN_USE
    except (SettingError, DocumentError) as error:
        message = str(error)
        code = _CONFIGURATION_OF_SERVICE if is_service(os.environ) else _CONFIGURATION
    except FileNotFoundError as error:
        message, code = f"{error.filename}: {error.strerror}", _NOT_FOUND
    except OSError as error:
        message, code = f"{error.filename or 'the run'}: {error.strerror or error}", _NOT_UP
    except Exception:  # noqa: BLE001 - whatever it is, it is no failure of the run
        traceback.print_exc()
        return _BUG
    say(f"supervisor: {message}")
    return code


def _supervise(run: RunDir, manager: Notifier) -> int:
    if not is_run_name(run.name):
        raise DocumentError(f"{run.path}: {run.name!r} is no run's name")
    given = Tuning.of(os.environ)
    spec = RunSpec.load(run)
    # Held until this process ends, however it does.
    locks.acquire(run.supervisor_lock, signed=True)
    state = state_before(run)
    if state.state in ENDED:
        say(f"supervisor: {run.name} has {state.state} already; a new run can continue it")
        manager.ready()
        return _FAILED if state.state == State.FAILED else _OK
    if not reaping.adopt_orphans():
        say("supervisor: cannot become a subreaper: what leaves the trainer's group may outlive it")
    tuning = Tuning.kept(state) or given
    return Supervisor(run, spec, state, tuning, manager).supervise()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
