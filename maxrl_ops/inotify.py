"""inotify(7), as much of it as we need: which directories' files are written to. No thread.

The standard library has none. One watch a directory, added and removed one by one: a watch costs
the kernel a kilobyte, and a user has only so many.
"""

import ctypes
import os
import struct
from pathlib import Path

_MODIFY = 0x2
_OVERFLOW = 0x4000
_IGNORED = 0x8000
_HEAD = struct.Struct("iIII")
_BUFFER = 64 * 1024


class Inotify:
    """An inotify instance; `fileno` is readable where something was written."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            OSError: There is none, or no more of them.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._descriptor = self._checked(
                self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), None
            )
        except AttributeError:
            raise OSError("this system has no inotify") from None
        self._directories: dict[int, Path] = {}
        self._watches: dict[Path, int] = {}

    def fileno(self) -> int:
        """To be waited for."""
        return self._descriptor

    @property
    def directories(self) -> set[Path]:
        """Those that are watched; one that is removed is not any more."""
        return set(self._watches)

    def add(self, directory: Path) -> None:
        """Watch the files in it, but not those in its own directories.

        Raises:
            OSError: It is not there, or there are no watches left.
        """
        watch = self._checked(
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _MODIFY),
            directory,
        )
        # Under another name the same directory has the same watch: the last name counts.
        if (before := self._directories.get(watch)) is not None:
            self._watches.pop(before, None)
        self._directories[watch], self._watches[directory] = directory, watch

    def remove(self, directory: Path) -> None:
        """Watch it no more."""
        watch = self._watches.pop(directory)
        del self._directories[watch]
        # Where it was removed meanwhile, so was its watch.
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> set[Path] | None:
        """The files that were written to since; None where more were than the kernel keeps."""
        written: set[Path] = set()
        has_lost = False
        while data := self._next():
            start = 0
            while start < len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, start)
                name = data[start + _HEAD.size : start + _HEAD.size + length].rstrip(b"\0")
                start += _HEAD.size + length
                has_lost |= bool(mask & _OVERFLOW)
                directory = self._directories.get(watch)
                if directory is None:
                    continue
                if mask & _IGNORED:
                    del self._directories[watch], self._watches[directory]
                elif mask & _MODIFY:
                    written.add(directory / os.fsdecode(name))
        return None if has_lost else written

    def _next(self) -> bytes:
        try:
            return os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Watch nothing more."""
        os.close(self._descriptor)

    def _checked(self, result: int, path: Path | None) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), None if path is None else str(path))
        return result
