"""Dialects of other packages: a broken one is said in one line, and costs nobody else anything."""

from importlib import import_module
from typing import Any, NoReturn

from maxrl_ops.dialects import DialectError
from maxrl_ops.dialects.base import Dialect, Past, Reader
from maxrl_ops.wire.record import Event


def load_added(name: str, value: str) -> Dialect:
    """The dialect that an entry point names.

    Args:
        name: The entry point's.
        value: `module:attribute`.

    Raises:
        DialectError: It cannot be imported, or is none.
    """
    module, _, attribute = value.partition(":")
    try:
        found: Any = import_module(module.strip())
        for part in attribute.strip().split("."):
            found = getattr(found, part)
    except Exception as error:
        raise DialectError(
            f"dialect {name!r} ({value}) cannot be loaded: {_said(error)}"
        ) from error
    if not isinstance(found, Dialect):
        raise DialectError(f"dialect {name!r} ({value}) is no Dialect but {type(found).__name__}")
    guard = _Guard(name, found)
    return Dialect(name, guard.open, guard.tells)


def _said(error: Exception) -> str:
    """An error in one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class _Guard:
    """Somebody's dialect whose errors are one line each, with its name."""

    def __init__(self, name: str, dialect: Dialect) -> None:
        self._name, self._dialect = name, dialect

    def open(self, past: Past) -> Reader:
        try:
            return _GuardedReader(self._name, self._dialect.open(past))
        except Exception as error:  # noqa: BLE001 - as above
            _fail(self._name, error)

    def tells(self, line: str) -> bool:
        try:
            return bool(self._dialect.tells(line))
        except Exception as error:  # noqa: BLE001 - as above
            _fail(self._name, error)


class _GuardedReader:
    def __init__(self, name: str, reader: Reader) -> None:
        self._name, self._reader = name, reader

    @property
    def lines(self) -> int:
        return self._reader.lines

    @property
    def pending(self) -> int:
        return self._reader.pending

    def feed(self, data: bytes) -> list[Event]:
        try:
            return self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 - as above
            _fail(self._name, error)

    def close(self) -> list[Event]:
        try:
            return self._reader.close()
        except Exception as error:  # noqa: BLE001 - as above
            _fail(self._name, error)


def _fail(name: str, error: Exception) -> NoReturn:
    raise DialectError(f"dialect {name!r} failed: {_said(error)}") from error
