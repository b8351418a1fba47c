"""Follows a file that another process appends to, from where somebody left off.

The file is known by its inode and its first bytes, not by its name: one that was put in its place,
or was cut, is read from its beginning.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from maxrl_ops.wire.rundir import open_regular

_FINGERPRINT = 256
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a file.

    Attributes:
        inode: The file's; 0 before any was seen.
        fingerprint: Its first bytes, up to 256, as far as they had been written.
        offset: Of the first byte that is not done with.
    """

    inode: int = 0
    fingerprint: bytes = b""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes from the file.

    Attributes:
        data: Empty when there is nothing new.
        is_fresh: They are the beginning of another file than those before.
    """

    data: bytes
    is_fresh: bool


class Tailer:
    """Reads one file, a bounded piece at a time.

    Attributes:
        lag: Bytes that were there to be read at the last look, beyond what was read.
    """

    def __init__(self, path: Path, cursor: Cursor) -> None:
        self.lag = 0
        self._path = path
        self._inode, self._fingerprint = cursor.inode, cursor.fingerprint
        self._offset = cursor.offset

    def cursor(self, pending: int) -> Cursor:
        """The place `pending` bytes before what was read last."""
        return Cursor(self._inode, self._fingerprint, self._offset - pending)

    def read(self, limit: int = _CHUNK) -> Chunk:
        """What comes next; nothing where there is no file, or it has not grown.

        Raises:
            OSError: It is there and cannot be read.
        """
        try:
            with open_regular(self._path) as file:
                return self._read(_Opened.of(file), limit)
        except FileNotFoundError:
            self.lag = 0
            return Chunk(b"", is_fresh=False)

    def _read(self, file: "_Opened", limit: int) -> Chunk:
        is_known = self._inode != 0
        is_fresh = is_known and not self._is_same(file)
        if is_fresh:
            self._offset, self._fingerprint = 0, b""
        self._inode = file.inode
        if len(self._fingerprint) < _FINGERPRINT:
            self._fingerprint = file.read(0, _FINGERPRINT)
        data = file.read(self._offset, limit)
        self._offset += len(data)
        self.lag = max(0, file.size - self._offset)
        return Chunk(data, is_fresh)

    def _is_same(self, file: "_Opened") -> bool:
        if file.inode != self._inode or file.size < self._offset:
            return False
        return file.read(0, len(self._fingerprint)) == self._fingerprint


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open file, its inode, and its size as of now."""

    descriptor: int
    inode: int
    size: int

    @classmethod
    def of(cls, file: BinaryIO) -> "_Opened":
        status = os.fstat(file.fileno())
        return cls(file.fileno(), status.st_ino, status.st_size)

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, offset)
