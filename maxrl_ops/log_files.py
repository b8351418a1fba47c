"""The files of one log: the one under its name, and what rotation has made of those before.

Rotation names them `trainer.log.1`, `trainer.log-20261125`, `trainer.1.log` and the like. Numbers
count up or down, so age is told by the time of the last write, which renaming leaves alone.
Compressed ones are none of ours: whoever compresses has to wait (logrotate's `delaycompress`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maxrl_ops.wire.rundir import open_regular

HEAD = 1024
"""How many of a file's first bytes it is known by."""

_NUMBER = re.compile(r"[._-]\d[\d.:T_+-]{0,40}")
# A directory of ten thousand old logs is not read through for the few that may be new.
_MOST = 64
_TRIES = 5


@dataclass(frozen=True, slots=True)
class LogFile:
    """One of them, as it was found.

    Attributes:
        modified: When it was written last, in nanoseconds since the epoch.
        head: Its first bytes, up to HEAD.
    """

    path: Path
    inode: int
    size: int
    modified: int
    head: bytes

    def begins_with(self, fingerprint: bytes) -> bool:
        """Its first bytes are those, as far as they had been written then."""
        return self.head.startswith(fingerprint)


class RenamingError(Exception):
    """Names change while they are read: to be looked at again."""


def look(path: Path) -> LogFile | None:
    """The file of that name; None where there is none.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            head = os.pread(file.fileno(), HEAD, 0)
    except FileNotFoundError:
        return None
    return LogFile(path, status.st_ino, status.st_size, status.st_mtime_ns, head)


def rotated(log: Path) -> list[LogFile]:
    """What rotation has made of `log`, oldest first; without those that cannot be read.

    Raises:
        RenamingError: A rotation is going on.
        OSError: The directory cannot be read.
    """
    before = _names(log)
    for _ in range(_TRIES):
        files = list(_looked_at(before))
        # A file that moves from name to name while these are read would be seen twice, or not.
        if (after := _names(log)) == before:
            return files
        before = after
    raise RenamingError(str(log))


def by_inode(log: Path, inode: int) -> LogFile | None:
    """The file with that inode beside `log`, whatever its name."""
    for directory in {log.parent, _real_directory(log)}:
        try:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in entries if entry.inode() == inode]
        except OSError:
            continue
        for name in names:
            found = _readable(directory / name)
            if found is not None and found.inode == inode:
                return found
    return None


def _names(log: Path) -> list[tuple[Path, int]]:
    """Path and inode of each, the oldest first."""
    found = []
    try:
        with os.scandir(log.parent) as entries:
            named = [(entry, number) for entry in entries if (number := _number(entry.name, log))]
    except FileNotFoundError:
        return []
    for entry, number in named:
        try:
            status = entry.stat()
        except OSError:
            continue
        # Of files of one instant, `.2` is older than `.1`.
        age = (status.st_mtime_ns, status.st_ctime_ns, -len(number), _descending(number))
        found.append((age, Path(entry.path), status.st_ino))
    return [(path, inode) for _, path, inode in sorted(found)[-_MOST:]]


def _number(name: str, log: Path) -> str | None:
    """What rotation has put into `name`; None where it is not one of this log's."""
    for start, end in ((log.name, ""), (log.stem, log.suffix)):
        if name.startswith(start) and name.endswith(end):
            middle = name[len(start) : len(name) - len(end)]
            if _NUMBER.fullmatch(middle):
                return middle
    return None


def _descending(number: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in number)


def _looked_at(names: list[tuple[Path, int]]) -> Iterator[LogFile]:
    for path, inode in names:
        found = _readable(path)
        if found is not None and found.inode == inode and found.size:
            yield found


def _readable(path: Path) -> LogFile | None:
    try:
        return look(path)
    except OSError:
        return None


def _real_directory(log: Path) -> Path:
    """Where the file lies that a symlink names."""
    return Path(os.path.realpath(log)).parent
