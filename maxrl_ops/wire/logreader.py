"""The guide's log, read: bytes in, events out.

However the bytes are cut, the events are the same; and so they are whether a block is read line by
line or with others of its layout.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from maxrl_ops.wire.lines import TOO_LONG, LineSplitter
from maxrl_ops.wire.logkeys import (
    BLOCK_KEYS,
    HEADER_KEYS,
    INT,
    NUM,
    PCT,
    Line,
    read_float,
)
from maxrl_ops.wire.loglayout import ITERATION, KEY_VALUE, NEXT_BLOCK, Layouts
from maxrl_ops.wire.logwriter import FOREIGN_PREFIX
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

# --- Single lines between blocks ----------------------------------------------------------------

_PASS_AT = re.compile(r"pass@(\d{1,6})")
_EVALUATION = re.compile(rf"Evaluation at ({INT}): (.*)")
_CHECKPOINT = re.compile(rf"Checkpoint ({INT}): saved in ({NUM})s")
_APPLIED = re.compile(rf"Control ({INT}) applied at ({INT}): (.*)")
_CHANGE = re.compile(r"(\w{1,64}) (\S{1,64}) \(was (\S{1,64})\)")
_REJECTED = re.compile(rf"Control ({INT}) rejected: (.*)")
_SKIPPED = re.compile(rf"Update ({INT}) skipped: (.*)")
_ENDED = re.compile(r"Run (finished|stopped|failed): (.*)")


def _read_evaluation(match: re.Match[str]) -> Evaluated | None:
    values: dict[str, float] = {}
    se = math.nan
    for part in match[2].split(", "):
        cell = re.fullmatch(rf"([a-z@0-9 ]+?) ({PCT})(?: \+- ({PCT}))?", part)
        if cell is None:
            return None
        values[cell[1]] = read_float(cell[2])
        if cell[1] == "pass@1" and cell[3]:
            se = read_float(cell[3])
    if "greedy" not in values or "pass@1" not in values:
        return None
    return Evaluated(
        iteration=int(match[1]),
        greedy=values["greedy"],
        pass_at_k={
            int(found[1]): value
            for name, value in values.items()
            if (found := _PASS_AT.fullmatch(name))
        },
        se=se,
        compile_ratio=values.get("compile"),
        wrong_ratio=values.get("compiles but wrong"),
    )


def _read_applied(match: re.Match[str]) -> ControlApplied:
    # Part by part: a search would begin at each letter of a long line, and go on to its end.
    found = (_CHANGE.fullmatch(part) for part in match[3].split(", "))
    changes = tuple(Change(*each.groups()) for each in found if each)
    return ControlApplied(int(match[1]), int(match[2]), changes)


_SINGLES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Event | None]], ...] = (
    (_EVALUATION, _read_evaluation),
    (_CHECKPOINT, lambda m: CheckpointSaved(int(m[1]), float(m[2]))),
    (_APPLIED, _read_applied),
    (_REJECTED, lambda m: ControlRejected(int(m[1]), m[2])),
    (_SKIPPED, lambda m: UpdateSkipped(int(m[1]), m[2])),
    (_ENDED, lambda m: RunEnded(m[1], m[2])),
)


def _is_single(line: str) -> bool:
    return any(pattern.fullmatch(line) for pattern, _ in _SINGLES)


# --- Reading ------------------------------------------------------------------------------------


class Parser:
    """Push parser of the guide's format: bytes in, events out.

    A block closes at its `[...]` line or at the next line that is not indented, never by time; a
    header at the first line that is not `Key: value`.

    Attributes:
        lines: Complete lines that are done with: those of `pending` are not among them.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._splitter = LineSplitter()
        self._layouts = Layouts()
        self._open: dict[str, Any] | None = None
        self._open_size = self._open_lines = 0
        self._is_header = False

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet.

        Whoever goes on later, with another parser, has to begin with these.
        """
        return self._open_size + self._splitter.pending

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        # As many characters as bytes; a layout takes none but those of ASCII.
        text = data.decode("latin-1")
        start = 0
        while start < len(data):
            if not self._splitter.pending:
                start = self._take_blocks(text, start, events)
            # Line by line to where the next block begins, which may be like those before.
            end = text.find(NEXT_BLOCK, start) + 1 or len(data)
            if end > start:
                events += self._take_lines(data[start:end])
            start = end
        return events

    def _take_blocks(self, text: str, start: int, events: list[Event]) -> int:
        """Read blocks of known layouts from `start`, the beginning of a line; where they end."""
        blocks, end, lines = self._layouts.read(text, start)
        if blocks:
            # The line that a block begins with closes whatever is open.
            events += self._close()
            events += blocks
            self.lines += lines
        return end

    def _take_lines(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for raw in self._splitter.feed(data):
            line = raw.text
            if line.startswith(FOREIGN_PREFIX) or line == FOREIGN_PREFIX.rstrip():
                pass
            elif raw.is_cut:
                events += [*self._close(), Unparsed(line[:200], TOO_LONG)]
            else:
                events += self._line(line)
            # A block is open from its first line on.
            self._open_size += raw.size
            self._open_lines += 1
            if self._open is None:
                self._be_done()
        return events

    def close(self) -> list[Event]:
        """The event that the end of the log completes; an unterminated line is none."""
        return self._close()

    def _close(self) -> list[Event]:
        values, self._open = self._open, None
        self._be_done()
        if values is None:
            return []
        if not values["extra"]:
            del values["extra"]
        return [RunStarted(**values) if self._is_header else IterationRecord.of(values)]

    def _be_done(self) -> None:
        """With every line so far."""
        self.lines += self._open_lines
        self._open_size = self._open_lines = 0

    def _line(self, line: str) -> list[Event]:
        if self._open is not None and self._continues(line):
            closes = not self._is_header and line.startswith("  [")
            return self._close() if closes else []
        return self._close() + self._opening(line)

    def _continues(self, line: str) -> bool:
        """Take `line` into the open block or header, if it belongs there."""
        assert self._open is not None  # noqa: S101 - the caller looked
        if self._is_header:
            pair = KEY_VALUE.fullmatch(line)
            if pair is None or pair[1] == "RL Method" or _is_single(line):
                return False
            _store(self._open, HEADER_KEYS, pair[1], pair[2])
            return True
        if not line.startswith("  "):
            return False
        body = line[2:]
        if body.startswith("[") and body.endswith("]"):
            self._open["verdict"] = body[1:-1]
            return True
        for cell in re.split(r" {3,}", body):
            pair = KEY_VALUE.fullmatch(cell.strip())
            if pair is not None:
                _store(self._open, BLOCK_KEYS, pair[1], pair[2])
        return True

    def _opening(self, line: str) -> list[Event]:
        if not line:
            return []
        if match := ITERATION.fullmatch(line):
            self._is_header = False
            self._open = {"iteration": int(match[1]), "extra": {}}
            if match[2]:
                self._open["target_iterations"] = int(match[2])
            return []
        pair = KEY_VALUE.fullmatch(line)
        if pair and pair[1] == "RL Method" and pair[2] in set(Algorithm):
            self._is_header = True
            self._open = {"algorithm": Algorithm(pair[2]), "extra": {}}
            return []
        for pattern, read in _SINGLES:
            if (found := pattern.fullmatch(line)) and (event := read(found)):
                return [event]
        return [Unparsed(line[:200], "unknown line")]


def _store(values: dict[str, Any], table: Mapping[str, Line], key: str, text: str) -> None:
    line = table.get(key)
    # Not matched whole: a newer trainer may add words behind a value.
    match = line.pattern.match(text) if line else None
    if line is None or match is None:
        values["extra"][key] = text
        return
    values.update(line.read(match))
