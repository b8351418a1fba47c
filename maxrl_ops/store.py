"""history.db: what the daemon has seen, decided and been answered. Written by the daemon alone.

One transaction commits a piece of a log's events, what was decided on them, and the place in the
log behind them: a daemon that is killed begins again exactly where its history ends.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from maxrl_ops import history_schema, record_rows, rewinds, stored_events
from maxrl_ops.core.decision import (
    Answered,
    Decision,
    Declined,
    ForeignControl,
    Hold,
    Input,
    Judged,
    ModeSet,
    Output,
    Published,
    Superseded,
)
from maxrl_ops.core.policy import Mode
from maxrl_ops.event_json import decode, encode
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.record_rows import row_id
from maxrl_ops.tailer import Cursor
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import FILE_MODE

__all__ = ["HistoryError", "Store", "Stretch", "Taken", "Tally"]

_BUSY_SECONDS = 10.0

_FATES = {Mode.ACT: "intended", Mode.SUGGEST: "suggested", Mode.OBSERVE: "observed"}


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


def place_of(db: sqlite3.Connection, run: int) -> tuple[Cursor, Tally]:
    """How far a run's log has been taken in."""
    query = "SELECT inode, fingerprint, offset, tally FROM cursors WHERE run = ?"
    row = db.execute(query, (run,)).fetchone()
    return _place_of(*row) if row else (Cursor(), Tally())


# What the cursor got last lies in the tally's column, which is JSON: no schema changes for it.
def _place_of(inode: int, fingerprint: bytes, offset: int, told: str) -> tuple[Cursor, Tally]:
    values = json.loads(told)
    seen, modified = values.pop("file", (0, 0))
    return Cursor(inode, fingerprint, offset, seen, modified), Tally(**values)


def _row_of(cursor: Cursor, tally: Tally) -> tuple[int, bytes, int, str]:
    told = {key: getattr(tally, key) for key in tally.__slots__}
    told["file"] = (cursor.seen, cursor.modified)
    return cursor.inode, cursor.fingerprint, cursor.offset, json.dumps(told)


class Taken(NamedTuple):
    """An event as it was taken in: of which attempt, and what it led to."""

    event: Input
    attempt: int
    outputs: tuple[Output, ...] = ()


class Stretch(NamedTuple):
    """Iterations of one attempt, each beyond the one before, that led to nothing."""

    records: Sequence[IterationRecord]
    attempt: int


@dataclass(slots=True)
class _Head:
    """Where a run's history ends: its last event's number, and its highest current iteration."""

    seq: int
    highest: int


class LostError(HistoryError):
    """What was gathered could not be stored, of no run."""


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
            self._heads: dict[int, _Head] = {}
            self._gathers = False
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        if self._path.stat().st_size == 0:
            history_schema.create(self._db)
        history_schema.upgrade(self._db, self._path)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")

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
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; while others gather, a part of theirs."""
        with self._explained():
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("SAVEPOINT one")
            try:
                yield self._db
                self._db.execute("RELEASE one")
                if not self._gathers:
                    self._db.execute("COMMIT")
            except BaseException as error:
                self._heads.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK TO one" if self._gathers else "ROLLBACK")
                elif self._gathers:
                    # A full disk has ended the transaction already, and not of this run alone.
                    raise LostError(f"{self._path}: {error}; see that it can be written") from error
                raise

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Make one transaction of all that is taken in meanwhile: many runs cost one commit.

        What fails for one run is undone for that run alone, where SQLite lets it.

        Raises:
            LostError: At the end, from `settle` or `take`: nothing since is stored, of any run.
        """
        self._gathers = True
        try:
            yield
            self.settle()
        finally:
            self._gathers = False
            self._abandon()

    def settle(self) -> None:
        """Store what has been gathered so far: before anything is done that it must not outlive.

        Raises:
            LostError: It cannot be stored.
        """
        if self._db.in_transaction:
            try:
                with self._explained():
                    self._db.execute("COMMIT")
            except HistoryError as error:
                self._abandon()
                raise LostError(str(error)) from error
            except BaseException:
                self._abandon()
                raise

    def _abandon(self) -> None:
        if self._db.in_transaction:
            self._heads.clear()
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close it; the write-ahead log goes into the file."""
        self._db.close()

    # --- Reading what was -------------------------------------------------------------------------

    def run(self, name: str, created: str, job_name: str) -> int:
        """The id of that run; a directory made anew under an old name is another run."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO runs (name, created, job_name) VALUES (?, ?, ?)",
                (name, created, job_name),
            )
        return self._number("SELECT id FROM runs WHERE name = ? AND created = ?", name, created)

    def place(self, run: int) -> tuple[Cursor, Tally]:
        """How far the run's log has been taken in."""
        return place_of(self._db, run)

    def last_event(self, run: int) -> int:
        """How many events were taken in: the last one's number, 0 before the first."""
        return self._head(run).seq

    def _head(self, run: int) -> _Head:
        if run not in self._heads:
            last = self._number("SELECT COALESCE(MAX(seq), 0) FROM events WHERE run = ?", run)
            row = self._number(
                "SELECT COALESCE(MAX(id), 0) FROM records WHERE id BETWEEN ? AND ?",
                row_id(run, 0),
                row_id(run + 1, 0) - 1,
            )
            highest = rewinds.highest(self._db, run)
            self._heads[run] = _Head(max(last, record_rows.seq_of(row)), highest)
        return self._heads[run]

    def events(self, run: int, first: int = 1, last: int = record_rows.LAST_SEQ) -> Iterator[Input]:
        """Those numbered so, from 1 on; what only a newer version knows is left out."""
        return stored_events.events(self._db, run, first, last)

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
        """How often a rule that fired was held, by rule; most rows tell that one did not fire."""
        query = """
            SELECT rule, COUNT(*) FROM holds
            WHERE run = ? AND because LIKE rule || ' fires (%' GROUP BY 1
        """
        return dict(self._db.execute(query, (run,)))

    def decided_at(self, run: int) -> dict[str, str | None]:
        """When each rule decided last, RFC 3339."""
        query = "SELECT rule, MAX(time) FROM decisions WHERE run = ? AND rule NOT NULL GROUP BY 1"
        return dict(self._db.execute(query, (run,)))

    # --- Taking in --------------------------------------------------------------------------------

    def take(
        self,
        run: int,
        taken: Iterable[Taken | Stretch],
        place: tuple[Cursor, Tally] | None = None,
    ) -> None:
        """Commit events, what they led to, and the place behind them, all or nothing."""
        with self.transaction() as db:
            head = self._head(run)
            for each in _stretched(taken):
                if isinstance(each, Stretch):
                    self._add_stretch(db, run, head, each)
                else:
                    self._add(db, run, head, each)
            if place is not None:
                db.execute(
                    "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?)", (run, *_row_of(*place))
                )

    def _add_stretch(self, db: sqlite3.Connection, run: int, head: _Head, made: Stretch) -> None:
        if not made.records:
            return
        rewinds.follow(db, run, head.seq + 1, made.records[0], head.highest)
        record_rows.insert(db, row_id(run, head.seq + 1), made.attempt, made.records)
        head.seq += len(made.records)
        head.highest = made.records[-1].iteration

    def _add(self, db: sqlite3.Connection, run: int, head: _Head, taken: Taken) -> None:
        """The event, then the decisions on it, which are events too."""
        decisions = [output for output in taken.outputs if isinstance(output, Decision)]
        for event in (taken.event, *decisions):
            head.seq += 1
            head.highest = rewinds.follow(db, run, head.seq, event, head.highest)
            if isinstance(event, IterationRecord):
                record_rows.insert(db, row_id(run, head.seq), taken.attempt, [event])
                continue
            iteration = getattr(event, "iteration", None)
            kind, body = encode(event)
            db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                (run, head.seq, kind, taken.attempt, iteration, body),
            )
            _follow_fate(db, run, event)
        for output in taken.outputs:
            _note(db, run, output)


def _stretched(taken: Iterable[Taken | Stretch]) -> Iterator[Taken | Stretch]:
    """Neighbouring iterations that led to nothing as one stretch."""
    records: list[IterationRecord] = []
    attempt = 0
    for each in taken:
        event = each.event if isinstance(each, Taken) and not each.outputs else None
        plain = event if isinstance(event, IterationRecord) else None
        if records and (
            plain is None or each.attempt != attempt or plain.iteration <= records[-1].iteration
        ):
            yield Stretch(records, attempt)
            records = []
        if plain is None:
            yield each
        else:
            records.append(plain)
            attempt = each.attempt
    if records:
        yield Stretch(records, attempt)


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
        case Declined(intent):
            db.execute(
                "UPDATE decisions SET fate = 'declined' WHERE run = ? AND intent = ?",
                (run, intent),
            )
        case ModeSet():
            db.execute(
                "INSERT OR IGNORE INTO decisions"
                " (run, intent, author, iteration, time, evidence, control, because, fate)"
                " VALUES (?, ?, ?, ?, ?, '{}', ?, '', 'applied')",
                (
                    run,
                    f"mode {event.time}",
                    event.author,
                    event.iteration,
                    event.time,
                    json.dumps({"mode": event.mode}),
                ),
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
        case Judged():
            told = json.dumps(dict(output.evidence))
            row = (output.revision, output.verdict, output.iteration, told, output.because)
            db.execute("INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?, ?, ?)", (run, *row))
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
