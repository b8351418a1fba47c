"""`decisions`: the journal, as a table for people and as JSON."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, named
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.entry import Entry, changes_of
from maxrl_ops.core.printable import one_line
from maxrl_ops.journal import Journal
from maxrl_ops.store import HistoryError

T = TypeVar("T")

_NO_JOURNAL = "No daemon has run here yet: maxrl-ops daemon starts one.\n"
_STYLES = {
    "applied": "green",
    "rejected": "red",
    "unconfirmed": "bold red",
    "superseded": "yellow",
    "suggested": "cyan",
    "observed": "cyan",
    "declined": "yellow",
}


def decisions(name: str | None, *, why_not: bool, as_json: bool) -> int:
    """Print the decisions of one run, or of all; or with `why_not` what was held, and why."""
    if name is not None:
        named(name)
    if why_not:
        return _why_not(name, as_json=as_json)
    entries = _read(lambda journal: journal.entries(name))
    if as_json:
        found = [entry.to_json() for entry in entries or []]
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    elif entries is None:
        sys.stdout.write(_NO_JOURNAL)
    elif not entries:
        sys.stdout.write("Nothing has been decided yet.\n")
    else:
        console = Console(highlight=False)
        for entry in entries:
            console.print(_block(entry))
    return ExitCode.OK


def _why_not(name: str | None, *, as_json: bool) -> int:
    holds = _read(lambda journal: journal.holds(name))
    if as_json:
        sys.stdout.write(json.dumps([asdict(held) for held in holds or []], indent=1) + "\n")
    elif holds is None:
        sys.stdout.write(_NO_JOURNAL)
    elif not holds:
        sys.stdout.write("Nothing has been held yet.\n")
    else:
        console = Console(highlight=False)
        for held in holds:
            head = Text.assemble((one_line(held.run), "bold"), f"  iteration {held.iteration}  ")
            console.print(head + shown(held.because))
    return ExitCode.OK


def _read(ask: Callable[[Journal], T]) -> T | None:
    """What the journal answers, None where there is none.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        with Journal(home().history) as journal:
            return ask(journal)
    except FileNotFoundError:
        return None
    except HistoryError as error:
        raise CommandError(str(error), ExitCode.BAD) from None


def _block(entry: Entry) -> RenderableType:
    """What, by whom and with what outcome in a line; why, and on what evidence, below."""
    first = Text.assemble(
        (one_line(entry.run), "bold"),
        "  ",
        f"iteration {entry.iteration}" if entry.iteration is not None else "",
        "  ",
        one_line(entry.by),
        "  ",
        one_line(changes_of(entry)) or "(unreadable)",
        "  ",
        (entry.outcome, _STYLES.get(entry.outcome, "")),
        "" if entry.revision is None else f"  revision {entry.revision}",
        "" if entry.answered_at is None else f" at {entry.answered_at}",
    )
    lines: list[RenderableType] = [first]
    if entry.because:
        lines.append(Padding(shown(entry.because), (0, 0, 0, 2)))
    if entry.evidence:
        lines.append(_figures("evidence", entry.evidence))
    if entry.effective:
        lines.append(_figures("in force", entry.effective))
    if entry.judgement is not None:
        lines.append(Padding(shown(_judged(entry.judged, entry.judgement)), (0, 0, 0, 2)))
    if entry.outcome == "suggested":
        approve = f"maxrl-ops approve {entry.run} {entry.intent}, or decline it"
        lines.append(Padding(shown(approve, "cyan"), (0, 0, 0, 2)))
    return Group(*lines, Text())


def _judged(verdict: str | None, judgement: Mapping[str, Any]) -> str:
    """What it was worth; of a threshold's change also what would be so at the old one."""
    words = f"{verdict} by iteration {judgement['iteration']}: {judgement['because']}"
    if "at_old_threshold" in judgement:
        old, share = judgement["old_threshold"], judgement["at_old_threshold"]
        words += f"; at the old threshold {old:g} it would be {share:.0%}"
    return words


def _figures(title: str, values: Mapping[str, Any]) -> RenderableType:
    figures = ", ".join(f"{key} {value}" for key, value in values.items())
    return Padding(shown(f"{title}: {figures}", "dim"), (0, 0, 0, 2))
