"""`python -P -m maxrl_ops.daemon`: looks after every run of a home; one a host.

It tails, stores, exports, judges, and publishes controls. It may be killed or upgraded at any
moment: runs go on without it, nothing is lost, nothing is counted or decided twice. Light: neither
torch nor typer.
"""

import errno
import faulthandler
import gc
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace

from maxrl_ops import __version__, detached, locks, processes
from maxrl_ops.attached import log_of
from maxrl_ops.core.sentence import looking_after
from maxrl_ops.core.since import SinceError
from maxrl_ops.core.snapshot import DAMAGED
from maxrl_ops.daemon_file import DaemonFile, running
from maxrl_ops.exporter import Exporter, Lines, Scene, lines_of
from maxrl_ops.hearing import stamp_of
from maxrl_ops.host import Host, HostView
from maxrl_ops.listening import ListenError, Listening, listening
from maxrl_ops.metrics_server import Server, serve
from maxrl_ops.notify import Notifier, is_service
from maxrl_ops.operator_files import is_frozen
from maxrl_ops.own_log import say
from maxrl_ops.pace import LOOK_SECONDS, Pace
from maxrl_ops.policy_file import PolicyError, PolicyFile
from maxrl_ops.retention import Limits, Retention
from maxrl_ops.roll import Roll
from maxrl_ops.run_metrics import run_samples
from maxrl_ops.run_view import view_of
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.seen_run import (
    SeenRun,
    all_stamps_of,
    in_one_line,
    is_at_rest,
    is_past,
    look,
    past_at,
    revive,
    spec_of,
    stamps_of,
)
from maxrl_ops.settings import Home
from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.store import HistoryError, LostError, Store
from maxrl_ops.wakes import Wakes
from maxrl_ops.wire.documents import RunSpec, utc_now
from maxrl_ops.wire.rundir import DocumentError, RunDir, make_directories
from maxrl_ops.wire.settings import NO_WATCH_ENV

# Writes within this are taken in together: a commit costs the same for one run and for ten.
_GATHER_SECONDS = 0.005
# How often the disk and the GPUs are looked at.
_HOST_SECONDS = 5.0
# After an error: a full disk is not asked four times a second.
_RETRY_SECONDS = 5.0
# How long the loop may stand still before /healthz says so.
_STANDSTILL_SECONDS = 15.0
# What a log is made into refers to nothing in circles: looking for such after each 700 objects
# took a seventh of the time.
_COLLECTIONS = (20_000, 50, 100)
# So many runs are one piece of a turn: what it found is stored and shown before the next piece.
_LOOKED_AT_ONCE = 1000
_OK, _CONFIGURATION, _IN_USE, _NOT_UP = 0, 2, 4, 5
# EX_CONFIG of sysexits.h: systemd does not start us again until a person has.
_CONFIGURATION_OF_SERVICE = 78


class Daemon:
    """The loop over all runs."""

    def __init__(
        self,
        home: Home,
        store: Store,
        exporter: Exporter,
        policies: PolicyFile,
        manager: Notifier | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._home, self._store, self._policies = home, store, policies
        # Why policy.toml as it is now is not in force.
        self.policy_problem: str | None = None
        # Which run cannot be followed, and why.
        self.unread_problem: str | None = None
        self._retention = retention
        self._exporter, self._manager = exporter, manager or Notifier()
        self._host, self._on = Host(home.path), HostView()
        self._roll = Roll(home)
        self._listed_at = -LOOK_SECONDS
        self._turned_at = time.monotonic()
        self._is_ready = self._is_watched = False
        # As of the turn's, or the wake's, beginning.
        self._was_frozen = False
        # There is something to be done for which nothing wakes.
        self._is_hasty = True
        self._host_at = -_HOST_SECONDS
        self._pace = Pace()
        self._shown: dict[str, Lines] = {}
        self._states: Counter[str] = Counter()
        self._unread = 0

    def run(
        self, signals: StopSignals, wakes: Wakes, told: Callable[[], None] = lambda: None
    ) -> None:
        """Turn until somebody asks for the end; between two turns, look where something came.

        `told` is called after each reload, and when another run, or none, cannot be followed.
        """
        told_of = self.unread_problem
        while not signals.take():
            wakes.watch(wanted=not self._pace.is_crowded)
            self._is_watched = wakes.is_watching
            if signals.take_reload():
                self._manager.reloading()
                self.reload()
                told()
                self._manager.ready()
            begun = time.monotonic()
            is_busy = self.turn()
            if told_of != self.unread_problem:
                told_of = self.unread_problem
                told()
            wakes.follow({n: s.attached_log for n, s in self._roll.runs.items() if s.attached_log})
            while not is_busy and (left := begun + self._pause() - time.monotonic()) > 0:
                woken = wakes.wait(signals, left, _GATHER_SECONDS)
                if not woken:
                    break
                is_busy = self._look_at_woken(woken)

    def _pause(self) -> float:
        """Seconds from one turn to the next, unless something wakes: a wait costs, too."""
        return self._pace.turns(is_quiet=self._is_watched and not self._is_hasty)

    def turn(self) -> bool:
        """One piece of every run's log; whether there may be more at once."""
        now, has_left = time.monotonic(), False
        # Though there be no run at all: the loop goes round.
        self._mark()
        if now - self._listed_at >= LOOK_SECONDS:
            self._listed_at = now
            has_left = self._roll.list_runs()
        self._roll.take_up()
        if now - self._host_at >= _HOST_SECONDS:
            self._host_at = now
            self._on = self._host.look()
        # Those at rest are of no account, however many a home has gathered.
        self._pace.count(sum(seen.goes_on(now) for seen in self._roll.awake.values()))
        due = self._due(now)
        is_busy = self._roll.has_found
        for start in range(0, len(due), _LOOKED_AT_ONCE):
            is_busy |= self._look_at(due[start : start + _LOOKED_AT_ONCE])
            if len(due) > _LOOKED_AT_ONCE:
                self._show(has_changed=True)
        self._is_hasty = any(seen.is_hasty for seen in self._roll.awake.values())
        self._is_ready = self._is_ready or not is_busy
        self._show(has_changed=has_left or bool(due))
        if self._retention is not None and self._is_ready and self._roll.is_whole:
            self._is_hasty |= self._retention.turn(self._roll.runs.keys())
        return is_busy

    def _due(self, now: float) -> list[SeenRun]:
        """Runs that something may have come of, or that it is time to look at."""
        is_frozen, is_watched, looks = self._is_frozen(), self._is_watched, self._pace.looks
        return self._roll.due(
            now,
            lambda seen: seen.is_due(
                now, is_watched=is_watched, is_frozen=is_frozen, look_seconds=looks
            ),
        )

    def _look_at_woken(self, names: AbstractSet[str]) -> bool:
        """One piece of those runs' logs, which were written to; whether there may be more."""
        woken = [self._roll.runs[name] for name in names if name in self._roll.runs]
        for seen in woken:
            seen.is_woken = seen.wakes = True
        is_busy = self._look_at(woken)
        self._is_hasty |= any(seen.is_hasty for seen in woken)
        self._show(has_changed=True)
        return is_busy

    def _look_at(self, runs: Sequence[SeenRun]) -> bool:
        """One piece of those runs' logs, in one transaction; whether there may be more at once."""
        is_busy = False
        self._was_frozen = self._is_frozen()
        try:
            with self._store.gathering():
                for seen in runs:
                    seen.is_busy = self._look_after(seen)
                    seen.is_woken = False
                    is_busy |= seen.is_busy
                    # A mark after each run: a thousand slow ones are no standstill.
                    self._mark()
        except HistoryError as error:
            # Nothing of it is stored: all that is in memory is ahead of the history.
            for seen in runs:
                seen.done_as = None
                self._set_back(seen, str(error))
        for seen in runs:
            self._roll.put_in_place(seen)
        self._mark()
        return is_busy

    def reload(self) -> None:
        """Read policy.toml again; one that is wrong changes nothing."""
        try:
            self._policies = PolicyFile.of_home(self._home.policy)
        except (PolicyError, OSError) as error:
            self.policy_problem = in_one_line(error)
            say(f"daemon: the policy stays as it was: {self.policy_problem}")
            return
        self.policy_problem = None
        say(f"daemon: policy {self._policies.policy.name}, {self._policies.source or 'built in'}")
        for name, seen in self._roll.runs.items():
            if seen.watch is not None:
                seen.watch.judge_by(self._policies.for_run(name))

    def _is_frozen(self) -> bool:
        return is_frozen(self._home)

    def _mark(self) -> None:
        self._turned_at = time.monotonic()
        self._manager.alive()

    # --- Health -----------------------------------------------------------------------------------

    def not_alive(self) -> str | None:
        """Why the loop counts as dead, None while it turns. Called by other threads."""
        still = time.monotonic() - self._turned_at
        if still < _STANDSTILL_SECONDS:
            return None
        return f"the tail loop has stood still for {still:.0f} s"

    def not_ready(self) -> str | None:
        """Why figures are not complete yet. Called by other threads."""
        return None if self._is_ready else "still reading what was written before"

    # --- Runs -------------------------------------------------------------------------------------

    def _look_after(self, seen: SeenRun) -> bool:
        """A turn of one run; what is wrong with one does not stop the others."""
        now = time.monotonic()
        if now < seen.retry_at:
            return False
        try:
            is_busy = self._turn_of(seen, now)
        except LostError:
            raise
        except HistoryError as error:
            self._set_back(seen, str(error))
        except (DocumentError, OSError) as error:
            seen.state = DAMAGED
            self._set_back(seen, in_one_line(error))
        except Exception as error:  # noqa: BLE001 - a bug one log wakes must not blind us for all
            problem = f"internal error ({type(error).__name__}), see the lines above"
            if problem != seen.problem:
                sys.stderr.write(traceback.format_exc())
            self._set_back(seen, problem)
        else:
            if seen.problem is not None:
                say(f"{seen.run.name}: well again")
            seen.problem = None
            return is_busy
        return False

    def _turn_of(self, seen: SeenRun, now: float) -> bool:
        has_news = now - seen.looked_at >= self._pace.looks
        is_kept = seen.looked_as and time.time() <= seen.past_at
        if has_news and is_kept and seen.looked_as == all_stamps_of(seen):
            # A log that grows all the same is read, but there is nothing to be looked at.
            seen.looked_at, has_news, watch = now, False, seen.watch
            if watch is None:
                return False
            is_awaited = seen.is_stale or watch.state.suggested
            if not watch.has_news(is_frozen=self._was_frozen) and not is_awaited:
                # What is shown of it is written: until a file changes nobody needs the rest.
                seen.watch = None
                return False
        if seen.done_as is not None:
            if not has_news or seen.done_as == stamps_of(seen):
                return False
            # Another run stands under its name, or a supervisor took it up again.
            seen.done_as = None
        if seen.watch is not None and seen.watch.is_replaced():
            seen.watch, seen.lines, has_news = None, {}, True
        # Before the look: what changes meanwhile makes another of them. None of a run that trained.
        may_rest = not seen.trained or seen.watch is None
        stamps = stamps_of(seen) if may_rest and (has_news or seen.watch is None) else ()
        if has_news:
            looked_as = all_stamps_of(seen) if may_rest else None
            look(seen, now)
            revive(seen, now)
            seen.past_at = past_at(seen)
            seen.looked_as = looked_as if is_at_rest(seen) else None
        if seen.watch is None:
            spec = spec_of(seen.run)
            if is_past(seen) and self._has_taken_in(seen.run, spec):
                seen.done_as = stamps
                return False
            seen.watch = RunWatch(
                seen.run,
                spec,
                self._store,
                self._policies.for_run(seen.run.name),
                self._is_frozen,
            )
            look(seen, now)
        catches_up = seen.watch.is_catching_up
        has_read, is_old = seen.tick(seen.watch, now, is_frozen=self._was_frozen), is_past(seen)
        if has_read and is_old and not seen.watch.lag:
            # At once, for nothing will come any more: not all of thousands are to be in memory.
            has_read = seen.tick(seen.watch, now, is_frozen=self._was_frozen)
        # What has come meanwhile has its own turn: of very many runs some always have something.
        is_busy = has_read and (catches_up or seen.watch.lag > 0)
        if not has_read and has_news and stamps and is_old:
            seen.done_as, seen.watch, seen.lines = stamps, None, {}
        elif (has_read or has_news or seen.is_stale) and not seen.watch.is_catching_up:
            self._describe(seen, seen.watch, has_read=has_read)
        return is_busy

    def _describe(self, seen: SeenRun, watch: RunWatch, *, has_read: bool) -> None:
        """Write its series anew where anything has changed; of very many runs, not at once."""
        state = seen.life.state if seen.life else None
        made_of = (state, seen.state, watch.lag, stamp_of(watch.run.checkpoints))
        if has_read or made_of != seen.shown_as or not seen.lines:
            seen.is_stale, seen.shown_as = True, made_of
        now = time.monotonic()
        if seen.is_stale and now >= seen.show_at:
            seen.lines = lines_of(run_samples(view_of(watch, self._store, state, seen.state)))
            seen.is_stale, seen.show_at = False, now + self._pace.shows

    def _has_taken_in(self, run: RunDir, spec: RunSpec) -> bool:
        """The history holds the whole log: hundreds of old runs are not folded at every start."""
        if run.detached.exists():
            return True
        place, _ = self._store.place(self._store.run(spec.name, spec.created, spec.job_name))
        log = log_of(run, spec)
        return log.exists() and place.offset >= log.stat().st_size

    def _set_back(self, seen: SeenRun, problem: str) -> None:
        """Forget what is in memory, which may be ahead of the history, and try again later."""
        if problem != seen.problem:
            say(f"{seen.run.name}: {problem}")
        seen.watch, seen.problem, seen.lines, seen.looked_as = None, problem, {}, None
        seen.retry_at = time.monotonic() + _RETRY_SECONDS

    # --- What is shown ----------------------------------------------------------------------------

    def _show(self, *, has_changed: bool) -> None:
        if has_changed:
            awake = self._roll.awake.values()
            self._shown = {seen.run.name: seen.lines for seen in awake if seen.lines}
            self._states = self._roll.states
            unread = [seen for seen in awake if seen.problem is not None]
            self._unread, self.unread_problem = len(unread), _told_of(unread)
        self._manager.status(looking_after(self._states, self.not_ready()))
        self._exporter.show(
            Scene(
                self._shown,
                self._states,
                time.time(),
                __version__,
                self._on,
                is_frozen=self._is_frozen(),
                is_reloaded=self.policy_problem is None,
                unread=self._unread,
            )
        )


def _told_of(unread: Sequence[SeenRun]) -> str | None:
    """Which runs cannot be followed, and why; None where there is none."""
    if not unread:
        return None
    more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
    return f"{unread[0].run.name}{more}: {unread[0].problem}"


# --- From the command line ------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Look after the home that the environment names; the process's exit code."""
    arguments = detached.detach_if_asked(arguments)
    # systemd's watchdog ends a loop that stands still by SIGABRT: its log tells where it stood.
    faulthandler.enable()
    home = Home.find(os.environ)
    try:
        where = listening(arguments, os.environ)
        make_directories(home.runs_dir)
        # Held until this process ends, however it does.
        locks.acquire(home.daemon_lock, signed=True)
        return _serve_home(home, where, Notifier.take(os.environ, os.getpid()))
    except locks.LockHeldError:
        message, code = _who_runs(home), _IN_USE
    except (ListenError, PolicyError, SinceError, HistoryError) as error:
        message = str(error)
        code = _CONFIGURATION_OF_SERVICE if is_service(os.environ) else _CONFIGURATION
    except OSError as error:
        message, code = in_one_line(error), _NOT_UP
        if error.errno == errno.EADDRINUSE:
            code = _IN_USE
    say(f"daemon: {message}")
    return code


def _who_runs(home: Home) -> str:
    found = running(home)
    if found is None:
        return f"another daemon of {home.path} is just starting: {home.daemon_lock} is held"
    return f"{home.path} has a daemon already: pid {found.process.pid}, {found.metrics}"


def _serve_home(home: Home, where: Listening, manager: Notifier) -> int:
    policies = PolicyFile.of_home(home.policy)
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
    limits = Limits.of(os.environ)
    store = Store(home.history)
    signals = StopSignals()
    exporter = Exporter()
    daemon = Daemon(home, store, exporter, policies, manager, Retention(store, limits))
    server = _listen(daemon, exporter, where)
    try:
        host, port = server.address
        metrics = f"{where.scheme}://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        identity = processes.identity_of(os.getpid())
        assert identity is not None  # noqa: S101 - we live
        me = DaemonFile(identity, metrics, utc_now(), __version__)
        me.save(home)
        say(f"daemon: looking after {home.path}, {metrics}")
        # Not once all is read: how long that takes is no matter of whether we came up.
        manager.ready()
        with closing(Wakes(home.runs_dir, watching=NO_WATCH_ENV not in os.environ)) as wakes:
            daemon.run(signals, wakes, lambda: _tell(me, daemon, home))
        manager.stopping()
        say("daemon: ended as asked; the runs go on")
    finally:
        server.close()
        store.close()
        home.daemon_file.unlink(missing_ok=True)
    return _OK


def _tell(me: DaemonFile, daemon: Daemon, home: Home) -> None:
    """Say in daemon.json what is wrong."""
    told = replace(me, policy_problem=daemon.policy_problem, unread=daemon.unread_problem)
    try:
        told.save(home)
    except OSError as error:
        say(f"daemon: {in_one_line(error)}: status does not tell what is said here")


def _listen(daemon: Daemon, exporter: Exporter, where: Listening) -> Server:
    """Serve metrics and health.

    Raises:
        OSError: The address is taken, or none of ours.
    """
    address, health = where.address, (daemon.not_alive, daemon.not_ready)
    try:
        return serve(exporter, (address.host, address.port), *health, where.tls)
    except OSError as error:
        if address.is_default and error.errno == errno.EADDRINUSE:
            # Two homes on one host: the second's metrics are where daemon.json and status say.
            return serve(exporter, (address.host, 0), *health, where.tls)
        named = f"{address.host}:{address.port}"
        reason = "something else listens there" if error.errno == errno.EADDRINUSE else None
        raise OSError(error.errno, reason or error.strerror or str(error), named) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
