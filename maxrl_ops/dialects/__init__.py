"""Log formats: one module each, all giving the same events.

A module here has a `DIALECT` and its name in `BUILT_IN`. Another package adds one by an entry point
of the group `maxrl_ops.dialects` that names such an object. Nothing is imported before it is
needed.
"""

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from maxrl_ops.dialects.base import Dialect, Past, Reader
from maxrl_ops.wire.rundir import DocumentError

__all__ = ["BUILT_IN", "Dialect", "DialectError", "Past", "Reader", "detect", "load", "names"]

GROUP = "maxrl_ops.dialects"
BUILT_IN = (
    "guide",
    "nanochat_rl",
    "trl",
    "verl",
    "openrlhf",
    "prime_rl",
    "nanochat",
    "jsonl",
)


class DialectError(DocumentError):
    """A dialect that there is not, or that fails; the message says so in one line."""


def names() -> list[str]:
    """Every dialect's name: ours first."""
    return [*BUILT_IN, *(name for name in _added() if name not in BUILT_IN)]


@cache
def load(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        DialectError: There is none, or the package that adds it is broken.
    """
    if name in BUILT_IN:
        found: Dialect = import_module(f"maxrl_ops.dialects.{name}").DIALECT
        return found
    added = _added()
    if name not in added:
        raise DialectError(f"there is no dialect {name!r}: give {' or '.join(names())}")
    from maxrl_ops.dialects.added import load_added  # noqa: PLC0415 - most hosts add none

    return load_added(name, added[name])


def detect(problems: list[str]) -> Iterator[Dialect]:
    """Every dialect that can be asked whether a log is its own; a broken one goes to `problems`."""
    for name in names():
        try:
            yield load(name)
        except DialectError as error:
            problems.append(str(error))


@cache
def _added() -> dict[str, str]:
    """What other packages add: `module:attribute` by name."""
    # Reading the metadata of every installed package takes milliseconds: not for our own runs.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return {point.name: point.value for point in entry_points(group=GROUP)}
