"""inotify(7), which the standard library lacks: one descriptor that tells of many files.

It only wakes: what a file holds is read from the file. watchdog, which wraps the same calls, has
two threads and a descriptor a directory, where a user may have 128 of those, or tells of everything
in a tree, heartbeats and all.
"""

import ctypes
import os
import struct

# Of <sys/inotify.h>, the same on every architecture.
_MODIFY, _ATTRIB, _MOVE_SELF, _IGNORED, _Q_OVERFLOW = 0x2, 0x4, 0x800, 0x8000, 0x4000
# Removing a file's last name changes its attributes.
_TOLD = _MODIFY | _ATTRIB | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_BUFFER = 64 * 1024


class Inotify:
    """Files that are watched, by the number that each got."""

    def __init__(self) -> None:
        """Begin with none.

        Raises:
            OSError: The system has no inotify, or gives us none.
        """
        self._descriptor = -1
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "inotify_init1"):
            raise OSError("this system has no inotify")
        self._descriptor = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Readable when there is something to `take`."""
        return self._descriptor

    def watch(self, path: str) -> int:
        """Watch the file of that name, whatever it is called later; the same file, the same number.

        Raises:
            OSError: It is not there, or there are too many.
        """
        return self._checked(
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), _TOLD)
        )

    def forget(self, number: int) -> None:
        """Do not watch that one any more; one that is gone is forgotten already."""
        self._libc.inotify_rm_watch(self._descriptor, number)

    def take(self) -> set[int] | None:
        """Which were changed since the last call; None where that is not known any more."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return set()
        numbers, at = set(), 0
        while at < len(data):
            number, told, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            if told & _Q_OVERFLOW:
                return None
            if not told & _IGNORED:
                numbers.add(number)
        return numbers

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
