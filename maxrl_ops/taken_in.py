"""What the history holds of a run's log, for whoever goes on reading the log from there.

Whole, or only what tells how the run stands now: of a million iterations that takes as long as of
a hundred.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from heapq import merge
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from maxrl_ops import read_only, record_rows
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.event_json import decode
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.record_rows import row_id, seq_of
from maxrl_ops.store import place_of
from maxrl_ops.stored_events import events as stored_events
from maxrl_ops.tailer import Cursor
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.record import Event

# So many of the newest iterations are more than a snapshot or a verdict on silence looks at; of a
# run that is over one is.
OF_ACTIVE, OF_ENDED = 64, 1

# All that the log told beside iterations, as far as it still counts. Of checkpoints the last does;
# of evaluations those whose iteration was not made again, by a rewind or by the next record.
_LASTING = f"""
    SELECT seq, kind, body FROM events WHERE run = :run AND (
        kind IN ('RunStarted', 'ControlApplied', 'ControlRejected', 'UpdateSkipped', 'RunEnded')
        OR kind = 'Evaluated'
        AND iteration < COALESCE((SELECT first FROM rewinds WHERE rewinds.run = :run
            AND rewinds.seq > events.seq ORDER BY rewinds.seq LIMIT 1), iteration + 1)
        AND iteration < COALESCE((SELECT records.iteration FROM records
            WHERE records.id > ((:run << {record_rows.SEQ_BITS}) | events.seq) AND records.id < :end
            ORDER BY records.id LIMIT 1), iteration + 1)
        OR seq = (SELECT MAX(seq) FROM events WHERE run = :run AND kind = 'CheckpointSaved'))
    ORDER BY seq
"""  # noqa: S608 - a number of ours


class TakenIn(NamedTuple):
    """A piece of a log that was read before.

    Attributes:
        history: It, folded.
        place: Behind it.
        events: All of it; none where nobody asked.
    """

    history: RunHistory
    place: Cursor
    events: list[Event]


def nothing() -> TakenIn:
    """Of a log that nobody has begun."""
    return TakenIn(RunHistory(), Cursor(), [])


def whole(database: Path, spec: RunSpec) -> TakenIn:
    """All that the history holds of the run; nothing where it has not begun.

    A history that cannot be read is said elsewhere: the log alone tells most.
    """
    try:
        with (
            closing(read_only.connect(database)) as db,
            read_only.explained(database),
            _of_one_moment(db),
        ):
            run = _number_of(db, spec)
            if run is None:
                return nothing()
            told = [event for event in stored_events(db, run) if isinstance(event, Event)]
            return TakenIn(RunHistory.of(told), place_of(db, run)[0], told)
    except (FileNotFoundError, HistoryError):
        return nothing()


def newest(db: sqlite3.Connection, spec: RunSpec, most: int) -> TakenIn | None:
    """How the run stands, as far as the history tells; None where it has not begun.

    It is `whole`, folded, but for checkpoints before the last and all iterations but the newest
    `most`.
    """
    with _of_one_moment(db):
        run = _number_of(db, spec)
        place = Cursor() if run is None else place_of(db, run)[0]
        if run is None or not place.inode:
            return None
        bounds = {"run": run, "end": row_id(run + 1, 0)}
        lasting = _decoded(db.execute(_LASTING, bounds))
        told = merge(lasting, _current(db, run, most), key=itemgetter(0))
        return TakenIn(RunHistory.of(event for _, event in told), place, [])


def _decoded(rows: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, Event]]:
    """Events by number; what only a newer version knows is left out."""
    for seq, kind, body in rows:
        with suppress(ValueError):
            event = decode(kind, body)
            if isinstance(event, Event):
                yield seq, event


def _current(db: sqlite3.Connection, run: int, most: int) -> list[tuple[int, Event]]:
    """The newest iterations that were not made again, oldest first."""
    rewinds = db.execute("SELECT seq, first FROM rewinds WHERE run = ? ORDER BY seq", (run,))
    ends: list[tuple[int, int | None]] = [(0, None), *rewinds, (record_rows.LAST_SEQ, None)]
    found: list[tuple[int, Event]] = []
    # What lies between two rewinds counts up to where the later one begins again.
    for (begin, _), (end, again) in reversed(list(pairwise(ends))):
        ids = row_id(run, begin), row_id(run, end)
        rows = record_rows.newest(db, *ids, again, most - len(found))
        found = [(seq_of(row), record) for row, record in rows] + found
        if len(found) >= most:
            break
    return found


def _number_of(db: sqlite3.Connection, spec: RunSpec) -> int | None:
    query = "SELECT id FROM runs WHERE name = ? AND created = ?"
    found = db.execute(query, (spec.name, spec.created)).fetchone()
    return None if found is None else int(found[0])


@contextmanager
def _of_one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """All that is read meanwhile is, while a daemon writes."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.rollback()
