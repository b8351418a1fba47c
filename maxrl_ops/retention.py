"""How long the history is kept: what is too old goes, and the oldest where there is too much.

Only of runs whose directory is gone: of any other the daemon needs all of it to know what its rules
know, and would read it again. A run is first disowned, so that nobody knows it any more; its rows
then go in small pieces, between which everything else goes on.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from maxrl_ops.core.since import SinceError, age_of
from maxrl_ops.own_log import say
from maxrl_ops.record_rows import row_id
from maxrl_ops.store import HistoryError, Store

AGE_ENV, SIZE_ENV = "MAXRL_OPS_HISTORY_AGE", "MAXRL_OPS_HISTORY_SIZE"

_DEFAULT_AGE, _DEFAULT_SIZE = "365d", "8G"
_SIZE = re.compile(r"(\d{1,6})([MGT])", re.ASCII)
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PASS_SECONDS = 3600.0
# Some ten milliseconds.
_PIECE = 5000
# Not a run's name. The row stays: an id that was given out again would be taken for the old run.
_DISOWNED = ".forgotten "


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be kept.

    Attributes:
        age_seconds: Since the run's log was written last.
        size: Bytes of the history that are in use.
    """

    age_seconds: float
    size: int

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Limits":
        """As the environment says, else a year and 8 GiB.

        Raises:
            SinceError: It says something else; the message is one line.
        """
        size = env.get(SIZE_ENV) or _DEFAULT_SIZE
        found = _SIZE.fullmatch(size)
        if found is None:
            raise SinceError(f"{SIZE_ENV}={size!r} is not allowed: give a size such as 500M or 8G")
        age = age_of(env.get(AGE_ENV) or _DEFAULT_AGE, AGE_ENV)
        return cls(age.total_seconds(), int(found[1]) * _UNITS[found[2]])


class Retention:
    """Keeps the history within its limits, a piece a turn; looks for more to do every hour."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._next_pass = time.monotonic()
        self._pass: Iterator[None] | None = None

    def turn(self, there: AbstractSet[str]) -> bool:
        """Do a piece of what is to be done; whether there may be more.

        `there` are the names of runs with a directory.
        """
        if self._pass is None:
            # Where there is none at all, their file system may be what is gone.
            if not there or time.monotonic() < self._next_pass:
                return False
            self._next_pass = time.monotonic() + _PASS_SECONDS
            self._pass = self._forget(there)
        try:
            next(self._pass)
        except StopIteration:
            self._pass = None
        except HistoryError as error:
            say(f"history: nothing can be forgotten: {error}")
            self._pass = None
        return self._pass is not None

    def _forget(self, there: AbstractSet[str]) -> Iterator[None]:
        # A daemon that was killed may have left a run half gone.
        yield from self._clear()
        now = time.time()
        for run in self._gone(there):
            is_old = run.written < now - self._limits.age_seconds
            if not is_old and self._size() <= self._limits.size:
                return
            self._disown(run.id)
            say(f"history: {run.name} is forgotten: {'too old' if is_old else 'there is too much'}")
            yield from self._clear()

    def _gone(self, there: AbstractSet[str]) -> list["_Gone"]:
        """Runs whose directory is gone, or another run's, the longest unwritten first."""
        with self._store.transaction() as db:
            rows = list(db.execute(_RUNS, {"disowned": f"{_DISOWNED}*"}))
        newest = {name: number for number, name, _ in rows}
        gone = [_Gone(*row) for row in rows if row[1] not in there or newest[row[1]] != row[0]]
        return sorted(gone, key=lambda run: run.written)

    def _size(self) -> int:
        with self._store.transaction() as db:
            pages, free, size = (
                int(db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def _disown(self, run: int) -> None:
        """Forget all but what there may be very much of."""
        with self._store.transaction() as db:
            db.execute("UPDATE runs SET name = ? WHERE id = ?", (f"{_DISOWNED}{run}", run))
            for table in _tables(db) - {"records", "events"}:
                db.execute(f'DELETE FROM "{table}" WHERE run = ?', (run,))  # noqa: S608 - ours

    def _clear(self) -> Iterator[None]:
        """Remove what is left of disowned runs."""
        with self._store.transaction() as db:
            query = "SELECT id FROM runs WHERE name GLOB ?"
            disowned = [run for (run,) in db.execute(query, (f"{_DISOWNED}*",))]
        for run in disowned:
            while self._clear_piece(run):
                yield

    def _clear_piece(self, run: int) -> bool:
        with self._store.transaction() as db:
            piece = (row_id(run, 0), row_id(run + 1, 0) - 1, _PIECE)
            gone = db.execute(_SOME_RECORDS, piece).rowcount
            gone += db.execute(_SOME_EVENTS, (run, run, _PIECE)).rowcount
        return gone > 0


class _Gone(NamedTuple):
    """A run that nobody needs; when its log was written last, in seconds since the epoch."""

    id: int
    name: str
    written: float


# A history of version 1 or 2 does not know when a log was written: it was not before the run began.
_RUNS = """
    SELECT id, name, COALESCE(
        NULLIF(json_extract(tally, '$.file[1]'), 0) / 1e9, unixepoch(runs.created), 0)
    FROM runs LEFT JOIN cursors ON cursors.run = runs.id
    WHERE name NOT GLOB :disowned ORDER BY id
"""
_SOME_RECORDS = """
    DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id BETWEEN ? AND ? LIMIT ?)
"""
_SOME_EVENTS = """
    DELETE FROM events WHERE run = ? AND seq IN (SELECT seq FROM events WHERE run = ? LIMIT ?)
"""


def _tables(db: sqlite3.Connection) -> set[str]:
    """Those whose rows are a run's."""
    query = "SELECT t.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    return {name for (name,) in db.execute(f"{query} AND c.name = 'run'")}
