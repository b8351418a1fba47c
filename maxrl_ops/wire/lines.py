"""Bytes of a log -> lines. Logs are hostile: they contain what a model wrote."""

import re
from dataclasses import dataclass

LONGEST_LINE = 64 * 1024
# Why a longer one is not parsed.
TOO_LONG = "too long"

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


@dataclass(frozen=True, slots=True)
class Line:
    """A complete line.

    Attributes:
        text: Without escape sequences, NULs, and blanks at its end.
        is_cut: It was longer than LONGEST_LINE.
        size: Its length in the log, newline included, in bytes.
    """

    text: str
    is_cut: bool
    size: int


class LineSplitter:
    """Bytes -> complete lines, bounded: what is beyond LONGEST_LINE of a line is dropped.

    Attributes:
        pending: Bytes of the line that is not complete, dropped ones included.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._kept = b""
        self._cut = False

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes."""
        # What was dropped of the pending line counts for its size all the same.
        dropped = self.pending - len(self._kept)
        *complete, rest = (self._kept + data).split(b"\n")
        lines = []
        for raw in complete:
            text, cut = self._shorten(raw.rstrip(b"\r"))
            lines.append(Line(_plain(text), cut, dropped + len(raw) + 1))
            self._cut, dropped = False, 0
        self.pending = dropped + len(rest)
        self._kept, self._cut = self._shorten(rest)
        return lines

    def _shorten(self, raw: bytes) -> tuple[bytes, bool]:
        """Keep what follows the last carriage return (a progress bar redraws), up to the cap."""
        body = raw.rstrip(b"\r")
        start = body.rfind(b"\r") + 1
        cut = self._cut and not start
        kept = raw[start:]
        if cut or len(kept) > LONGEST_LINE:
            # Carriage returns at the end may yet turn out to be in the middle: keep one.
            tail = b"\r" if raw.endswith(b"\r") else b""
            return kept[:LONGEST_LINE].rstrip(b"\r") + tail, True
        return kept, False


def _plain(text: bytes) -> str:
    return _ANSI.sub("", text.decode("utf-8", "replace")).replace("\x00", "").rstrip()
