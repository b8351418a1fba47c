"""What the history forgets, and what it never does."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scripted import ScriptedTrainer, make_run

from maxrl_ops.core.policy import Policy
from maxrl_ops.core.since import Since, SinceError
from maxrl_ops.iterations import iterations
from maxrl_ops.retention import AGE_ENV, SIZE_ENV, Limits, Retention
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir

DAY = 86_400
MUCH = 1 << 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "history.db")) as store:
        yield store


def told(store: Store, home: Path, name: str, days: float, steps: int = 40) -> RunDir:
    """A run with a decision in it that ended so long ago, all taken in."""
    run = make_run(home, name)
    trainer = ScriptedTrainer(run)
    trainer.begin()
    then = time.time() - days * DAY
    watch = RunWatch(run, RunSpec.load(run), store, Policy())
    for _ in range(steps // 10):
        trainer.step(10)
        os.utime(run.log, (then, then))
        while watch.tick(is_over=True):
            pass
    return run


def forgotten(store: Store, limits: Limits, *there: str, turns: int = 99) -> None:
    """After a pass."""
    retention = Retention(store, limits)
    for _ in range(turns):
        retention.turn(set(there))


def known(home: Path) -> set[str]:
    """The runs of which the history has rows."""
    with closing(sqlite3.connect(home / "history.db")) as db:
        runs = dict(db.execute("SELECT id, name FROM runs"))
        found = {run for (run,) in db.execute("SELECT id >> 40 FROM records")}
        for (table,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            if table not in ("runs", "records"):
                found |= {run for (run,) in db.execute(f"SELECT run FROM {table}")}  # noqa: S608
        return {runs[run] for run in found}


def test_what_is_too_old_and_gone_is_forgotten(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, days in (("old", 40), ("kept", 40), ("young", 20)):
        told(store, tmp_path, name, days)
    for name in ("old", "young"):
        shutil.rmtree(tmp_path / "runs" / name)
    forgotten(store, Limits(30 * DAY, MUCH), "kept")
    assert known(tmp_path) == {"kept", "young"}
    assert "history: old is forgotten: too old" in capfd.readouterr().err
    with pytest.raises(LookupError):
        list(iterations(tmp_path / "history.db", "old", Since()))
    # Its name can be another's, whose history is its own.
    told(store, tmp_path, "old", 0, steps=10)
    assert len(list(iterations(tmp_path / "history.db", "old", Since()))) == 10


def test_of_too_much_the_oldest_that_are_gone_are_forgotten(store: Store, tmp_path: Path) -> None:
    for name, days in (("b", 3), ("a", 2), ("c", 1), ("kept", 9)):
        told(store, tmp_path, name, days, steps=400)
    with closing(sqlite3.connect(tmp_path / "history.db")) as db:
        size = db.execute("PRAGMA page_count").fetchone()[0] * 4096
    forgotten(store, Limits(30 * DAY, size - 4096), "kept")
    assert known(tmp_path) == {"a", "c", "kept"}
    forgotten(store, Limits(30 * DAY, 1), "kept")
    assert known(tmp_path) == {"kept"}


def test_a_run_that_is_half_gone_is_finished_by_the_next_daemon(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxrl_ops.retention._PIECE", 7)
    told(store, tmp_path, "old", 40)
    limits = Limits(30 * DAY, MUCH)
    forgotten(store, limits, "other", turns=2)
    with closing(sqlite3.connect(tmp_path / "history.db")) as db:
        assert 0 < db.execute("SELECT COUNT(*) FROM records").fetchone()[0] < 40
    with pytest.raises(LookupError):
        list(iterations(tmp_path / "history.db", "old", Since()))
    forgotten(store, limits, "other")
    assert known(tmp_path) == set()


def test_where_no_run_is_there_nothing_is_forgotten(store: Store, tmp_path: Path) -> None:
    told(store, tmp_path, "old", 40)
    forgotten(store, Limits(1, 1))
    assert known(tmp_path) == {"old"}


def test_the_environment_says_how_much() -> None:
    assert Limits.of({}) == Limits(365 * DAY, 8 << 30)
    assert Limits.of({AGE_ENV: "12h", SIZE_ENV: "500M"}) == Limits(DAY / 2, 500 << 20)
    for env in ({AGE_ENV: "never"}, {SIZE_ENV: "8"}):
        with pytest.raises(SinceError, match="is not allowed: give"):
            Limits.of(env)
