"""What history.db is made of, how one of ours is known, and how an older one is taken up."""

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from maxrl_ops import record_rows, rewinds
from maxrl_ops.event_json import decode
from maxrl_ops.record_rows import COLUMNS, SEQ_BITS
from maxrl_ops.wire.record import IterationRecord

# "mxrl", so that file(1) and we know our own.
APPLICATION_ID = 0x6D78726C


class HistoryError(Exception):
    """history.db cannot be used; the message is one line that says why and what to do."""


# What a change was worth.
_JUDGEMENTS = """CREATE TABLE judgements (
    run INTEGER NOT NULL REFERENCES runs,
    revision INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    evidence TEXT NOT NULL,
    because TEXT NOT NULL,
    PRIMARY KEY (run, revision)
) WITHOUT ROWID"""

_TABLES = f"""
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    created TEXT NOT NULL,
    job_name TEXT NOT NULL,
    UNIQUE (name, created)
);
CREATE TABLE cursors (
    run INTEGER PRIMARY KEY REFERENCES runs,
    inode INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    offset INTEGER NOT NULL,
    tally TEXT NOT NULL
);
-- Iterations. The id is run << {SEQ_BITS} | seq.
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL,
    {", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())}
);
-- All other events.
CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    iteration INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
-- From event seq on, iterations from `first` on were made again: those before it are superseded.
-- One that a later one with the same or a lower `first` follows says nothing, and is removed.
CREATE TABLE rewinds (
    run INTEGER NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    first INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    intent TEXT NOT NULL,
    revision INTEGER,
    author TEXT NOT NULL,
    rule TEXT,
    iteration INTEGER,
    time TEXT,
    evidence TEXT NOT NULL,
    control TEXT NOT NULL,
    because TEXT NOT NULL,
    fate TEXT NOT NULL,
    UNIQUE (run, intent),
    UNIQUE (run, revision)
);
CREATE TABLE answers (
    run INTEGER NOT NULL REFERENCES runs,
    revision INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    effective TEXT NOT NULL,
    because TEXT,
    PRIMARY KEY (run, revision)
) WITHOUT ROWID;
{_JUDGEMENTS};
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    iteration INTEGER NOT NULL,
    rule TEXT NOT NULL,
    because TEXT NOT NULL
);
CREATE INDEX holds_by_run ON holds (run);
CREATE TABLE outcomes (
    run INTEGER NOT NULL REFERENCES runs,
    rule TEXT NOT NULL,
    outcome TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, rule, outcome)
) WITHOUT ROWID;
"""

_SUPERSEDED = f"""COALESCE((
        SELECT rewinds.first <= records.iteration FROM rewinds
        WHERE rewinds.run = runs.id AND rewinds.seq > records.id - (runs.id << {SEQ_BITS})
        ORDER BY rewinds.seq LIMIT 1
    ), 0)"""  # noqa: S608 - a number of ours


def _view() -> str:
    figures = ", ".join(f'records."{name}"' for name in COLUMNS)
    return f"""
CREATE VIEW iterations AS
    SELECT runs.name AS run, runs.id AS run_id, records.id - (runs.id << {SEQ_BITS}) AS seq,
        records.attempt, {_SUPERSEDED} AS superseded, {figures}
    FROM runs JOIN records
        ON records.id BETWEEN runs.id << {SEQ_BITS} AND ((runs.id + 1) << {SEQ_BITS}) - 1
"""  # noqa: S608 - names of fields


def create(db: sqlite3.Connection) -> None:
    """Make an empty history, whole or not at all: whoever looks sees none, or one of ours."""
    db.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} {_view()}; PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


def check_identity(db: sqlite3.Connection, path: Path) -> int:
    """Refuse a database that is not ours, or of a version that we do not know; its version.

    Raises:
        HistoryError: It is.
    """
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise HistoryError(f"{path}: {error}; move it away") from None
    if application != APPLICATION_ID:
        raise HistoryError(f"{path} is a database, but not a history of ours: move it away")
    if version > VERSION:
        raise HistoryError(
            f"{path} is of version {version}, this maxrl-ops knows {VERSION}: upgrade it"
        )
    return version


def upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Bring an older history to this version, all or nothing; its figures get their columns.

    Raises:
        HistoryError: It is not ours, or of a newer version.
    """
    version = check_identity(db, path)
    if version == VERSION and _columns(db) >= COLUMNS.keys():
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for migrate in _MIGRATIONS[version - 1 :]:
            migrate(db)
        _add_columns(db)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _columns(db: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in db.execute("PRAGMA table_info(records)")}


def _add_columns(db: sqlite3.Connection) -> None:
    """A figure that a newer version tells needs no migration: rows before it have none."""
    for name in COLUMNS.keys() - _columns(db):
        db.execute(f'ALTER TABLE records ADD COLUMN "{name}" {COLUMNS[name]}')
    db.execute("DROP VIEW IF EXISTS iterations")
    db.execute(_view())


def _from_1(db: sqlite3.Connection) -> None:
    """Iterations were events as JSON, and each said of itself whether it was superseded."""
    db.execute("DROP VIEW iterations")
    db.execute("ALTER TABLE events RENAME TO events_1")
    have = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for statement in _TABLES.split(";"):
        made = re.search(r"CREATE (?:TABLE|INDEX) (\w+)", statement)
        if made and made[1] not in have:
            db.execute(statement)
    query = "SELECT run, seq, kind, attempt, iteration, body FROM events_1 ORDER BY run, seq"
    tops: dict[int, int] = {}
    for run, seq, kind, attempt, iteration, body in db.execute(query):
        if kind in ("RunStarted", "IterationRecord"):
            event = decode(kind, body)
            tops[run] = rewinds.follow(db, run, seq, event, tops.get(run, rewinds.NONE))
        if kind == "IterationRecord":
            assert isinstance(event, IterationRecord)  # noqa: S101 - its kind says so
            record_rows.insert(db, record_rows.row_id(run, seq), attempt, [event])
        else:
            row = (run, seq, kind, attempt, iteration, body)
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
    db.execute("DROP TABLE events_1")


def _from_2(db: sqlite3.Connection) -> None:
    """Nobody kept what changes were worth."""
    have = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "judgements" not in have:
        db.execute(_JUDGEMENTS)


_MIGRATIONS: Sequence[Callable[[sqlite3.Connection], None]] = (_from_1, _from_2)
VERSION = 1 + len(_MIGRATIONS)
