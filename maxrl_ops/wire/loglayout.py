"""Blocks that look alike, read at once: a pattern made of one reads all that follow.

A block is written by a program: but for its numbers it looks like the one before. What the pattern
takes is a part of what `logreader` takes line by line, and read as there: plain ASCII, known keys,
one spelling of a number. Anything else is left to that.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from maxrl_ops.wire.logkeys import BLOCK_KEYS, INT, READERS, read_float, read_levels
from maxrl_ops.wire.record import Event, IterationRecord

ITERATION = re.compile(rf"Iteration ({INT})(?:/({INT}))?")
KEY_VALUE = re.compile(r"([A-Z][A-Za-z0-9_@/ .-]{0,60}): *(.*)")

NEXT_BLOCK = "\nIteration "
_BEGINNING = NEXT_BLOCK[1:]
_BLOCK = re.compile(r"Iteration [ -~]*\n(?:  [^ \[\n][ -~]*\n)*(?:  \[[ -~]*\]\n|(?=Iteration ))")
_LONGEST_BLOCK = 4096
_MOST_LAYOUTS = 8
_MOST_PATIENCE = 1024
# Characters read at once, once so many have been read block by block.
_SOME = 1024
_PIECE = 64 * 1024

# What stands for a value. Whatever of it int() and float() take is a value to the line-wise reader
# too, and the same one: so no number begins with a point.
_INT = r"(\d{1,18})"
_FLOAT = r"([+-]?\d[\d.e+-]{0,24})"
_RATIO = r"(\d[\d.]{0,6}%)"
_LEVELS = r"((?:\d{1,9}(?:\.\d{1,9})?:\d{1,18} ){1,32})"
_WORD = r"([!-~]{1,64})"
_WORDS = r"([!-~](?:[ -~]{0,198}[!-~])?)"
_TO_NEXT = r"(?=Iteration \d{1,18}(?:/\d{1,18})?\n)"

Reader = Callable[[str], Any]

# Names, shares, levels and short numbers of a run are few, and the same again and again.
_SHORT = 5
_MOST_REMEMBERED = 4096


class _Remembered(dict[str, Any]):
    """What texts were read as; full, it begins anew. Looking one up takes half of lru_cache's time.

    What it gives is shared by all who asked: nobody may change it.
    """

    def __init__(self, read: Reader) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> Any:
        value = self._read(text)
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = value
        return value


_name_of = _Remembered(str).__getitem__
_ratio_of = _Remembered(read_float).__getitem__
_short_int_of = _Remembered(int).__getitem__
_short_float_of = _Remembered(float).__getitem__
_levels_of = _Remembered(read_levels).__getitem__


class _UnlikeError(Exception):
    """A block is not of the kind that a layout can be made of."""


class Layout:
    """One way that a block may look."""

    def __init__(self, parts: Sequence["_Part"]) -> None:
        """`parts` make up the pattern, whose groups are the fields."""
        source = "".join(part.source for part in parts)
        self._pattern = _compiled(source)
        self._lines = source.count(r"\n") - source.count(_TO_NEXT)
        self._names = tuple(part.name for part in parts if part.name)
        self._readers = tuple(part.read for part in parts if part.read)
        self._blank: dict[str, Any] = dict.fromkeys(self._names)

    @classmethod
    def of(cls, block: str) -> "Layout | None":
        """The layout of a block; None where none can be made of it."""
        try:
            parts = list(_parts(block))
        except _UnlikeError:
            return None
        names = [part.name for part in parts if part.name]
        return cls(parts) if len(set(names)) == len(names) else None

    def read(self, data: str, start: int) -> tuple[list[Event], int]:
        """The blocks of this layout that stand at `start`, and where they end."""
        events: list[Event] = []
        begin = start
        try:
            while match := self._pattern.match(data, start):
                events += self._records([match.groups()])
                start = match.end()
                if start - begin > _SOME:
                    start = self._read_pieces(data, start, start - begin, events)
                    begin = start + len(data)
        except ValueError:
            # No number, as `1.2.3`.
            pass
        return events, start

    def _read_pieces(self, data: str, start: int, size: int, events: list[Event]) -> int:
        """Read pieces of such blocks alone, each twice as long as the one before; where they end.

        Takes two thirds of the time, but for a piece in which something else stands, which was
        looked at in vain.
        """
        while (end := data.rfind(NEXT_BLOCK, start, start + size) + 1) > 0:
            found = self._pattern.findall(data, start, end)
            # Each begins and ends with a line: together they leave out none, or they have fewer.
            if self._lines * len(found) != data.count("\n", start, end):
                break
            try:
                events += self._records(found)
            except ValueError:
                break
            start, size = end, min(2 * size, _PIECE)
        return start

    def _records(self, blocks: Sequence[Sequence[str]]) -> list[IterationRecord]:
        columns = [
            map(read, texts)
            for read, texts in zip(self._readers, zip(*blocks, strict=True), strict=True)
        ]
        names, blank, record = self._names, self._blank, IterationRecord.of
        records = []
        for values in zip(*columns, strict=True):
            # A dictionary that grows entry by entry would be laid out anew five times.
            known = blank.copy()
            known.update(zip(names, values, strict=True))
            records.append(record(known))
        return records


@lru_cache(64)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled once for all runs of a trainer."""
    return re.compile(pattern, re.ASCII | re.MULTILINE)


# --- Making one -----------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A piece of a layout's pattern, and the field it holds, if any, with its reader."""

    source: str
    name: str | None = None
    read: Reader | None = None


def _parts(block: str) -> Iterator[_Part]:
    """The pieces of a block's pattern.

    Raises:
        _UnlikeError: The block has something else than known keys with values that are wholly read.
    """
    first, *rest = block.removesuffix("\n").split("\n")
    numbers = ITERATION.fullmatch(first)
    if numbers is None:
        raise _UnlikeError
    yield _Part(f"^Iteration {_INT}", "iteration", int)
    if numbers[2] is not None:
        yield _Part(f"/{_INT}", "target_iterations", int)
    yield _Part(r"\n")
    for line in rest:
        if line.startswith("  ["):
            yield _Part(rf"  \[{_WORDS}\]\n", "verdict", _name_of)
            return
        yield from _line_parts(line)
    yield _Part(_TO_NEXT)


def _line_parts(line: str) -> Iterator[_Part]:
    before = "  "
    for cell in line.removeprefix("  ").split("   "):
        pair = KEY_VALUE.fullmatch(cell)
        known = BLOCK_KEYS.get(pair[1]) if pair else None
        match = known.pattern.fullmatch(pair[2]) if known and pair else None
        if known is None or match is None or cell != f"{known.key}: {match[0]}":
            raise _UnlikeError
        yield _Part(re.escape(f"{before}{known.key}: "))
        yield from _value_parts(match)
        before = "   "
    yield _Part(r"\n")


def _value_parts(match: re.Match[str]) -> Iterator[_Part]:
    end = 0
    for name, text in match.groupdict().items():
        if text is None:
            continue
        yield _Part(re.escape(match[0][end : match.start(name)]))
        yield _slot(name, text)
        end = match.end(name)
    yield _Part(re.escape(match[0][end:]))


def _slot(name: str, text: str) -> _Part:
    """What stands for a value like `text`."""
    if name not in READERS:
        return _Part(_RATIO.replace("(", "(?:", 1))
    reader = READERS[name]
    if reader is int:
        return _Part(_INT, name, _short_int_of if len(text) < _SHORT else int)
    if reader is read_levels:
        return _Part(_LEVELS, name, _levels_of)
    if reader is read_float:
        if text.endswith("%"):
            return _Part(_RATIO, name, _ratio_of)
        return _Part(_FLOAT, name, _short_float_of if len(text) <= _SHORT else float)
    return _Part(_WORD, name, str if name == "at" else _name_of)


class Layouts:
    """The layouts of one log, learned as it is read; the one met last comes first."""

    def __init__(self) -> None:
        self._known: list[Layout] = []
        # Learning takes as long as reading some hundred blocks line by line: after each time, twice
        # as many that are unlike all before it are read so.
        self._patience = self._unlike = 1

    def read(self, data: str, start: int) -> tuple[list[Event], int, int]:
        """The blocks of known layouts that stand at `start`, where they end, and their lines."""
        events: list[Event] = []
        end = start
        while data.startswith(_BEGINNING, end):
            found, after = self._read_known(data, end)
            if not found:
                found, after = self._read_new(data, end)
            if not found:
                break
            events += found
            end = after
        return events, end, data.count("\n", start, end)

    def _read_known(self, data: str, start: int) -> tuple[list[Event], int]:
        for place, layout in enumerate(self._known):
            events, end = layout.read(data, start)
            if events:
                if place:
                    self._known.insert(0, self._known.pop(place))
                return events, end
        return [], start

    def _read_new(self, data: str, start: int) -> tuple[list[Event], int]:
        """Learn the layout of the block that stands there, if it is time to."""
        block = _BLOCK.match(data, start)
        if block is None or len(block[0]) > _LONGEST_BLOCK:
            return [], start
        self._unlike -= 1
        if self._unlike:
            return [], start
        self._patience = min(2 * self._patience, _MOST_PATIENCE)
        self._unlike = self._patience
        layout = Layout.of(block[0])
        if layout is None:
            return [], start
        events, end = layout.read(data, start)
        if events:
            self._known = [layout, *self._known[: _MOST_LAYOUTS - 1]]
        return events, end
