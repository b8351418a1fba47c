"""Follows a log that another process writes, from where somebody left off, through rotation.

A file is known by its inode and its first bytes, not by its name. One that was renamed is read to
its end, then those that came after it, oldest first, then the one under the log's name; of one that
was cut, the rest is looked for in a copy. What was destroyed unread is counted as far as its size
was known.

A file is left for its successor once that has something in it, and it has not been written to for
a second itself: whoever had it open before the rotation may be late. What is written to it later
still is counted as lost.

Two things cannot be seen: a file that was cut and has grown again, between two looks, to more than
was read of it, with the same first bytes; and one that came and went between two looks.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maxrl_ops import log_files
from maxrl_ops.log_files import HEAD, LogFile, RenamingError
from maxrl_ops.wire.rundir import open_regular

CHUNK = 1024 * 1024
# How long a rotated file must have been quiet before it is left.
_GRACE_SECONDS = 1.0
# How long it is watched after that, for what came too late.
_WATCH_SECONDS = 60.0
# Zeros that nobody wrote: a writer that does not append leaves them where its file was cut.
_HOLE = bytes(4096)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a file.

    Attributes:
        inode: The file's; 0 before any was seen.
        fingerprint: Its first bytes, as far as they had been written.
        offset: Of the first byte that is not done with.
        seen: Its size when it was looked at last: by that much is known what is lost with it.
        modified: When it had been written last then, in nanoseconds since the epoch: what was
            written later came after it.
    """

    inode: int = 0
    fingerprint: bytes = b""
    offset: int = 0
    seen: int = 0
    modified: int = 0

    def is_end_of(self, log: Path) -> bool:
        """Nothing was written to the log since it was read up to here."""
        return _stamp(log) == (self.inode, self.offset, self.modified)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes from the log.

    Attributes:
        data: Empty when there is nothing new.
        is_fresh: They are the beginning of another file than those before.
        continues: Fresh, and yet the same block: the file before ended with a whole line, and this
            one begins with an indented line, which begins nothing. A line is never put together of
            two files: whether what is missing of it was ever written, nobody knows.
        lost: Bytes that were there, and were destroyed before they could be read, since the last.
    """

    data: bytes
    is_fresh: bool = False
    continues: bool = False
    lost: int = 0


@dataclass(slots=True)
class _Identity:
    """What a file is known by, as far as it has been read."""

    inode: int
    fingerprint: bytes = b""
    seen: int = 0
    modified: int = 0


class _Open:
    """A file that is being read; closed with the last reference to it."""

    def __init__(self, descriptor: int, identity: _Identity, offset: int) -> None:
        self.descriptor, self.identity, self.offset = descriptor, identity, offset
        self.is_copy = False

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def unread(self) -> int:
        """Bytes that were there at the last look."""
        return max(0, self.identity.seen - self.offset)

    def look(self) -> bool:
        """See how far it has come; False where it is no longer what it was."""
        identity, status = self.identity, os.fstat(self.descriptor)
        head = os.pread(self.descriptor, HEAD, 0)
        if status.st_size < self.offset or not head.startswith(identity.fingerprint):
            return False
        identity.fingerprint = head
        identity.seen, identity.modified = status.st_size, status.st_mtime_ns
        return True


@dataclass(frozen=True, slots=True)
class _Mark:
    """From the byte `given` on, counted over all that was given out, they come from here on."""

    given: int
    identity: _Identity
    offset: int


class Tailer:
    """Reads one log, a bounded piece at a time.

    Attributes:
        lag: Bytes that were there to be read at the last look, beyond what was read.
    """

    def __init__(self, path: Path, cursor: Cursor, now: Callable[[], float] = time.time) -> None:
        """Go on from `cursor`; `now` is the clock of file times."""
        self.lag = 0
        self._path, self._now = path, now
        self._cursor = cursor
        # The cursor's file has not been looked for yet.
        self._is_resuming = cursor.inode != 0
        self._file: _Open | None = None
        self._left: tuple[_Open, float] | None = None
        # By inode, the first bytes of rotated files that are done with.
        self._older: dict[int, bytes] = {}
        self._marks: list[_Mark] = []
        self._given = self._lost = 0
        self._is_fresh, self._ends_line = False, True
        self._settled: tuple[int, int, int] | None = None

    @property
    def inode(self) -> int:
        """Of the file that is being read; 0 while there is none."""
        return self._file.identity.inode if self._file else 0

    @property
    def here(self) -> tuple[int, int]:
        """Inode and offset of what comes next, as far as it is known; 0 and 0 before the first."""
        if self._file is not None:
            return self._file.identity.inode, self._file.offset
        return self._cursor.inode, self._cursor.offset

    @property
    def has_news(self) -> bool:
        """A read may find something: the log is not as it was when it had been read to its end."""
        return not self.is_settled or _stamp(self._path) != self._settled

    @property
    def is_settled(self) -> bool:
        """The log was read to its end, and only what is written from then on makes news."""
        return self._settled is not None and self._left is None

    def cursor(self, pending: int) -> Cursor:
        """The place `pending` bytes before what was read last."""
        wanted = self._given - pending
        while len(self._marks) > 1 and self._marks[1].given <= wanted:
            del self._marks[0]
        if not self._marks:
            return self._cursor
        mark = self._marks[0]
        identity = mark.identity
        return Cursor(
            identity.inode,
            identity.fingerprint,
            mark.offset + wanted - mark.given,
            identity.seen,
            identity.modified,
        )

    def read(self, limit: int = CHUNK) -> Chunk:
        """What comes next; nothing where there is no file, or it has not grown.

        Raises:
            OSError: It is there and cannot be read.
        """
        here = _stamp(self._path)
        if here is not None and here == self._settled and self._left is None:
            return Chunk(b"")
        self._settled = None
        try:
            data = self._next_piece(here, limit)
        except RenamingError:
            data = b""
        self._count_late()
        lost, self._lost = self._lost, 0
        if not data:
            return Chunk(b"", lost=lost)
        is_fresh, self._is_fresh = self._is_fresh, False
        continues = is_fresh and self._ends_line and data[:1] in (b" ", b"\t")
        self._ends_line = data.endswith(b"\n")
        self._given += len(data)
        return Chunk(data, is_fresh, continues, lost)

    def _next_piece(self, here: tuple[int, int, int] | None, limit: int) -> bytes:
        """From the file that is being read, or else from one that comes after it."""
        while True:
            self.lag = 0
            if self._file is None and not self._begin():
                return b""
            file = self._file
            assert file is not None  # noqa: S101 - it has begun
            data = self._piece(file, limit)
            if self._file is not file:
                # It was cut: there is a copy to be read first, or nothing.
                continue
            is_here = here is not None and here[0] == file.identity.inode
            self.lag = file.unread + (0 if is_here or here is None else here[1])
            if data:
                return data
            if is_here:
                self._settled = None if self.lag else here
                return b""
            if not self._go_on():
                return b""

    # --- In one file ------------------------------------------------------------------------------

    def _piece(self, file: _Open, limit: int) -> bytes:
        data = os.pread(file.descriptor, limit, file.offset)
        # Looked at afterwards: what was read before the file was cut is not taken for another's.
        if not file.look():
            self._cut(file)
            return b""
        if b"\0" in data:
            data = self._without_hole(file, data)
        file.offset += len(data)
        return data

    def _without_hole(self, file: _Open, data: bytes) -> bytes:
        """`data` up to a long run of zeros; those at its beginning are passed over."""
        if not data.startswith(_HOLE):
            at = data.find(_HOLE)
            return data if at < 0 else data[:at]
        limit = len(data)
        while data and not (rest := data.lstrip(b"\0")):
            file.offset = _next_data(file, file.offset + len(data))
            data = os.pread(file.descriptor, limit, file.offset)
        if data:
            file.offset += len(data) - len(rest)
            data = rest
        self._marks.append(_Mark(self._given, file.identity, file.offset))
        return self._without_hole(file, data) if data else data

    def _cut(self, file: _Open) -> None:
        """The file was cut in its place: go on in a copy that was made before, or without."""
        copy = self._copy_of(file.identity, file.offset)
        if copy is None:
            self._lost += file.unread
            self._file, self._ends_line = None, False
            return
        opened = _opened(copy)
        if opened is None:
            raise RenamingError(str(copy.path))
        self._lost += max(0, file.identity.seen - copy.size)
        # The offsets are the same: what is pending lies in the copy now.
        file.identity.inode = copy.inode
        opened.identity, opened.offset, opened.is_copy = file.identity, file.offset, True
        self._file = opened

    def _copy_of(self, identity: _Identity, offset: int) -> LogFile | None:
        if not identity.fingerprint:
            return None
        for found in log_files.rotated(self._path):
            is_copy = found.inode != identity.inode and found.size >= offset
            is_newer = found.modified >= identity.modified and found.inode not in self._older
            if is_copy and is_newer and found.begins_with(identity.fingerprint):
                return found
        return None

    def _count_late(self) -> None:
        """Count what was written to a file after it was left."""
        if self._left is None:
            return
        file, since = self._left
        size = os.fstat(file.descriptor).st_size
        self._lost += max(0, size - file.offset)
        file.offset = max(size, file.offset)
        if not 0 <= self._now() - since < _WATCH_SECONDS:
            self._left = None

    # --- From file to file ------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Begin with a file, or go on in the one that the cursor is of."""
        if self._is_resuming:
            return self._resume()
        return self._open_next(is_fresh=self._given > 0 or self._cursor.inode != 0)

    def _go_on(self) -> bool:
        """Leave a file that is read to its end and not under the log's name, if one follows."""
        file = self._file
        assert file is not None  # noqa: S101 - the caller has one
        is_late = 0 <= self._now() - file.identity.modified / 1e9 < _GRACE_SECONDS
        if is_late and not file.is_copy:
            return False
        if not self._open_next(is_fresh=True):
            return False
        self._count_late()
        self._left = (file, self._now())
        return True

    def _open_next(self, *, is_fresh: bool) -> bool:
        """Begin with what comes after all that is done with; an empty file is none yet."""
        current = self.inode
        files = log_files.rotated(self._path)
        here = log_files.look(self._path)
        taken = {current, here.inode if here else 0}
        new = [f for f in files if f.inode not in taken and not self._is_done_with(f)]
        if here is not None and here.size and here.inode != current:
            new.append(here)
        opened = _opened(new[0]) if new else None
        if opened is None:
            return False
        left = {file.inode for file in new}
        self._older = {f.inode: f.head for f in files if f.inode not in left}
        self._file, self._is_fresh = opened, is_fresh
        self._marks.append(_Mark(self._given, opened.identity, 0))
        return True

    def _is_done_with(self, file: LogFile) -> bool:
        """It came before what is read, or is a copy of what has been read."""
        head = self._older.get(file.inode)
        is_older = head is not None and file.begins_with(head)
        last = self._last
        is_copy = file.size <= last.seen and last.fingerprint.startswith(file.head)
        return is_older or is_copy

    @property
    def _last(self) -> Cursor | _Identity:
        """The file that was begun last."""
        return self._marks[-1].identity if self._marks else self._cursor

    def _resume(self) -> bool:
        """Find the cursor's file again, under whatever name; without it, begin with the next."""
        cursor, files = self._cursor, log_files.rotated(self._path)
        here = log_files.look(self._path)
        found = self._found_again(here, files)
        if found is None and here is None and not files:
            # Nothing says that the log is gone: its directory may be back at any moment.
            return False
        before = [f for f in files if f.modified <= cursor.modified or not cursor.modified]
        if found is not None:
            opened = _opened(found)
            if opened is None:
                return False
            if found is here:
                before = files
            elif found in files:
                before = files[: files.index(found)]
            opened.offset = cursor.offset
            opened.identity.fingerprint = cursor.fingerprint
            self._file = opened
            self._marks = [_Mark(0, opened.identity, cursor.offset)]
        else:
            self._lost += max(0, cursor.seen - cursor.offset)
            self._ends_line = False
        self._older = {f.inode: f.head for f in before}
        self._is_resuming = False
        return found is not None or self._open_next(is_fresh=True)

    def _found_again(self, here: LogFile | None, files: list[LogFile]) -> LogFile | None:
        """The cursor's file, or a copy of it."""
        cursor = self._cursor
        named = [here, *files] if here else files
        same = [file for file in named if file.inode == cursor.inode]
        if not same and (odd := log_files.by_inode(self._path, cursor.inode)) is not None:
            same.append(odd)
        copies = [f for f in files if f.modified >= cursor.modified and cursor.fingerprint]
        for file in (*same, *copies):
            if file.size >= cursor.offset and file.begins_with(cursor.fingerprint):
                return file
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with every write, and with every file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked thousands of times a second
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _opened(found: LogFile) -> _Open | None:
    """The file that was found, opened; None where another has its name by now."""
    try:
        with open_regular(found.path) as file:
            if os.fstat(file.fileno()).st_ino != found.inode:
                return None
            return _Open(os.dup(file.fileno()), _Identity(found.inode), 0)
    except FileNotFoundError:
        return None


def _next_data(file: _Open, offset: int) -> int:
    """Where bytes follow that were written, from `offset` on."""
    try:
        return os.lseek(file.descriptor, offset, os.SEEK_DATA)
    except OSError:
        # Beyond the last of them, or a file system without holes.
        return offset
