"""The events that history.db holds of a run, in the order in which they came."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from heapq import merge
from operator import itemgetter

from maxrl_ops import record_rows
from maxrl_ops.core.decision import Input
from maxrl_ops.event_json import decode
from maxrl_ops.record_rows import LAST_SEQ, row_id


def events(
    db: sqlite3.Connection, run: int, first: int = 1, last: int = LAST_SEQ
) -> Iterator[Input]:
    """Those numbered so, from 1 on; what only a newer version knows is left out."""
    records = record_rows.select(db, row_id(run, first), row_id(run, last))
    numbered = ((record_rows.seq_of(row), record) for row, record in records)
    for _, event in merge(numbered, _others(db, run, first, last), key=itemgetter(0)):
        yield event


def _others(db: sqlite3.Connection, run: int, first: int, last: int) -> Iterator[tuple[int, Input]]:
    query = "SELECT seq, kind, body FROM events WHERE run = ? AND seq BETWEEN ? AND ? ORDER BY seq"
    with closing(db.execute(query, (run, first, last))) as rows:
        for seq, kind, body in rows:
            with suppress(ValueError):
                yield seq, decode(kind, body)
