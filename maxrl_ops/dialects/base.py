"""What a dialect is, and what all that read a log line by line have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from maxrl_ops.wire.lines import TOO_LONG, LineSplitter
from maxrl_ops.wire.record import Event, IterationRecord, RunStarted, Unparsed

_MOST_EXTRA = 64
_LONGEST_KEY = 80
_LONGEST_VALUE = 100
_LONGEST_NUMBER = 40
_INT_FIELDS = frozenset(
    field.name for field in fields(IterationRecord) if field.type in ("int", int | None, int)
)


class Reader(Protocol):
    """A push parser: however its bytes are cut, it returns the same events."""

    @property
    def lines(self) -> int:
        """Complete lines that are done with: those of `pending` are not among them."""
        ...

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        ...

    def close(self) -> list[Event]:
        """The events that the end of the log completes."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """What a log has told before the first byte that a reader gets: it may begin in the middle.

    Attributes:
        started: The newest attempt's header; None before the first.
        newest: The newest iteration; None before the first.
    """

    started: RunStarted | None = None
    newest: IterationRecord | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A log format.

    Attributes:
        name: As `--dialect` takes it.
        open: A reader that goes on behind what was told before.
        tells: Whether a line (without escape sequences) is this format's, and no other's.
    """

    name: str
    open: Callable[[Past], Reader]
    tells: Callable[[str], bool]


class LineReader(ABC):
    """A reader that takes a log line by line.

    Lines that it does not know are others' and are passed over; `Unparsed` is for those that begin
    like its own and cannot be read.

    Attributes:
        lines: Complete lines that are done with.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._splitter = LineSplitter()
        self._open_size = self._open_lines = 0

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet."""
        return self._open_size + self._splitter.pending

    @property
    def is_open(self) -> bool:
        """A block has begun that later lines belong to: whoever goes on begins with it again."""
        return False

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for raw in self._splitter.feed(data):
            if raw.is_cut:
                events.append(unreadable(raw.text, TOO_LONG))
            else:
                events += self.take(raw.text)
            self._open_size += raw.size
            self._open_lines += 1
            if not self.is_open:
                self.be_done()
        return events

    def close(self) -> list[Event]:
        """The events that the end of the log completes; an unterminated line is none."""
        return []

    def be_done(self) -> None:
        """With every line before the one that is being taken."""
        self.lines += self._open_lines
        self._open_size = self._open_lines = 0

    @abstractmethod
    def take(self, line: str) -> Iterable[Event]:
        """The events that a complete line leads to; it raises nothing, whatever the line is."""


def unreadable(line: str, reason: str = "not readable") -> Unparsed:
    """A line that begins like a dialect's own."""
    return Unparsed(line[:200], reason)


def number(text: str) -> float | None:
    """`0.15`, `-inf`, `NaN`, `12.5%` (0.125), `np.float64(0.15)`; None for anything else."""
    text = text.strip()
    if text.endswith(")"):
        text = text[text.find("(") + 1 : -1]
    ratio = text.endswith("%")
    if ratio:
        text = text[:-1]
    if len(text) > _LONGEST_NUMBER or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # Rounded, or 96.9% would be 0.9690000000000001.
    return round(value / 100, 12) if ratio and math.isfinite(value) else value


def record_of(
    iteration: int, told: Iterable[tuple[str, str]], names: Mapping[str, str], **known: Any
) -> IterationRecord:
    """An iteration's record.

    Args:
        iteration: Which.
        told: What the log says, key and text. What is no figure of ours, or cannot be read as
            one, goes to `extra`; beyond 64 of them the rest is dropped.
        names: Which of our figures a key is. Of two keys for one figure the first counts.
        **known: Figures that are known already.
    """
    extra: dict[str, str] = {}
    for key, text in told:
        name = names.get(key)
        value = None if name is None or name in known else number(text)
        if name in _INT_FIELDS and value is not None:
            value = int(value) if math.isfinite(value) and 0 <= value < 2**53 else None
        if name is not None and value is not None:
            known[name] = value
        elif len(extra) < _MOST_EXTRA:
            extra[key[:_LONGEST_KEY]] = text[:_LONGEST_VALUE]
    return IterationRecord(iteration, extra=extra, **known)
