"""Locks that die with their holders: flock(2) on a file of the run."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from maxrl_ops.wire.rundir import FILE_MODE


class LockHeldError(Exception):
    """Another process holds the lock; the message is one line."""


def acquire(path: Path, *, signed: bool = False) -> int:
    """Take the lock on `path`: a descriptor, close-on-exec; the lock goes when it is closed.

    A descriptor that a child inherits holds the lock too, until both are closed: never unlock it
    explicitly, for that would unlock the child's. `signed` writes the pid, for messages alone.

    Raises:
        LockHeldError: Naming the holder where it signed.
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise LockHeldError(f"{path} is held by {f'pid {pid}' if pid else 'another'}") from None
    except OSError:
        os.close(descriptor)
        raise
    if signed:
        # A full disk costs the name in a message, not the lock.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor
