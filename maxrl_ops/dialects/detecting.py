"""Finds a log's dialect by its lines, and reads it from its beginning then."""

from maxrl_ops.dialects import Dialect, DialectError, Past, Reader, detect
from maxrl_ops.wire.lines import Line, LineSplitter
from maxrl_ops.wire.record import Event

MOST_KEPT = 64 * 1024


class DetectingReader:
    """Keeps lines until one tells whose they are: up to 64 KiB, which its reader gets then.

    Behind 64 KiB without such a line it goes on looking, and what was kept is nobody's.

    Attributes:
        dialect: Its name, None while it is not known.
        problems: Dialects that could not be asked, and why.
    """

    def __init__(self, past: Past) -> None:
        self.dialect: str | None = None
        self.problems: list[str] = []
        self._dialects = list(detect(self.problems))
        self._past = past
        self._reader: Reader | None = None
        self._splitter = LineSplitter()
        self._line: Line | None = None
        self._kept = bytearray()
        # Of the complete lines among what is kept; and lines that nobody wanted.
        self._kept_size = self._kept_lines = self._lines = 0

    @property
    def lines(self) -> int:
        """Complete lines that are done with."""
        return self._lines + (self._reader.lines if self._reader else 0)

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet."""
        if self._reader is not None:
            return self._reader.pending
        return self._kept_size + self._splitter.pending

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes: all from the kept lines on, once they tell."""
        start = 0
        while self._reader is None:
            end = data.find(b"\n", start) + 1
            if not end:
                self._keep(data[start:])
                return []
            self._keep(data[start:end])
            start = end
            self._look()
            if self._reader is not None:
                kept, self._kept = bytes(self._kept), bytearray()
                return self._reader.feed(kept) + self._reader.feed(data[start:])
        return self._reader.feed(data)

    def close(self) -> list[Event]:
        """The events that the end of the log completes."""
        return self._reader.close() if self._reader else []

    def _keep(self, piece: bytes) -> None:
        """Up to a line's end at most."""
        self._line = next(iter(self._splitter.feed(piece)), None)
        if self._splitter.pending > MOST_KEPT:
            # It tells nothing, and neither do the lines before it any more.
            self._drop()
        else:
            self._kept += piece

    def _look(self) -> None:
        """At the line that is complete now."""
        line = self._line
        if line is None:
            return
        self._kept_size += line.size
        self._kept_lines += 1
        is_long = line.is_cut or line.size > MOST_KEPT
        if not is_long and (found := self._owner_of(line.text)) is not None:
            self.dialect, self._reader = found.name, found.open(self._past)
        elif is_long or len(self._kept) > MOST_KEPT:
            self._drop()

    def _drop(self) -> None:
        self._lines += self._kept_lines
        self._kept_size = self._kept_lines = 0
        self._kept.clear()

    def _owner_of(self, line: str) -> Dialect | None:
        for dialect in list(self._dialects):
            try:
                if dialect.tells(line):
                    return dialect
            except DialectError as error:
                self.problems.append(str(error))
                self._dialects.remove(dialect)
        return None
