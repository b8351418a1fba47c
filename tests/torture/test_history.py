"""A daemon killed at random points under load leaves the history of one that never was."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scripted import header, make_run, record
from waiting import wait_until

from maxrl_ops.daemon import Daemon
from maxrl_ops.exporter import Exporter
from maxrl_ops.policy_file import PolicyFile
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import CheckpointSaved, Evaluated, RunEnded, UpdateSkipped
from maxrl_ops.wire.rundir import RunDir

pytestmark = pytest.mark.slow

# A share of the torture in every run of the suite; `make torture` sets the whole.
KILLS = int(os.environ.get("TORTURE_DAEMON_KILLS", "5"))
# One whose rules say what they would do, one that they leave alone, one whose log is rotated.
MODES = {"told": "suggest", "off": "off", "rotated": "observe"}
_STEP = 40


def logged(rng: random.Random) -> Iterator[str]:
    """A log without end: iterations, now and then a resume, what nobody knows, half a block."""
    iteration, attempt = 0, 1
    yield render(header(iterations=10**6))
    while True:
        for _ in range(_STEP):
            iteration += 1
            yield render(record(iteration, rng.randrange(5, 60), iterations=10**6))
        kind = rng.randrange(5)
        if kind == 0:
            yield render(Evaluated(iteration, 0.5, {1: 0.4, 8: 0.8}, 0.02))
        elif kind == 1:
            yield render(CheckpointSaved(iteration, 0.25)) + "| a library's\nsome other line\n"
        elif kind == 2:
            yield render(UpdateSkipped(iteration, "loss nan"))
        elif kind == 3:
            attempt, iteration = attempt + 1, iteration - rng.randrange(_STEP)
            yield "Iteration 7/1000\n  Correctness: 1/2" + "\n"
            yield render(header(attempt=attempt, resumed_from=iteration, iterations=10**6))


class Writer:
    """Writes the logs of all runs, in pieces that end anywhere."""

    def __init__(self, runs: list[RunDir], rng: random.Random) -> None:
        self._rng = rng
        self._logs = {run: logged(random.Random(rng.random())) for run in runs}
        self._left = dict.fromkeys(runs, "")

    def write(self, size: int) -> None:
        """So many bytes, or a few more, to each."""
        for run in self._logs:
            self._write(run, self._told(run, size)[:size])

    def end(self) -> None:
        """What is left of the last line, and a last word."""
        for run in self._logs:
            rest = self._left[run]
            self._write(run, rest + next(self._logs[run]) + render(RunEnded("finished", "10")))

    def rotate(self, run: RunDir) -> None:
        """Under another name with what there is, once its line is whole; a new one begins."""
        self._write(run, self._left[run])
        run.log.rename(run.log.with_name("trainer.log.1"))
        self._write(run, next(self._logs[run]))

    def _told(self, run: RunDir, size: int) -> str:
        while len(self._left[run]) < size:
            self._left[run] += next(self._logs[run])
        return self._left[run]

    def _write(self, run: RunDir, text: str) -> None:
        self._left[run] = self._left[run].removeprefix(text)
        with run.log.open("a") as file:
            file.write(text)


def killed_amid(home: Home, writer: Writer, rng: random.Random) -> None:
    """A daemon that is killed while it starts, reads, or waits, and while the logs grow."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "maxrl_ops.daemon", "--listen", "127.0.0.1:0"],
        env={**os.environ, "MAXRL_OPS_HOME": str(home.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            if rng.random() < 0.9:
                pid = f'"pid": {process.pid},'.encode()
                wait_until(lambda: pid in read(home.daemon_file), 30, "a daemon")
                if rng.random() < 0.7:
                    before = places(home)
                    # More than a block: it may have taken in all whole ones already.
                    writer.write(2_000)
                    wait_until(lambda: places(home) != before, 60, "a daemon that goes on")
            deadline = time.monotonic() + rng.random() * 0.2
            while time.monotonic() < deadline:
                writer.write(rng.randrange(20_000))
            assert process.poll() is None
        finally:
            process.kill()


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def read_to_the_end(home: Home) -> None:
    """By a daemon that nobody kills."""
    with closing(Store(home.history)) as store:
        daemon = Daemon(home, store, Exporter(), PolicyFile.of_home(home.policy))

        def is_read() -> bool:
            is_busy = daemon.turn()
            return not is_busy and places(home) == {run.name: end(run.log) for run in home.runs()}

        wait_until(is_read, 60, "all logs are read")


def end(log: Path) -> tuple[int, int]:
    status = log.stat()
    return status.st_ino, status.st_size


def places(home: Home) -> dict[str, tuple[int, int]]:
    """How far each log is taken in: inode and offset."""
    with closing(sqlite3.connect(home.history)) as db:
        rows = db.execute("SELECT name, inode, offset FROM cursors JOIN runs ON runs.id = run")
        return {name: (inode, offset) for name, inode, offset in rows}


def stored(home: Home) -> int:
    """How many iterations the history has."""
    if not home.history.exists():
        return 0
    with closing(sqlite3.connect(home.history)) as db:
        tables = dict(db.execute("SELECT name, 1 FROM sqlite_master"))
        query = "SELECT COUNT(*) FROM records"
        return int(db.execute(query).fetchone()[0]) if "records" in tables else 0


# Of each table, what is in it whichever file system, whichever run's turn it was, and whenever a
# daemon came by with its policy.
_DUMPED = {
    "iterations": "SELECT * FROM iterations ORDER BY run, seq",
    "events": "SELECT runs.name, seq, kind, attempt, iteration, CASE kind WHEN 'PolicyChanged'"
    " THEN json_remove(body, '$.time') ELSE body END FROM events JOIN runs ON runs.id = run"
    " ORDER BY 1, 2",
    "rewinds": "SELECT runs.name, seq, first FROM rewinds JOIN runs ON runs.id = run ORDER BY 1, 2",
    "decisions": "SELECT runs.name, intent, revision, author, rule, iteration, time, evidence,"
    " control, because, fate FROM decisions JOIN runs ON runs.id = run ORDER BY 1, decisions.id",
    "answers": "SELECT runs.name, answers.* FROM answers JOIN runs ON runs.id = run ORDER BY 1, 3",
    "holds": "SELECT runs.name, iteration, rule, because FROM holds JOIN runs ON runs.id = run"
    " ORDER BY 1, holds.id",
    "outcomes": "SELECT runs.name, rule, outcome, count FROM outcomes JOIN runs ON runs.id = run"
    " ORDER BY 1, 2, 3",
    "cursors": "SELECT runs.name, fingerprint, offset, json_remove(tally, '$.file') FROM cursors"
    " JOIN runs ON runs.id = run ORDER BY 1",
}


def dump(home: Home) -> bytes:
    """The history, canonically: a line a row."""
    lines: list[str] = []
    with closing(sqlite3.connect(home.history)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for table, query in _DUMPED.items():
            cursor = db.execute(query)
            names = [name for name, *_ in cursor.description]
            kept = [place for place, name in enumerate(names) if name != "run_id"]
            rows = ([row[place] for place in kept] for row in cursor)
            lines += [f"{table} {json.dumps(row, default=bytes.hex)}" for row in rows]
    return "\n".join(lines).encode()


def test_killed_at_random_points_the_history_is_that_of_one_never_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("TORTURE_SEED", "1"))
    rng = random.Random(seed)
    home, whole = Home(tmp_path / "killed"), Home(tmp_path / "whole")
    runs = {name: make_run(home.path, name, mode) for name, mode in MODES.items()}
    writer = Writer(list(runs.values()), rng)
    grown = 0
    for kill in range(KILLS):
        before = stored(home)
        writer.write(rng.randrange(200_000))
        killed_amid(home, writer, rng)
        grown += stored(home) > before
        if kill == KILLS // 2:
            writer.rotate(runs["rotated"])
    writer.end()
    read_to_the_end(home)

    shutil.copytree(home.runs_dir, whole.runs_dir)
    read_to_the_end(whole)
    told = dump(whole)
    differing = set(dump(home).splitlines()) ^ set(told.splitlines())
    assert dump(home) == told, f"seed {seed}: {sorted(differing)[:4]}"
    # It was no history of nothing, and the daemons were at work when they were killed.
    for table in ("iterations", "events", "rewinds", "decisions", "holds", "outcomes", "cursors"):
        assert f"\n{table} ".encode() in b"\n" + told
    assert grown
    facts = {"kills": KILLS, "amid reading": grown, "iterations": stored(whole), "bytes": len(told)}
    for name, value in facts.items():
        record_property(name, value)
