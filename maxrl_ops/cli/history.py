"""`history`: a run's iterations as the daemon has stored them; works without one."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, named
from maxrl_ops.cli.plain import line_of
from maxrl_ops.core.printable import one_line
from maxrl_ops.core.since import Since, SinceError, since_of
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.iterations import NAMES, iterations
from maxrl_ops.record_rows import COLUMNS, record_of

# For people who do not say since when.
_LAST = 20
# What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@")


def history(name: str, since: str | None, *, as_json: bool, as_csv: bool) -> int:
    """Print the iterations of a run."""
    if as_json and as_csv:
        raise CommandError("--json and --csv: give one of them")
    beginning = _beginning(since)
    is_for_people = not (as_json or as_csv)
    found = _found(name, beginning, _LAST if is_for_people and since is None else None)
    if as_json:
        _print_json(found)
    elif as_csv:
        _print_csv(found)
    else:
        _print_lines(found)
    return ExitCode.OK


def _beginning(text: str | None) -> Since:
    try:
        return Since() if text is None else since_of(text, datetime.now(UTC))
    except SinceError as error:
        raise CommandError(str(error)) from None


def _found(name: str, since: Since, last: int | None) -> Iterator[dict[str, Any]]:
    """One by one: a history may be longer than the memory.

    Raises:
        CommandError: There is no such run, or the history cannot be read.
    """
    found = _read(iterations(home().history, name, since, last))
    try:
        first = next(found, None)
    except (FileNotFoundError, LookupError):
        named(name)
        raise CommandError(
            f"no daemon has read {name} yet: maxrl-ops daemon does", ExitCode.NOT_FOUND
        ) from None
    return iter(()) if first is None else chain((first,), found)


def _read(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Damage may show at any row."""
    try:
        yield from found
    except HistoryError as error:
        raise CommandError(str(error), ExitCode.BAD) from None


def _print_json(found: Iterator[dict[str, Any]]) -> None:
    """An array, an object a line."""
    before = "[\n"
    for each in found:
        sys.stdout.write(before + json.dumps(each))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _print_csv(found: Iterator[dict[str, Any]]) -> None:
    """Every figure there is has a column, at the same place in every run."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(NAMES)
    for each in found:
        table.writerow([_cell(each.get(name)) for name in NAMES])


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, str):
        text = one_line(value)
        return f"'{text}" if text.startswith(_FORMULA) and text != "-inf" else text
    return value


def _print_lines(found: Iterator[dict[str, Any]]) -> None:
    is_empty = True
    for each in found:
        is_empty = False
        known = [key for key in COLUMNS if key in each and not isinstance(each[key], Mapping)]
        line = line_of(record_of(known, [each[key] for key in known]))
        sys.stdout.write(f"{one_line(str(each.get('at', '')))}  {line}\n".lstrip())
    if is_empty:
        sys.stdout.write("There is no such iteration.\n")
