"""Which iterations of a run were made again: those before are superseded, and stay in the history.

A rewind says that from an event on, iterations from `first` on are made again. Nothing of what it
supersedes is touched: a row is superseded if the next rewind behind it begins at its iteration or
before. It is enough to look at that one, for a rewind that a later one with the same or a lower
`first` follows is removed, and so `first` rises from one to the next.
"""

import sqlite3

from maxrl_ops.core.decision import Input
from maxrl_ops.record_rows import row_id, seq_of
from maxrl_ops.wire.record import IterationRecord, RunStarted

NONE = -1
"""The highest current iteration where there is none."""


def highest(db: sqlite3.Connection, run: int) -> int:
    """A run's highest current iteration; a rewind that nothing follows yet counts as made again."""
    last = db.execute(
        "SELECT id, iteration FROM records WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
        (row_id(run, 0), row_id(run + 1, 0) - 1),
    ).fetchone()
    if last is None:
        return NONE
    behind = db.execute(
        "SELECT first FROM rewinds WHERE run = ? AND seq > ? ORDER BY seq LIMIT 1",
        (run, seq_of(last[0])),
    ).fetchone()
    return int(last[1]) if behind is None else min(int(last[1]), behind[0] - 1)


def follow(db: sqlite3.Connection, run: int, seq: int, event: Input, highest: int) -> int:
    """Note what event `seq` supersedes; the highest current iteration behind it."""
    match event:
        case RunStarted(resumed_from=None):
            # Even the evaluation before training is made again.
            first, after = 0, NONE
        case RunStarted(resumed_from=int(iteration)):
            first, after = iteration + 1, min(highest, iteration)
        case IterationRecord(iteration=iteration) if iteration > highest:
            return iteration
        case IterationRecord(iteration=iteration):
            first, after = iteration, iteration
        case _:
            return highest
    db.execute("DELETE FROM rewinds WHERE run = ? AND first >= ?", (run, first))
    db.execute("INSERT INTO rewinds VALUES (?, ?, ?)", (run, seq, first))
    return after
