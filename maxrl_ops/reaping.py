"""What leaves the trainer's process group: it becomes ours when its parent dies, and ends with it.

A process that forks twice and calls setsid(2), as daemons do, is in nobody's group and nobody's
child, unless an ancestor has asked to adopt orphans: PR_SET_CHILD_SUBREAPER of prctl(2).
"""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import LOCK_FD_ENV, RUN_DIR_ENV

_PR_SET_CHILD_SUBREAPER = 36
# A process in an uninterruptible sleep dies when that ends, which nobody can hasten.
_PATIENCE_SECONDS = 2.0


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own has died; False where that is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def bury(trainer: int | None) -> None:
    """Wait for orphans that have ended; the trainer's own end is awaited by whoever started it."""
    for pid in _children():
        if pid != trainer:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill_orphans(run: RunDir, *, of_ours: bool) -> bool:
    """Kill all that a trainer which has ended left behind; whether nothing is left.

    What a trainer of ours left are our children by now. Those of one that an earlier supervisor
    started are somebody else's, and known by their environment: it names the run and its lock.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := _children() if of_ours else marked(run):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        bury(None)
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _children() -> list[int]:
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in path.read_text("ascii").split()]
    return found


def marked(run: RunDir) -> list[int]:
    """The processes whose environment names the run and its lock, whatever group they are in."""
    name, lock = f"{RUN_DIR_ENV}={run.path}".encode(), f"{LOCK_FD_ENV}=".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            words = (entry / "environ").read_bytes().split(b"\0")
            is_ours = name in words and any(word.startswith(lock) for word in words)
            if is_ours and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found
