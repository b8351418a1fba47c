"""Brings the home's daemon up where none runs, and down where one does."""

import os
import signal
import time
from dataclasses import dataclass

from maxrl_ops import detached, processes, systemd
from maxrl_ops.daemon_file import DaemonFile, running
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import ProcessIdentity
from maxrl_ops.wire.settings import NO_DAEMON_ENV

_UP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_MOST_LOG = 1 << 20
_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon that runs, or in one line why none does; neither where none is wanted."""

    running: DaemonFile | None
    problem: str | None = None


def ensure(home: Home) -> Daemon:
    """The home's daemon, started first where none runs: as a unit where units serve the home."""
    found = running(home)
    if found is not None or os.environ.get(NO_DAEMON_ENV):
        return Daemon(found)
    try:
        if systemd.serves(home):
            systemd.start_daemon()
            return Daemon(running(home))
        return _up(home, _spawn(home))
    except systemd.UnitError as error:
        return Daemon(None, str(error))
    except OSError as error:
        return Daemon(None, f"{error.filename or home.path}: {error.strerror or error}")


def _up(home: Home, pid: int) -> Daemon:
    """The daemon that was spawned as `pid`, once it is up; or another that came first."""
    spawned = processes.identity_of(pid)
    deadline = time.monotonic() + _UP_SECONDS
    while (found := running(home)) is None:
        is_dead = spawned is None or not processes.is_alive(spawned)
        # Looked at again: another daemon that came first is as good.
        if is_dead and (found := running(home)) is None:
            return Daemon(None, _last_words(home))
        if time.monotonic() >= deadline:
            return Daemon(None, f"it is not up after {_UP_SECONDS:.0f} s: see {home.daemon_log}")
        time.sleep(_POLL_SECONDS)
    return Daemon(found)


def _spawn(home: Home) -> int:
    if home.daemon_log.exists() and home.daemon_log.stat().st_size > _MOST_LOG:
        home.daemon_log.replace(home.daemon_log.with_suffix(".log.1"))
    return detached.spawn("maxrl_ops.daemon", [], home.daemon_log)


def _last_words(home: Home) -> str:
    """What the daemon said last, without its time and its name."""
    with home.daemon_log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    last = lines[-1].partition(" ")[2].removeprefix("daemon: ") if lines else ""
    return last or f"see {home.daemon_log}"


def stop(home: Home, timeout: float) -> ProcessIdentity | None:
    """Ask the daemon to end, and wait for it; None when none runs.

    Raises:
        TimeoutError: It has not ended after `timeout` seconds.
        PermissionError: It is somebody else's.
    """
    found = running(home)
    if found is None:
        return None
    processes.send_signal(found.process, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while processes.is_alive(found.process):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"the daemon, pid {found.process.pid}, has not ended")
        time.sleep(_POLL_SECONDS)
    return found.process
