"""What is done to a run from outside, while it runs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from maxrl_ops import daemon_file, processes
from maxrl_ops.settings import Home
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import RunDir

CORRUPTED_AT = 90
FULL_AT, FULL_SECONDS = 60, 6.0
DISK_MEGABYTES = 48
KILLED_EVERY_SECONDS = 2.0
ROTATED_EVERY = 40
MOST_MEGABYTES = 700
_BLOCK = 4096


class Watched(Protocol):
    """A run as whoever does something to it sees it."""

    home: Path
    env: Mapping[str, str]
    run: RunDir
    iteration: int

    def drain(self, log: Path) -> None:
        """Read what is left of a log that is about to go."""
        ...


class Nothing:
    """Nobody touches it."""

    def step(self, watched: Watched) -> None:
        """Look at the run, many times a second, and strike when it is time."""

    def end(self) -> None:
        """The run is over."""

    def reap(self) -> None:
        """The daemon is over too."""


def _trainer(run: RunDir) -> processes.ProcessIdentity | None:
    found = SupervisorState.load(run).trainer
    return found if found is not None and processes.is_alive(found) else None


class CorruptsCheckpoint(Nothing):
    """The newest checkpoint loses its first block, as in a power failure, and the trainer dies."""

    def __init__(self) -> None:
        self._is_done = False

    def step(self, watched: Watched) -> None:
        """Once."""
        if self._is_done or watched.iteration < CORRUPTED_AT:
            return
        found, trainer = checkpoints.newest(watched.run), _trainer(watched.run)
        if found is None or trainer is None:
            return
        with (found.model / "model.safetensors").open("r+b") as file:
            file.write(b"\0" * _BLOCK)
        processes.send_signal(trainer, signal.SIGKILL)
        self._is_done = True


class FillsDisk(Nothing):
    """Somebody else fills the disk, and makes room after a while."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._filler: Path | None = None

    def step(self, watched: Watched) -> None:
        """Once."""
        if self._since is None and watched.iteration >= FULL_AT:
            self._since, self._filler = time.monotonic(), watched.home / "filler"
        if self._since is None or self._filler is None:
            return
        if time.monotonic() > self._since + FULL_SECONDS:
            self.end()
            return
        # Again and again: what the run removes is taken at once.
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * _BLOCK)

    def end(self) -> None:
        """Make room."""
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
        self._filler = None


class KillsDaemon(Nothing):
    """The daemon is killed again and again; whoever starts it anew, as systemd does, is here."""

    def __init__(self) -> None:
        self._due = time.monotonic() + KILLED_EVERY_SECONDS
        self._daemons: list[subprocess.Popen[bytes]] = []

    def step(self, watched: Watched) -> None:
        """Every now and then."""
        found = daemon_file.running(Home(watched.home))
        if found is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + KILLED_EVERY_SECONDS
        processes.send_signal(found.process, signal.SIGKILL)
        for daemon in self._daemons[-1:]:
            daemon.wait()
        while processes.is_alive(found.process):
            time.sleep(0.01)
        command = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]
        self._daemons.append(
            subprocess.Popen(
                command,
                env=dict(watched.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def reap(self) -> None:
        """Wait for the last one, which was asked to end."""
        for daemon in self._daemons[-1:]:
            daemon.wait()


class RotatesLog(Nothing):
    """logrotate with copytruncate, every so many iterations."""

    def __init__(self) -> None:
        self._count = 0

    def step(self, watched: Watched) -> None:
        """When it is time."""
        if watched.iteration < ROTATED_EVERY * (self._count + 1):
            return
        self._count += 1
        log = watched.run.log
        copy = log.with_name(f"{log.name}.{self._count}")
        shutil.copyfile(log, copy)
        os.truncate(log, 0)
        watched.drain(copy)


class KillsForMemory(Nothing):
    """The kernel's part on a host whose memory is scarce: too large a trainer is killed."""

    def step(self, watched: Watched) -> None:
        """Whenever it is too large."""
        trainer = _trainer(watched.run)
        if trainer is not None and _megabytes(trainer.pid) > MOST_MEGABYTES:
            processes.send_signal(trainer, signal.SIGKILL)


def _megabytes(pid: int) -> float:
    """Memory that the process has for itself alone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


Strike = Callable[[], Nothing]


class NoSmallDiskError(Exception):
    """Only root mounts one."""


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A disk of its own at `where`.

    Raises:
        NoSmallDiskError: It cannot be mounted here.
    """
    where.mkdir(parents=True)
    size = f"size={DISK_MEGABYTES}m"
    mounting = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoSmallDiskError("only root mounts a small disk") from error
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
