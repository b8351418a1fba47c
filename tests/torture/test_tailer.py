"""Writing, rotating, cutting, deleting, killing, restarting, in any order: nothing lost or doubled.

TORTURE_TAILER_STEPS says how many actions are tried in all.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxrl_ops.tailer import Cursor, Tailer

_STEPS = 50
_EXAMPLES = max(1, int(os.environ.get("TORTURE_TAILER_STEPS", "1000")) // _STEPS)
_CHUNK = 64


class Log(RuleBasedStateMachine):
    """A log of numbered lines, what it should have told, and a tailer that is killed at will."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(mkdtemp(prefix="tailer-"))
        self.path = self.directory / "trainer.log"
        self.clock = 1_000_000_000
        self.number = 0
        # Complete lines in the order in which they were written, and those destroyed unread.
        self.written: list[bytes] = []
        self.destroyed: set[bytes] = set()
        self.destroyed_bytes = 0
        self.half = b""
        self.rotations = 0
        self.got: list[bytes] = []
        self.buffer = b""
        self.lost = 0
        self.tailer = Tailer(self.path, Cursor(), self.now)

    def now(self) -> float:
        # Long after every write: no rotated file is waited for.
        return self.clock + 1_000_000.0

    def teardown(self) -> None:
        self.finish_line()
        for _ in range(200):
            self.read(many=True)
        expected = [line for line in self.written if line not in self.destroyed]
        seen = [line for line in self.got if line not in self.destroyed]
        assert seen == expected
        assert len(self.got) == len(set(self.got))
        assert self.lost <= self.destroyed_bytes
        shutil.rmtree(self.directory)

    # --- The writer -------------------------------------------------------------------------------

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        self.touch()

    def touch(self) -> None:
        """Times a second apart: the kernel's own are too coarse for what happens here."""
        self.clock += 1
        with suppress(FileNotFoundError):
            os.utime(self.path, (self.clock, self.clock))

    def next_line(self) -> bytes:
        self.number += 1
        return b"line %08d of a log that somebody writes\n" % self.number

    @rule(count=st.integers(1, 5))
    def write(self, count: int) -> None:
        self.finish_line()
        for _ in range(count):
            line = self.next_line()
            self.append(line)
            self.written.append(line)

    @rule(size=st.integers(1, 20))
    def write_a_part(self, size: int) -> None:
        if self.half:
            return
        line = self.next_line()
        self.append(line[:size])
        self.half = line

    def finish_line(self) -> None:
        if not self.half:
            return
        line, self.half = self.half, b""
        there = self.path.read_bytes() if self.path.exists() else b""
        tail = there.rpartition(b"\n")[2]
        if tail and line.startswith(tail):
            self.append(line[len(tail) :])
            self.written.append(line)

    # --- Those who rotate -------------------------------------------------------------------------

    def rename(self) -> None:
        for number in range(self.rotations, 0, -1):
            old = self.directory / f"trainer.log.{number}"
            with suppress(FileNotFoundError):
                old.rename(self.directory / f"trainer.log.{number + 1}")
        self.path.rename(self.directory / "trainer.log.1")
        self.rotations += 1

    @precondition(lambda self: self.path.exists() and self.rotations < 20)
    @rule()
    def rotate(self) -> None:
        self.finish_line()
        self.rename()

    @precondition(lambda self: self.path.exists() and self.rotations < 20)
    @rule()
    def rotate_and_write_and_rotate_again(self) -> None:
        self.rotate()
        self.write(2)
        self.rename()
        self.write(1)

    @precondition(lambda self: self.path.exists() and self.path.stat().st_size > 0)
    @rule()
    def copy_and_truncate(self) -> None:
        """As logrotate's copytruncate: a copy, then the file is cut in its place."""
        self.finish_line()
        for number in range(self.rotations, 0, -1):
            old = self.directory / f"trainer.log.{number}"
            with suppress(FileNotFoundError):
                old.rename(self.directory / f"trainer.log.{number + 1}")
        shutil.copy2(self.path, self.directory / "trainer.log.1")
        self.clock += 1
        os.utime(self.directory / "trainer.log.1", (self.clock, self.clock))
        self.rotations += 1
        os.truncate(self.path, 0)
        self.touch()

    @precondition(lambda self: self.path.exists())
    @rule()
    def truncate(self) -> None:
        """What nobody has read is gone."""
        self.finish_line()
        self.destroy()
        os.truncate(self.path, 0)
        self.touch()

    @precondition(lambda self: self.path.exists())
    @rule()
    def delete(self) -> None:
        self.finish_line()
        self.destroy()
        self.path.unlink()

    def destroy(self) -> None:
        data = self.path.read_bytes()
        self.destroyed_bytes += len(data)
        known = set(self.got)
        self.destroyed |= {line for line in data.splitlines(keepends=True) if line not in known}

    # --- Those who read ---------------------------------------------------------------------------

    @rule(many=st.booleans())
    def read(self, many: bool) -> None:
        for _ in range(50 if many else 1):
            chunk = self.tailer.read(_CHUNK)
            self.lost += chunk.lost
            if chunk.is_fresh and not chunk.continues:
                self.buffer = b""
            self.buffer += chunk.data
            *lines, self.buffer = self.buffer.split(b"\n")
            self.got += [line + b"\n" for line in lines]
            if not chunk.data:
                break

    @rule()
    def kill_and_restart(self) -> None:
        """The next one begins in front of the line that was not complete."""
        cursor = self.tailer.cursor(len(self.buffer))
        self.buffer = b""
        self.tailer = Tailer(self.path, cursor, self.now)

    @invariant()
    def nothing_is_doubled(self) -> None:
        assert len(self.got) == len(set(self.got))


TestLog = Log.TestCase
TestLog.settings = settings(
    max_examples=_EXAMPLES,
    stateful_step_count=_STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
