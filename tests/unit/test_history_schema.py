"""Histories of older versions, written by those: each is taken up as if it were of today."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from told_history import tell

from maxrl_ops.core.policy import Policy
from maxrl_ops.history_schema import VERSION
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import HistoryError, Store
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir

GOLDEN = Path(__file__).parent.parent / "golden" / "histories"
OLD = sorted(GOLDEN.glob("history-*.db.gz"))


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that a history holds, but for what the file system gave."""
    with closing(sqlite3.connect(path)) as db:
        tables = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
            )
        ]
        found: dict[str, list[tuple[Any, ...]]] = {}
        for table in tables:
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(
                f'"{name}"' for name in sorted(columns) if name not in ("inode", "created", "tally")
            )
            query = f"SELECT {kept} FROM {table} ORDER BY 1, 2, 3"  # noqa: S608 - names of ours
            found[table] = sorted(db.execute(query), key=repr)
        return found


def taken_up(packed: Path, path: Path) -> Path:
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    Store(path).close()
    return path


@pytest.mark.parametrize("packed", OLD, ids=lambda path: path.name)
def test_an_old_history_becomes_what_today_would_have_written(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those histories tell no policy yet.
    monkeypatch.setattr("maxrl_ops.hearing.Hearing.heard", lambda *_, **__: iter(()))
    today = rows(tell(tmp_path))
    assert rows(taken_up(packed, tmp_path / "old.db")) == today
    assert len(today["iterations"]) == 66
    # Once is enough.
    Store(tmp_path / "old.db").close()
    assert rows(tmp_path / "old.db") == today


@pytest.mark.parametrize("packed", OLD, ids=lambda path: path.name)
def test_a_run_goes_on_where_its_old_history_ends(packed: Path, tmp_path: Path) -> None:
    tell(tmp_path)
    [run] = (RunDir(path) for path in (tmp_path / "runs").iterdir())
    states = []
    for path in (tmp_path / "history.db", taken_up(packed, tmp_path / "old.db")):
        with closing(Store(path)) as store:
            spec = RunSpec.load(run)
            watch = RunWatch(run, spec, store, Policy())
            while watch.is_catching_up:
                watch.tick(is_over=False)
            states.append((watch.state.iteration, watch.state.taken, watch.totals))
    assert states[0] == states[1]


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    path = tmp_path / "history.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    return path


def test_a_history_of_a_newer_version_is_left_alone(newer: Path) -> None:
    before = newer.read_bytes()
    with pytest.raises(HistoryError) as caught:
        Store(newer)
    assert f"is of version {VERSION + 1}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert newer.read_bytes() == before


@pytest.mark.parametrize("packed", OLD, ids=lambda path: path.name)
def test_a_migration_that_fails_changes_nothing(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    before = rows(path)
    monkeypatch.setattr("maxrl_ops.history_schema._add_columns", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Store(path)
    assert rows(path) == before
