"""The trainer's log: events on a private descriptor, everything else prefixed.

File descriptors 1 and 2 become a pipe whose lines a thread copies into the log behind "| ", so
that nothing a reward, a library or a compiler prints can pose as a block.

A log that has grown long makes way for another, as trainer.log.000001 and so on. Of many, the
first, which tells what the run began with, and the newest are kept.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from maxrl_ops.wire.checkpoints import Checkpoint
from maxrl_ops.wire.logformat import foreign, render
from maxrl_ops.wire.record import Event
from maxrl_ops.wire.rundir import FILE_MODE, RunDir

# A line that never ends must not collect in memory.
_LONGEST_FOREIGN_LINE = 8 * 1024
# Where the newest checkpoint is told of, if it is: what follows it is less than an iteration or so.
_TAIL = 1024 * 1024
# Some eighty thousand iterations each, a gigabyte in all.
LONGEST_LOG = 64 * 1024 * 1024
_MOST_ROTATED = 15


class RunLog:
    """trainer.log, open for appending; each event is one write."""

    def __init__(self, run: RunDir, echo: int | None = None, longest: int = LONGEST_LOG) -> None:
        """Open the log.

        Args:
            run: Whose.
            echo: A descriptor that gets every event too (a person's terminal).
            longest: From this size on, in bytes, the log makes way for another.
        """
        self._run, self._longest = run, longest
        # What is printed is written by another thread.
        self._lock = threading.Lock()
        self._descriptor = self._open()
        self._echo = echo
        self._end_torn_line()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._run.log, flags, FILE_MODE)

    def _end_torn_line(self) -> None:
        """A killed writer may have left half a line: it must not swallow our first one."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def write(self, event: Event) -> None:
        """Append an event.

        Raises:
            OSError: The log cannot be written whole; a trainer that cannot log must not train.
        """
        self._append(render(event))

    def write_foreign(self, text: str) -> None:
        """Append what somebody else printed, prefixed."""
        self._append(foreign(text))

    def _append(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        with self._lock:
            written = os.write(self._descriptor, data)
            if written != len(data):
                os.write(self._descriptor, data[written:])
            if os.fstat(self._descriptor).st_size >= self._longest:
                self._rotate()
        if self._echo is not None:
            os.write(self._echo, data)

    def _rotate(self) -> None:
        """Begin another log; where that cannot be, the long one goes on."""
        log = self._run.log
        rotated = sorted(log.parent.glob(f"{log.name}.[0-9][0-9][0-9][0-9][0-9][0-9]"))
        number = int(rotated[-1].suffix[1:]) + 1 if rotated else 1
        with suppress(OSError):
            log.rename(log.with_name(f"{log.name}.{number:06d}"))
            before, self._descriptor = self._descriptor, self._open()
            os.close(before)
            for old in rotated[1:-_MOST_ROTATED]:
                old.unlink()

    def tells_of(self, checkpoint: Checkpoint) -> bool:
        """Whether the log's end says that `checkpoint` was saved."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL, max(0, size - _TAIL))
        return f"\nCheckpoint {checkpoint.iteration}: ".encode() in tail

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    @contextmanager
    def capturing_output(self) -> Iterator[None]:
        """Send descriptors 1 and 2 of this process, and of all it starts, into the log."""
        read_end, write_end = os.pipe()
        saved = os.dup(1), os.dup(2)
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(write_end)
        copier = threading.Thread(target=self._copy, args=(read_end,), name="output", daemon=True)
        copier.start()
        try:
            yield
        finally:
            # Replacing both write ends is what lets the copier see the end of the pipe.
            for number, original in enumerate(saved, start=1):
                os.dup2(original, number)
                os.close(original)
            copier.join(timeout=5.0)

    def _copy(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as pipe:
            while line := pipe.readline(_LONGEST_FOREIGN_LINE):
                try:
                    self.write_foreign(line.decode("utf-8", "replace"))
                except OSError:
                    # A full disk: keep draining, or a printing reward would block for ever.
                    continue
