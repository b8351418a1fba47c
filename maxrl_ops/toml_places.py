"""Where the keys and values of a TOML document stand: tomllib tells what they are, not where."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'''.*?'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^\s,\]}#][^,\]}#\n]*")
_DECODE_ERROR = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both from 1 on."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Places:
    """By the whole path of a key: where it stands first, and where its value begins.

    A table that no header names, as `a` of `a.b = 1`, stands where its first key does.
    """

    keys: Mapping[Path, Place]
    values: Mapping[Path, Place]


def places_of(text: str) -> Places:
    """Where everything stands in `text`, which tomllib has read without complaint."""
    scanner = _Scanner(text)
    scanner.document()
    return Places(scanner.keys, scanner.values)


def complaint_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What tomllib calls `Invalid value (at line 3, column 5)` as `3:5: Invalid value`."""
    found = _DECODE_ERROR.fullmatch(str(error))
    if found:
        return f"{found[2]}:{found[3]}: {found[1]}"
    lines = text.split("\n")
    what = str(error).removesuffix(" (at end of document)")
    return f"{len(lines)}:{len(lines[-1]) + 1}: {what} (the file ends here)"


class _Scanner:
    """Recursive descent over a valid document."""

    def __init__(self, text: str) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self._text, self._at = text, 0

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                self._at += 2 if self._text.startswith("[[", self._at) else 1
                table = self._key(())
                self._at = self._text.find("\n", self._at) % (len(self._text) + 1)
            else:
                self._pair(table)

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._skip(_SPACE)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self.values.setdefault(path, self._place())
        self._value(path)

    def _key(self, table: Path) -> Path:
        """A dotted key; every part of it is noted."""
        path = table
        while True:
            self._skip(_SPACE)
            place = self._place()
            path = (*path, self._part())
            self.keys.setdefault(path, place)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return path
            self._at += 1

    def _part(self) -> str:
        bare = _BARE_KEY.match(self._text, self._at)
        if bare is not None:
            self._at = bare.end()
            return bare[0]
        quoted = _STRING.match(self._text, self._at)
        if quoted is None:
            raise AssertionError("unreachable: tomllib has read this document")
        self._at = quoted.end()
        return str(tomllib.loads(f"key = {quoted[0]}")["key"])

    def _value(self, path: Path) -> None:
        match self._text[self._at]:
            case "[":
                self._sequence("]", lambda: self._value(path))
            case "{":
                self._sequence("}", lambda: self._pair(path))
            case "'" | '"':
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _sequence(self, end: str, read: Callable[[], None]) -> None:
        self._at += 1
        while self._skip(_BLANK) < len(self._text) and self._text[self._at] != end:
            if self._text[self._at] == ",":
                self._at += 1
            else:
                read()
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = self._at if found is None else found.end()
        return self._at

    def _place(self) -> Place:
        before = self._text.rfind("\n", 0, self._at)
        return Place(self._text.count("\n", 0, self._at) + 1, self._at - before)
