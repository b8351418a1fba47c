"""Iterations as rows of history.db: a column a figure, and only those set that were measured.

Binding forty columns that are mostly NULL takes longer than reading the block they come from, so
there is a statement for each set of figures; a run has a few.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import groupby, repeat, starmap
from operator import attrgetter, methodcaller
from typing import Any

from maxrl_ops.wire.record import IterationRecord

# A row's id is its run's and its event's number, so that a run's rows lie together, in order.
SEQ_BITS = 40
LAST_SEQ = (1 << SEQ_BITS) - 1

_KNOWN = attrgetter("__dict__")
_VALUES = methodcaller("values")
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
    row = first
    for names, alike in groupby(map(_KNOWN, records), key=tuple):
        columns = list(zip(*map(_VALUES, alike), strict=True))
        ids = range(row, row + len(columns[0]))
        written = starmap(_written, zip(names, columns, strict=True))
        db.executemany(_statement(names), zip(ids, repeat(attempt), *written))
        row = ids.stop


def select(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """The iterations with ids from `first` to `last`, in order."""
    query = f"SELECT id, {_listed(COLUMNS)} FROM records WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - ours
    for row, *values in db.execute(query, (first, last)):
        yield row, record_of(COLUMNS, values)


def newest(
    db: sqlite3.Connection, first: int, end: int, before: int | None, most: int
) -> list[Row]:
    """The newest with ids from `first` to below `end`, in order; of iterations below `before`."""
    query = (
        f"SELECT id, {_listed(COLUMNS)} FROM records WHERE id >= ? AND id < ?"  # noqa: S608 - ours
        " AND (? IS NULL OR iteration < ?) ORDER BY id DESC LIMIT ?"
    )
    rows = db.execute(query, (first, end, before, before, most)).fetchall()
    return [(row, record_of(COLUMNS, values)) for row, *values in reversed(rows)]


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


def _listed(names: Iterable[str]) -> str:
    """Quoted: `unique` is a word of SQL's."""
    return ", ".join(f'"{name}"' for name in names)


@lru_cache(256)
def _statement(names: tuple[str, ...]) -> str:
    """What adds a row of these figures."""
    return (
        f"INSERT INTO records (id, attempt, {_listed(names)})"  # noqa: S608 - fields of ours
        f" VALUES (?, ?{', ?' * len(names)})"
    )


def _written(name: str, values: Sequence[Any]) -> Iterable[Any]:
    """One figure's values as SQLite takes them."""
    if name in _MAPPINGS:
        return map(_WRITERS[name], values)
    # One sum tells of almost all that there is no NaN among them.
    if name in _FLOATS and math.isnan(sum(values)):
        return ["nan" if math.isnan(value) else value for value in values]
    return values


def _written_levels(levels: Mapping[float, int]) -> str:
    """As json.dumps does, five times as fast; a level is a key, and hence a text."""
    return "{" + ", ".join(map(_written_level, levels.items())) + "}"


@lru_cache(4096)
def _written_level(level: tuple[float, int]) -> str:
    return f'"{level[0]!r}": {level[1]}'


_WRITERS: Mapping[str, Callable[[Any], str]] = {
    "rewards_above": _written_levels,
    "extra": json.dumps,
}
