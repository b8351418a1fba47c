"""Iterations as rows of history.db: a column a figure, and only those set that were measured.

Binding forty columns that are mostly NULL takes longer than reading the block they come from, so
there is a statement for each set of figures; a run has a few.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import count, groupby
from operator import attrgetter, itemgetter
from typing import Any

from maxrl_ops.wire.record import IterationRecord

# A row's id is its run's and its event's number, so that a run's rows lie together, in order.
SEQ_BITS = 40
LAST_SEQ = (1 << SEQ_BITS) - 1

_KNOWN = attrgetter("__dict__")
_MAPPINGS = ("rewards_above", "extra")


def _column_type(name: str, kind: object) -> str:
    if name in _MAPPINGS:
        return "TEXT"
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    return {"int": "INTEGER", "float": "REAL", "str": "TEXT"}[text.removesuffix(" | None")]


COLUMNS: Mapping[str, str] = {
    field.name: _column_type(field.name, field.type) for field in fields(IterationRecord)
}
"""SQLite's type of each figure's column. NaN, which SQLite has not, is the text `nan`."""
_FLOATS = frozenset(name for name, kind in COLUMNS.items() if kind == "REAL")

Row = tuple[int, IterationRecord]
"""A record and its id."""


def row_id(run: int, seq: int) -> int:
    """Of event number `seq` of a run."""
    return run << SEQ_BITS | seq


def seq_of(row: int) -> int:
    """The event's number in its run."""
    return row & LAST_SEQ


def insert(
    db: sqlite3.Connection, first: int, attempt: int, records: Sequence[IterationRecord]
) -> None:
    """Add iterations of one attempt, the first under that id."""
    known = list(map(_KNOWN, records))
    numbered = zip(map(tuple, known), count(first), known, strict=False)
    for names, alike in groupby(numbered, key=itemgetter(0)):
        statement = _statement(names)
        rows = [(row, attempt, *figures.values()) for _, row, figures in alike]
        db.executemany(statement.sql, statement.bound(rows))


def select(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """The iterations with ids from `first` to `last`, in order."""
    query = f"SELECT id, {_listed(COLUMNS)} FROM records WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - ours
    for row, *values in db.execute(query, (first, last)):
        yield row, record_of(COLUMNS, values)


def record_of(names: Iterable[str], values: Iterable[Any]) -> IterationRecord:
    """The record that a row's columns hold."""
    known = {name: v for name, v in zip(names, values, strict=True) if v is not None}
    for name in _FLOATS & known.keys():
        if type(known[name]) is str:
            known[name] = float(known[name])
    if "rewards_above" in known:
        levels = json.loads(known["rewards_above"])
        known["rewards_above"] = {float(level): count for level, count in levels.items()}
    if "extra" in known:
        known["extra"] = json.loads(known["extra"])
    return IterationRecord.of(known)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _listed(names: Iterable[str]) -> str:
    """Quoted: `unique` is a word of SQL's."""
    return ", ".join(f'"{name}"' for name in names)


@dataclass(frozen=True, slots=True)
class _Statement:
    """How rows with the same figures are inserted.

    Attributes:
        floats: Those that may be NaN.
        mappings: Where mappings stand among the figures, and how they are written.
    """

    sql: str
    floats: Callable[[Sequence[Any]], Any]
    mappings: Sequence[tuple[int, Callable[[Any], str]]]

    def bound(self, rows: list[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """Rows as SQLite takes them."""
        # One sum tells of almost all rows that there is no NaN in them.
        has_nan = math.isnan(sum(map(sum, map(self.floats, rows))))
        if not self.mappings and not has_nan:
            return rows
        written = [list(row) for row in rows]
        for row in written:
            for place, write in self.mappings:
                row[place] = write(row[place])
            if has_nan:
                row[:] = ["nan" if _is_nan(value) else value for value in row]
        return written


@lru_cache(256)
def _statement(names: tuple[str, ...]) -> _Statement:
    sql = (
        f"INSERT INTO records (id, attempt, {_listed(names)})"  # noqa: S608 - fields of ours
        f" VALUES (?, ?{', ?' * len(names)})"
    )
    places = {name: place for place, name in enumerate(names, start=2)}
    floats = [place for name, place in places.items() if name in _FLOATS]
    written: dict[str, Callable[[Any], str]]
    written = {"rewards_above": _written_levels, "extra": json.dumps}
    mappings = [(place, written[name]) for name, place in places.items() if name in written]
    return _Statement(sql, _picked(floats), mappings)


def _picked(places: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    if len(places) < 2:
        # itemgetter gives a sequence of two and more only.
        return lambda values: [values[place] for place in places]
    return itemgetter(*places)


def _written_levels(levels: Mapping[float, int]) -> str:
    """As json.dumps does, three times as fast; a level is a key, and hence a text."""
    return "{" + ", ".join([f'"{_level(level)}": {count}' for level, count in levels.items()]) + "}"


_level = lru_cache(4096)(repr)
