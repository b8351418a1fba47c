"""`logs`: the end of trainer.log, made safe for a terminal."""

import codecs
import os
import sys
import time
from pathlib import Path

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import attached_log, is_watched, meant
from maxrl_ops.core.printable import visible
from maxrl_ops.wire.rundir import RunDir

_CHUNK = 64 * 1024
_POLL_SECONDS = 0.25
# From its directory to its first state.json a run is not active yet.
_BIRTH_SECONDS = 60.0


def logs(name: str | None, *, follow: bool, lines: int) -> int:
    """Print the last lines of a run's log, and with `follow` what comes after them."""
    run = meant(name)
    log = attached_log(run) or run.log
    if not follow and not log.exists():
        why = f"its supervisor's is {run.supervisor_log}"
        if log != run.log:
            why = f"{log} is not there"
        raise CommandError(f"{run.name} has written no log yet; {why}", ExitCode.NOT_FOUND)
    tail = _Tail(log, lines)
    try:
        tail.print_new()
        # Asked before reading: what was written before the end is printed.
        while follow and _may_grow(run):
            time.sleep(_POLL_SECONDS)
            tail.print_new()
        if follow:
            tail.print_new()
    except KeyboardInterrupt:
        # The usual way to leave; the run goes on.
        sys.stdout.write("\n")
    return ExitCode.OK


def _may_grow(run: RunDir) -> bool:
    if is_watched(run):
        return True
    return not run.state.exists() and time.time() - run.path.stat().st_mtime < _BIRTH_SECONDS


class _Tail:
    """Prints a file from its last lines on; one that is replaced or cut, from its beginning."""

    def __init__(self, path: Path, lines: int) -> None:
        self._path = path
        self._lines: int | None = lines
        self._inode = 0
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def print_new(self) -> None:
        """Print what has been added since the last call."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                first, self._lines = self._lines, None
                self._inode = status.st_ino
                self._offset = 0 if first is None else _start_of_last(file.fileno(), first)
            file.seek(self._offset)
            while data := file.read(_CHUNK):
                self._offset += len(data)
                sys.stdout.write(visible(self._decoder.decode(data)))
        sys.stdout.flush()


def _start_of_last(descriptor: int, lines: int) -> int:
    """Offset of the first of the last `lines` lines, read from the end."""
    size = end = os.fstat(descriptor).st_size
    wanted = lines
    while end > 0:
        start = max(0, end - _CHUNK)
        block = os.pread(descriptor, end - start, start)
        # The newline that ends the file ends its last line, and begins none.
        at = len(block) - 1 if end == size and block.endswith(b"\n") else len(block)
        if lines == 0:
            return size
        while wanted and (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if not wanted:
                return start + at + 1
        end = start
    return 0
