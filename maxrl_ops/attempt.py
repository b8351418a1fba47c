"""One attempt: a trainer from its start, or its adoption, to its end."""

import errno
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from maxrl_ops import processes
from maxrl_ops.core.run_state import Ending, cause_in
from maxrl_ops.wire.checkpoints import newest
from maxrl_ops.wire.documents import Heartbeat, ProcessIdentity, RunSpec
from maxrl_ops.wire.rundir import FILE_MODE, DocumentError, RunDir
from maxrl_ops.wire.settings import ATTEMPT_ENV, LOCK_FD_ENV, RUN_DIR_ENV, to_environment

_TAIL = 64 * 1024
_LONGEST_REASON = 500
# Bytes that are left of a disk on which nothing can be written any more.
_FULL = 64 * 1024
_LAST_LINES = 50
_LONGEST_LINE = 500
_FAILED = "Run failed: "
_FINISHED = "Run finished"
# What exec says of a program that will not be there next time either.
_PERMANENT = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.E2BIG})


class Attempt:
    """A trainer: a child of this process, or one that a dead supervisor left behind.

    Attributes:
        identity: The process that leads its group.
    """

    def __init__(
        self,
        run: RunDir,
        identity: ProcessIdentity,
        pidfd: int,
        log_size: int,
        child: "subprocess.Popen[bytes] | None" = None,
    ) -> None:
        self.identity = identity
        self._run, self._pidfd, self._log_size, self._child = run, pidfd, log_size, child
        self._is_killed = False
        self._memory_kills = processes.memory_kills()

    @classmethod
    def start(
        cls, run: RunDir, spec: RunSpec, number: int, lock: int, secrets: Mapping[str, str]
    ) -> "Attempt":
        """Start the trainer in a session of its own; it inherits `lock`, and is told `secrets`.

        Raises:
            OSError: It cannot be started.
        """
        # A dead trainer's phase is not this one's.
        run.heartbeat.unlink(missing_ok=True)
        log_size = _size(run.log)
        output = open_for_appending(run.log if spec.command else run.supervisor_log)
        try:
            child = subprocess.Popen(
                spec.command or trainer_command(str(spec.settings.get("launch", ""))),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=_directory(run, spec),
                env={**_environment(run, spec, number, lock), **secrets},
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(output)
        try:
            identity = processes.identity_of(child.pid, even_zombie=True)
            if identity is None:
                raise FileNotFoundError(errno.ENOENT, "not mounted", "/proc")
            pidfd = os.pidfd_open(child.pid)
        except OSError:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        return cls(run, identity, pidfd, log_size, child)

    @classmethod
    def adopt(cls, run: RunDir, identity: ProcessIdentity | None) -> "Attempt | None":
        """Watch over a trainer that another supervisor started; None if it is dead."""
        pidfd = None if identity is None else processes.open_pidfd(identity)
        if identity is None or pidfd is None:
            return None
        return cls(run, identity, pidfd, _size(run.log))

    @property
    def is_ours(self) -> bool:
        """This process started it."""
        return self._child is not None

    def fileno(self) -> int:
        """A descriptor that becomes readable when the trainer has ended."""
        return self._pidfd

    def has_ended(self) -> bool:
        """Whether the trainer, its group aside, is dead."""
        return bool(select.select([self], [], [], 0)[0])

    def has_begun(self) -> bool:
        """Whether the trainer has come further than loading the model."""
        try:
            return Heartbeat.load(self._run).phase != "load"
        except (OSError, DocumentError):
            return False

    def progress(self) -> tuple[object, Heartbeat | None]:
        """What differs after any progress, and the heartbeat where there is one.

        A command of somebody's own has no heartbeat: there, whatever it prints is progress.
        """
        try:
            status = self._run.heartbeat.stat()
            return (status.st_ino, status.st_mtime_ns), Heartbeat.load(self._run)
        except (OSError, DocumentError):
            return _size(self._run.log), None

    def terminate(self) -> None:
        """Ask the trainer, and it alone, to stop at its next boundary."""
        # Nothing helps against a command that became another user's.
        with suppress(PermissionError):
            processes.send_signal(self.identity, signal.SIGTERM)

    def wake(self) -> None:
        """Let a stopped trainer go on: it cannot even end otherwise."""
        with suppress(PermissionError):
            processes.signal_group(self.identity, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the trainer and its whole group."""
        self._is_killed = True
        with suppress(PermissionError):
            processes.signal_group(self.identity, signal.SIGKILL)

    def conclude(self) -> Ending:
        """How a trainer that has ended did so; kills what it left behind in its group."""
        is_ours = self._is_killed
        # Before it is waited for: until then nobody else can get its pid.
        self.kill()
        os.close(self._pidfd)
        if self._child is None:
            return ending_unseen(self._run, self._log_size)
        full = _full_disk(self._run)
        code = self._child.wait()
        said = _failure_said(self._run, self._log_size)
        cause = (cause_in(self.last_lines()) or full) if code else None
        if code < 0:
            by_kernel = code == -signal.SIGKILL and not is_ours
            if by_kernel and processes.memory_kills() > self._memory_kills:
                cause = "killed for memory"
            return Ending(signal=-code, said=said, cause=cause)
        return Ending(code=code, said=said, cause=cause, said_finished=_says_finished(self._run))

    def last_lines(self) -> tuple[str, ...]:
        """The last that the log says of this attempt, each line bounded."""
        lines = [line[:_LONGEST_LINE] for line in _tail(self._run.log, self._log_size)]
        return tuple(lines[:-1] if lines and not lines[-1] else lines)[-_LAST_LINES:]


def trainer_command(launch: str = "") -> list[str]:
    """What starts our trainer, by way of a launcher where one is given.

    torchrun and accelerate take a module, and run Python themselves; anything else is put in front.
    """
    python = [sys.executable, "-P", "-m", "trainer"]
    words = shlex.split(launch)
    if words and Path(words[0]).name in {"torchrun", "accelerate"}:
        return [*words, "-m", "trainer"]
    return [*words, *python]


def _full_disk(run: RunDir) -> str | None:
    """Why a trainer that could not even say it may have ended."""
    with suppress(OSError):
        if shutil.disk_usage(run.path).free < _FULL:
            return "the disk is full"
    return None


def ending_not_started(error: OSError) -> Ending:
    """The ending of an attempt that never began."""
    where = f"{error.filename}: " if error.filename else ""
    return Ending(
        error=f"cannot be started: {where}{error.strerror or error}",
        is_permanent=error.errno in _PERMANENT,
    )


def ending_unseen(run: RunDir, log_size: int | None = None) -> Ending:
    """The ending of a trainer that was nobody's child: its log must tell.

    `log_size` is the log's when its watching began; without one, a failure it tells may be old.
    """
    said = None if log_size is None else _failure_said(run, log_size)
    return Ending(said=said, said_finished=_says_finished(run))


def _says_finished(run: RunDir) -> bool:
    lines = [line for line in _tail(run.log) if line.strip() and not line.startswith("| ")]
    return bool(lines) and lines[-1].startswith(_FINISHED)


def kill_remains(run: RunDir, trainer: ProcessIdentity) -> None:
    """Kill what a trainer that died unwatched left behind in its group.

    Somebody else may have the pid by now, so a process of the group must carry the run's name in
    its environment first.
    """
    mark = f"{RUN_DIR_ENV}={run.path}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = os.getpgid(int(entry.name)) == trainer.pid
            if is_ours and mark in (entry / "environ").read_bytes().split(b"\0"):
                processes.signal_group(trainer, signal.SIGKILL)
                return
        except OSError:
            continue


def newest_checkpoint(run: RunDir) -> int:
    """The highest iteration with a complete checkpoint, -1 when there is none."""
    found = newest(run)
    return -1 if found is None else found.iteration


def open_for_appending(path: Path) -> int:
    """A descriptor of a log, made if need be."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _environment(run: RunDir, spec: RunSpec, number: int, lock: int) -> Mapping[str, str]:
    """This process's environment, with the run's settings instead of those that lie about."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name != "USE_MAXRL" and (not name.startswith("MAXRL_") or name.startswith("MAXRL_OPS_"))
    }
    return {
        **inherited,
        **to_environment(spec.settings),
        RUN_DIR_ENV: str(run.path),
        ATTEMPT_ENV: str(number),
        LOCK_FD_ENV: str(lock),
        "PYTHONUNBUFFERED": "1",
    }


def _directory(run: RunDir, spec: RunSpec) -> Path:
    """Where `start` was called, so that the paths in a command mean what they meant there."""
    given = spec.provenance.get("directory")
    # A service may not see it, or not enter it: /root, /home.
    may_enter = given is not None and os.access(given, os.X_OK) and Path(given).is_dir()
    return Path(given) if given and may_enter else run.path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _failure_said(run: RunDir, log_size: int) -> str | None:
    """The reason of the last `Run failed:` line beyond `log_size`, None when there is none."""
    failures = [line for line in _tail(run.log, log_size) if line.startswith(_FAILED)]
    return failures[-1].removeprefix(_FAILED)[:_LONGEST_REASON] if failures else None


def _tail(path: Path, since: int = 0) -> list[str]:
    """The lines of a log's last 64 KiB, none from before `since`; an unreadable log has none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < since:
                # Another log has taken the place of that one: all of it came after.
                since = 0
            start = max(since, size - _TAIL)
            file.seek(start)
            # Not splitlines: a form feed within a line must not make a second one of it.
            lines = file.read(_TAIL).decode("utf-8", "replace").split("\n")
            return lines if start == since else lines[1:]
    except OSError:
        return []
