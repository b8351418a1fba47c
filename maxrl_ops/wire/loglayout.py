"""Blocks that look alike, read at once: a pattern made of one reads all that follow.

A block is written by a program: but for its numbers it looks like the one before. What the pattern
takes is a part of what `logreader` takes line by line, and read as there: plain ASCII, known keys,
one spelling of a number. Anything else is left to that.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import call
from typing import Any

from maxrl_ops.wire.logkeys import BLOCK_KEYS, INT, READERS, read_float, read_levels
from maxrl_ops.wire.record import Event, IterationRecord

ITERATION = re.compile(rf"Iteration ({INT})(?:/({INT}))?")
KEY_VALUE = re.compile(r"([A-Z][A-Za-z0-9_@/ .-]{0,60}): *(.*)")

_BEGINNING = "Iteration "
_BLOCK = re.compile(r"Iteration [ -~]*\n(?:  [^ \[\n][ -~]*\n)*(?:  \[[ -~]*\]\n|(?=Iteration ))")
_LONGEST_BLOCK = 4096
_MOST_LAYOUTS = 8
_MOST_PATIENCE = 1024

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

# Names, shares and levels of a run are few, and the same again and again.
_name_of = lru_cache(4096)(str)
_ratio_of = lru_cache(4096)(read_float)
_short_float_of = lru_cache(4096)(float)
_SHORT = 5


def _levels_of(text: str) -> dict[float, int]:
    parts = text.replace(":", " ").split()
    return dict(zip(map(_short_float_of, parts[::2]), map(int, parts[1::2]), strict=True))


class _UnlikeError(Exception):
    """A block is not of the kind that a layout can be made of."""


class Layout:
    """One way that a block may look."""

    def __init__(self, pattern: str, names: Sequence[str], readers: Sequence[Reader]) -> None:
        """`pattern` has a group for each of `names`, read by the reader beside it."""
        self._pattern = _compiled(pattern)
        self._names, self._readers = tuple(names), tuple(readers)

    @classmethod
    def of(cls, block: str) -> "Layout | None":
        """The layout of a block; None where none can be made of it."""
        try:
            parts = list(_parts(block))
        except _UnlikeError:
            return None
        slots = [(name, reader) for _, name, reader in parts if name and reader]
        names, readers = [name for name, _ in slots], [reader for _, reader in slots]
        if len(set(names)) < len(names):
            return None
        return cls("".join(source for source, _, _ in parts), names, readers)

    def read(self, data: str, start: int) -> tuple[list[Event], int]:
        """The blocks of this layout that stand at `start`, and where they end."""
        match, names, readers = self._pattern.match, self._names, self._readers
        record = IterationRecord.of
        events: list[Event] = []
        try:
            while found := match(data, start):
                values = dict(zip(names, map(call, readers, found.groups()), strict=True))
                events.append(record(values))
                start = found.end()
        except ValueError:
            # No number, as `1.2.3`.
            pass
        return events, start


@lru_cache(64)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled once for all runs of a trainer."""
    return re.compile(pattern, re.ASCII)


# --- Making one -----------------------------------------------------------------------------------

# A piece of a layout's pattern, and the field it holds, if any, with its reader.
_Part = tuple[str, str | None, Reader | None]


def _parts(block: str) -> Iterator[_Part]:
    """The pieces of a block's pattern.

    Raises:
        _UnlikeError: The block has something else than known keys with values that are wholly read.
    """
    first, *rest = block.removesuffix("\n").split("\n")
    numbers = ITERATION.fullmatch(first)
    if numbers is None:
        raise _UnlikeError
    yield f"Iteration {_INT}", "iteration", int
    if numbers[2] is not None:
        yield f"/{_INT}", "target_iterations", int
    yield "\n", None, None
    for line in rest:
        if line.startswith("  ["):
            yield rf"  \[{_WORDS}\]\n", "verdict", _name_of
            return
        yield from _line_parts(line)
    yield _TO_NEXT, None, None


def _line_parts(line: str) -> Iterator[_Part]:
    before = "  "
    for cell in line.removeprefix("  ").split("   "):
        pair = KEY_VALUE.fullmatch(cell)
        known = BLOCK_KEYS.get(pair[1]) if pair else None
        match = known.pattern.fullmatch(pair[2]) if known and pair else None
        if known is None or match is None or cell != f"{known.key}: {match[0]}":
            raise _UnlikeError
        yield re.escape(f"{before}{known.key}: "), None, None
        yield from _value_parts(match)
        before = "   "
    yield "\n", None, None


def _value_parts(match: re.Match[str]) -> Iterator[_Part]:
    end = 0
    for name, text in match.groupdict().items():
        if text is None:
            continue
        yield re.escape(match[0][end : match.start(name)]), None, None
        yield _slot(name, text)
        end = match.end(name)
    yield re.escape(match[0][end:]), None, None


def _slot(name: str, text: str) -> _Part:
    """What stands for a value like `text`."""
    if name not in READERS:
        return _RATIO.replace("(", "(?:", 1), None, None
    reader = READERS[name]
    if reader is int:
        return _INT, name, int
    if reader is read_levels:
        return _LEVELS, name, _levels_of
    if reader is read_float:
        if text.endswith("%"):
            return _RATIO, name, _ratio_of
        return _FLOAT, name, _short_float_of if len(text) <= _SHORT else float
    return _WORD, name, str if name == "at" else _name_of


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
