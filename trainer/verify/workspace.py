"""Private directories for what is compiled, which outlive nobody: not even who is killed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "maxrl-verify-"
_LOCKED_WITHIN_S = 10.0


@contextmanager
def workspace() -> Iterator[Path]:
    """A new directory, removed in the end. Its lock, which dies with us, says that we live."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def remove_stale() -> None:
    """Remove the directories of ours that nobody holds: their owner was killed.

    A lock, unlike a process id, means the same in every container that shares the directory.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Not ours, a link, in use, or just being removed by somebody else.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and _is_old(descriptor):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_old(descriptor: int) -> bool:
    """Whether its maker had the time to lock it."""
    return time.time() - os.fstat(descriptor).st_ctime > _LOCKED_WITHIN_S
