"""history.db: what the daemon has seen, decided and been answered. Written by the daemon alone.

One transaction commits a piece of a log's events, what was decided on them, and the place in the
log behind them: a daemon that is killed begins again exactly where its history ends.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from maxrl_ops.core.decision import (
    Answered,
    Decision,
    ForeignControl,
    Hold,
    Input,
    Output,
    Published,
    Superseded,
)
from maxrl_ops.core.policy import Mode
from maxrl_ops.event_json import decode, encode
from maxrl_ops.tailer import Cursor
from maxrl_ops.wire.record import IterationRecord, RunStarted
from maxrl_ops.wire.rundir import FILE_MODE

# "mxrl", so that file(1) and we know our own.
APPLICATION_ID = 0x6D78726C
SCHEMA_VERSION = 1
_BUSY_SECONDS = 10.0

_SCHEMA = """
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
CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    iteration INTEGER,
    superseded INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX current_iterations ON events (run, iteration)
    WHERE kind = 'IterationRecord' AND NOT superseded;
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
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    iteration INTEGER NOT NULL,
    rule TEXT NOT NULL,
    because TEXT NOT NULL
);
CREATE VIEW iterations AS
    SELECT runs.name AS run, attempt, iteration, superseded,
        body ->> 'at' AS at,
        body ->> 'n_correct' AS n_correct, body ->> 'n_total' AS n_total,
        body ->> 'reference_correct' AS reference_correct,
        body ->> 'reference_total' AS reference_total,
        body ->> 'correct_reward_mean' AS correct_reward_mean,
        body ->> 'loss' AS loss, body ->> 'grad_norm' AS grad_norm,
        body ->> 'control_revision' AS control_revision,
        body
    FROM events JOIN runs ON runs.id = events.run
    WHERE kind = 'IterationRecord';
"""

# Made where a history does not have them yet: counters of outcomes begin at 0 there. Without the
# index, each iteration looks through all before it for rows that it supersedes.
_ADDITIONS = """
CREATE INDEX IF NOT EXISTS current_rows ON events (run, iteration) WHERE NOT superseded;
CREATE TABLE IF NOT EXISTS outcomes (
    run INTEGER NOT NULL REFERENCES runs,
    rule TEXT NOT NULL,
    outcome TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, rule, outcome)
) WITHOUT ROWID;
"""

_FATES = {Mode.ACT: "intended", Mode.SUGGEST: "suggested", Mode.OBSERVE: "observed"}


class HistoryError(Exception):
    """history.db cannot be used; the message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a tail has read so far, for its metrics.

    Attributes:
        unparsed: Lines that are not the dialect's, by reason.
        rotations: How often another file stood in the log's place.
        lost: Bytes that were destroyed before they could be read.
        truncated: Lines that were too long, or without their end when their file was.
    """

    lines: int = 0
    bytes: int = 0
    unparsed: Mapping[str, int] = field(default_factory=dict)
    rotations: int = 0
    lost: int = 0
    truncated: int = 0


# What the cursor got last lies in the tally's column, which is JSON: no schema changes for it.
def _place_of(inode: int, fingerprint: bytes, offset: int, told: str) -> tuple[Cursor, Tally]:
    values = json.loads(told)
    seen, modified = values.pop("file", (0, 0))
    return Cursor(inode, fingerprint, offset, seen, modified), Tally(**values)


def _row_of(cursor: Cursor, tally: Tally) -> tuple[int, bytes, int, str]:
    told = {key: getattr(tally, key) for key in tally.__slots__}
    told["file"] = (cursor.seen, cursor.modified)
    return cursor.inode, cursor.fingerprint, cursor.offset, json.dumps(told)


@dataclass(frozen=True, slots=True)
class Taken:
    """An event as it was taken in: of which attempt, and what it led to."""

    event: Input
    attempt: int
    outputs: tuple[Output, ...] = ()


class Store:
    """The open history."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            HistoryError: It is not ours, of a newer version, damaged, or cannot be written.
        """
        self._path = path
        with self._explained():
            # Made before SQLite makes it, whose mode would be the umask's.
            path.touch(mode=FILE_MODE)
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        if self._path.stat().st_size == 0:
            # Before anything else is written: whoever looks sees nothing, or a history of ours.
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        check_identity(self._db, self._path)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_ADDITIONS)

    def _number(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise HistoryError(f"{self._path}: {reason}; see that it can be written") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk has ended the transaction already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close it; the write-ahead log goes into the file."""
        self._db.close()

    # --- Reading what was -------------------------------------------------------------------------

    def run(self, name: str, created: str, job_name: str) -> int:
        """The id of that run; a directory made anew under an old name is another run."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO runs (name, created, job_name) VALUES (?, ?, ?)",
                (name, created, job_name),
            )
        return self._number("SELECT id FROM runs WHERE name = ? AND created = ?", name, created)

    def place(self, run: int) -> tuple[Cursor, Tally]:
        """How far the run's log has been taken in."""
        row = self._db.execute(
            "SELECT inode, fingerprint, offset, tally FROM cursors WHERE run = ?", (run,)
        ).fetchone()
        return _place_of(*row) if row else (Cursor(), Tally())

    def last_event(self, run: int) -> int:
        """How many events were taken in: the last one's number, 0 before the first."""
        return self._number("SELECT COALESCE(MAX(seq), 0) FROM events WHERE run = ?", run)

    def events(self, run: int, first: int = 1, last: int = 2**62) -> Iterator[Input]:
        """Those numbered so, from 1 on; what only a newer version knows is left out."""
        query = "SELECT kind, body FROM events WHERE run = ? AND seq BETWEEN ? AND ? ORDER BY seq"
        with closing(self._db.execute(query, (run, first, last))) as rows:
            for kind, body in rows:
                try:
                    yield decode(kind, body)
                except ValueError:
                    continue

    def intended(self, run: int) -> list[Decision]:
        """Decisions to be published, oldest first."""
        rows = self._db.execute(
            "SELECT events.body FROM decisions JOIN events ON events.run = decisions.run"
            " AND events.kind = 'Decision' AND events.body ->> 'intent' = decisions.intent"
            " WHERE decisions.run = ? AND fate = 'intended' ORDER BY decisions.id",
            (run,),
        ).fetchall()
        found = (decode("Decision", body) for (body,) in rows)
        return [decision for decision in found if isinstance(decision, Decision)]

    def newest_revision(self, run: int) -> int:
        """The highest revision that the journal knows; 0 when there is none."""
        query = "SELECT COALESCE(MAX(revision), 0) FROM decisions WHERE run = ?"
        return self._number(query, run)

    def outcomes(self, run: int) -> dict[tuple[str, str], int]:
        """How many decisions came to which outcome, by rule; an operator's have rule `operator`.

        One that comes to another later, as `unconfirmed` to `applied`, counts for both.
        """
        query = "SELECT rule, outcome, count FROM outcomes WHERE run = ?"
        return {(rule, outcome): count for rule, outcome, count in self._db.execute(query, (run,))}

    def held(self, run: int) -> dict[str, int]:
        """How many holds were said, by rule."""
        query = "SELECT rule, COUNT(*) FROM holds WHERE run = ? GROUP BY 1"
        return dict(self._db.execute(query, (run,)))

    def decided_at(self, run: int) -> dict[str, str | None]:
        """When each rule decided last, RFC 3339."""
        query = "SELECT rule, MAX(time) FROM decisions WHERE run = ? AND rule NOT NULL GROUP BY 1"
        return dict(self._db.execute(query, (run,)))

    # --- Taking in --------------------------------------------------------------------------------

    def take(
        self, run: int, taken: Iterable[Taken], place: tuple[Cursor, Tally] | None = None
    ) -> None:
        """Commit events, what they led to, and the place behind them, all or nothing."""
        with self._transaction() as db:
            seq = self.last_event(run)
            for each in taken:
                seq = self._add(db, run, seq, each)
            if place is not None:
                db.execute(
                    "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?)", (run, *_row_of(*place))
                )

    def _add(self, db: sqlite3.Connection, run: int, seq: int, taken: Taken) -> int:
        """The event, then the decisions on it, which are events too; the last one's number."""
        decisions = [output for output in taken.outputs if isinstance(output, Decision)]
        for event in (taken.event, *decisions):
            seq += 1
            _supersede(db, run, event)
            iteration = getattr(event, "iteration", None)
            kind, body = encode(event)
            db.execute(
                "INSERT INTO events (run, seq, kind, attempt, iteration, body)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (run, seq, kind, taken.attempt, iteration, body),
            )
            _follow_fate(db, run, event)
        for output in taken.outputs:
            _note(db, run, output)
        return seq


def check_identity(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not ours, or of a version that we do not know.

    Raises:
        HistoryError: It is.
    """
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise HistoryError(f"{path}: {error}; move it away") from None
    if application != APPLICATION_ID:
        raise HistoryError(f"{path} is a database, but not a history of ours: move it away")
    if version > SCHEMA_VERSION:
        raise HistoryError(
            f"{path} is of version {version}, this maxrl-ops knows {SCHEMA_VERSION}: upgrade it"
        )


_REWRITTEN = "('IterationRecord', 'Evaluated', 'UpdateSkipped')"


def _supersede(db: sqlite3.Connection, run: int, event: Input) -> None:
    """Mark the rows that a resume, or an iteration said again, puts others in the place of."""
    match event:
        case RunStarted(resumed_from=None):
            first = 0
        case RunStarted(resumed_from=int(iteration)):
            first = iteration + 1
        case IterationRecord(iteration=iteration):
            first = iteration
        case _:
            return
    # An update is skipped before its iteration is told: that one belongs to the new row.
    kinds = "('IterationRecord', 'Evaluated')" if isinstance(event, IterationRecord) else _REWRITTEN
    db.execute(
        f"UPDATE events SET superseded = 1 WHERE run = ? AND kind IN {kinds}"  # noqa: S608 - ours
        " AND iteration >= ? AND NOT superseded",
        (run, first),
    )


def _follow_fate(db: sqlite3.Connection, run: int, event: Input) -> None:
    """Keep the journal's row of a decision as its events say."""
    match event:
        case Decision():
            db.execute(
                "INSERT INTO decisions (run, intent, author, rule, iteration, time, evidence,"
                " control, because, fate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    event.intent,
                    f"rule:{event.rule}",
                    event.rule,
                    event.iteration,
                    event.time,
                    json.dumps(dict(event.evidence)),
                    json.dumps(dict(event.changes)),
                    event.because,
                    _FATES[event.mode],
                ),
            )
            _count(db, run, event.rule, _FATES[event.mode])
        case ForeignControl():
            db.execute(
                # Not under its intent: a control that was copied by hand has another's.
                "INSERT OR IGNORE INTO decisions"
                " (run, intent, revision, author, time, evidence, control, because, fate)"
                " VALUES (?, ?, ?, ?, ?, '{}', ?, ?, 'published')",
                (
                    run,
                    f"revision {event.revision}",
                    event.revision,
                    event.author,
                    event.time,
                    json.dumps(dict(event.changes)),
                    event.because,
                ),
            )
        case Published(intent, revision, _):
            db.execute(
                "UPDATE decisions SET revision = ?, fate = 'published'"
                " WHERE run = ? AND intent = ?",
                (revision, run, intent),
            )
        case Superseded(intent, _, because):
            db.execute(
                "UPDATE decisions SET fate = 'superseded', because = because || ' (superseded: '"
                " || ? || ')' WHERE run = ? AND intent = ?",
                (because, run, intent),
            )
        case _:
            pass


def _note(db: sqlite3.Connection, run: int, output: Output) -> None:
    match output:
        case Hold():
            db.execute(
                "INSERT INTO holds (run, iteration, rule, because) VALUES (?, ?, ?, ?)",
                (run, output.iteration, output.rule, output.because),
            )
        case Answered():
            db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                (
                    run,
                    output.revision,
                    output.outcome,
                    output.iteration,
                    json.dumps(dict(output.effective)),
                    output.because,
                ),
            )
            _count(db, run, _rule_of(db, run, output.revision), output.outcome)
        case Decision():
            pass


def _count(db: sqlite3.Connection, run: int, rule: str, outcome: str) -> None:
    db.execute(
        "INSERT INTO outcomes VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
        (run, rule, outcome),
    )


def _rule_of(db: sqlite3.Connection, run: int, revision: int) -> str:
    query = "SELECT rule FROM decisions WHERE run = ? AND revision = ? AND rule NOT NULL"
    row = db.execute(query, (run, revision)).fetchone()
    return row[0] if row else "operator"
