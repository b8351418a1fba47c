"""As test_tailer.py, through the parser and the history, with real file times and late writers."""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from followed import append, block, told
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from scripted import make_run

from maxrl_ops import run_watch
from maxrl_ops.core.policy import Policy
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.tailer import Chunk, Cursor, Tailer
from maxrl_ops.wire.documents import RunSpec

pytestmark = pytest.mark.slow

# A share of the torture in every run of the suite; `make torture` sets the whole.
STEPS = int(os.environ.get("TORTURE_TAILER_STEPS", "1000"))
SEED = int(os.environ.get("TORTURE_SEED", "1"))
_STEPS_OF_ONE = 50
# Where syncing costs nothing: of the history nothing but its contents matters here.
_MEMORY = Path("/dev/shm")  # noqa: S108


class Clock:
    """That of file times, which passes when a test says so."""

    ahead = 0.0

    @classmethod
    def now(cls) -> float:
        return time.time() + cls.ahead


class Slow(Tailer):
    """Reads little at a time, so that there is something unread."""

    def __init__(self, path: Path, cursor: Cursor) -> None:
        super().__init__(path, cursor, Clock.now)

    def read(self, limit: int = 300) -> Chunk:
        return super().read(limit)


class Done:
    """How much has been done so far, over all logs."""

    steps = 0


class Killed(BaseException):
    """Stands for kill -9: nothing between catches it."""


# What may happen, with what it is given.
_NEED_A_LOG = {"rename", "rename_under_a_writer", "copy_and_cut", "cut", "delete"}
_DEEDS = {
    "write": ["count"],
    "write_half": ["cut"],
    "rename": [],
    "rename_under_a_writer": ["flag"],
    "copy_and_cut": [],
    "cut": [],
    "delete": [],
    "look": [],
    "look_at_all": [],
    "wait": ["seconds"],
    "kill": ["flag"],
}


class Log(RuleBasedStateMachine):
    """A trainer's log, what turns it, and the daemon that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        fast = _MEMORY if _MEMORY.is_dir() else None
        self.history = Path(tempfile.mkdtemp(dir=fast)) / "history.db"
        self.run = make_run(self.place, mode="off")
        self.log = self.run.log
        self.store: Store | None = None
        self.steps = self.written = 0
        # Blocks of the file under the log's name; and all that were in one when it was destroyed.
        self.blocks: list[int] = []
        self.destroyed: set[int] = set()
        self.rest = b""

    @initialize()
    def begin(self) -> None:
        Clock.ahead = 0.0
        self._start()

    def _start(self) -> None:
        self.store = Store(self.history)
        self.watch = RunWatch(self.run, RunSpec.load(self.run), self.store, Policy())
        while self.watch.is_catching_up:
            self.watch.tick(is_over=False)

    # One rule for all: of several, Hypothesis leaves some out, and then nobody writes.
    @rule(
        deed=st.sampled_from([*_DEEDS]),
        count=st.integers(1, 4),
        cut=st.integers(60, 200),
        seconds=st.sampled_from([0.5, 2.0, 90.0]),
        flag=st.booleans(),
        then=st.integers(0, 2),
    )
    def step(self, deed: str, count: int, cut: int, seconds: float, flag: bool, then: int) -> None:
        """Do something, and write some blocks before anybody looks."""
        given = {"count": count, "cut": cut, "seconds": seconds, "flag": flag}
        if self.log.exists() or deed not in _NEED_A_LOG:
            getattr(self, deed)(*(given[name] for name in _DEEDS[deed]))
        if then:
            self.write(then)
        self.steps += 1

    # --- The writer -------------------------------------------------------------------------------

    def _next(self) -> bytes:
        self.written += 1
        self.blocks.append(self.written)
        return block(self.written)

    def write(self, count: int) -> None:
        rest, self.rest = self.rest, b""
        append(self.log, rest, *(self._next() for _ in range(count)))

    def write_half(self, cut: int) -> None:
        """A block whose end comes with the next, in the same file."""
        rest, data = self.rest, self._next()
        append(self.log, rest, data[:cut])
        self.rest = data[cut:]

    def _turned(self) -> None:
        """The writer has another file: what it had not finished, it does not finish there."""
        if self.rest:
            self.destroyed.add(self.blocks[-1])
        self.rest, self.blocks = b"", []

    # --- What is done to the log ------------------------------------------------------------------

    def rename(self) -> None:
        self._shift()
        self.log.rename(self._older(1))
        self._turned()

    def rename_under_a_writer(self, flag: bool) -> None:
        """Who has the file open may write a last block to it."""
        with self.log.open("ab", buffering=0) as file:
            self._shift()
            self.log.rename(self._older(1))
            if flag:
                file.write(self.rest + self._next())
                self.rest = b""
        self._turned()

    def copy_and_cut(self) -> None:
        self._shift()
        shutil.copy(self.log, self._older(1))
        os.truncate(self.log, 0)
        self._turned()

    def cut(self) -> None:
        self.destroyed.update(self.blocks)
        os.truncate(self.log, 0)
        self._turned()

    def delete(self) -> None:
        self.destroyed.update(self.blocks)
        self.log.unlink()
        self._turned()

    def _older(self, number: int) -> Path:
        return self.log.with_name(f"{self.log.name}.{number}")

    def _shift(self) -> None:
        count = 1
        while self._older(count).exists():
            count += 1
        for number in range(count - 1, 0, -1):
            self._older(number).rename(self._older(number + 1))

    # --- The daemon -------------------------------------------------------------------------------

    def look(self) -> None:
        self.watch.tick(is_over=False)

    def look_at_all(self) -> None:
        self._look_at_all()

    def wait(self, seconds: float) -> None:
        Clock.ahead += seconds

    def kill(self, flag: bool) -> None:
        assert self.store is not None
        if flag:
            self._die_in_a_commit()
        self.store.close()
        self._start()

    def _die_in_a_commit(self) -> None:
        def killed(*_: object) -> None:
            raise Killed

        self.store.take = killed  # type: ignore[method-assign, union-attr]
        with suppress(Killed):
            self.watch.tick(is_over=False)

    def _look_at_all(self) -> None:
        while self.watch.tick(is_over=False):
            pass

    # --- What must be found -----------------------------------------------------------------------

    @invariant()
    def nothing_is_doubled(self) -> None:
        if self.store is None:
            return
        found = Counter(told(self.store, self.run)[0])
        assert found.total() == len(found), f"twice: {found - Counter(set(found))}"
        assert set(found) <= set(range(1, self.written + 1))

    def teardown(self) -> None:
        try:
            if self.store is not None:
                self._nothing_is_lost()
        finally:
            if self.store is not None:
                self.store.close()
            shutil.rmtree(self.place)
            shutil.rmtree(self.history.parent)
            Done.steps += self.steps

    def _nothing_is_lost(self) -> None:
        """But what somebody destroyed; and of that only what had not been seen is not counted."""
        append(self.log, self.rest, self._next())
        self.rest = b""
        for _ in range(3):
            Clock.ahead += 2.0
            self._look_at_all()
        assert self.store is not None
        self.nothing_is_doubled()
        found, tally = told(self.store, self.run)
        missing = set(range(1, self.written + 1)) - set(found)
        assert missing <= self.destroyed, (sorted(missing - self.destroyed), tally)


def test_the_log_is_turned_and_the_daemon_killed_in_any_order(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setattr(run_watch, "Tailer", Slow)
    Done.steps = round_ = 0
    # Many a log ends after a few steps.
    while Done.steps < STEPS:
        round_ += 1
        checked = settings(
            max_examples=20,
            stateful_step_count=_STEPS_OF_ONE,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(SEED + round_)(Log), settings=checked)  # type: ignore[no-untyped-call]
    record_property("steps", Done.steps)
