"""`decisions`: the journal, as a table for people and as JSON."""

import json
import sys

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

_STYLES = {
    "applied": "green",
    "rejected": "red",
    "unconfirmed": "bold red",
    "superseded": "yellow",
    "suggested": "cyan",
    "observed": "cyan",
}


def decisions(name: str | None, *, as_json: bool) -> int:
    """Print the decisions of one run, or of all."""
    if name is not None:
        named(name)
    entries = _entries(name)
    if as_json:
        found = [entry.to_json() for entry in entries or []]
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    elif entries is None:
        sys.stdout.write("No daemon has run here yet: maxrl-ops daemon starts one.\n")
    elif not entries:
        sys.stdout.write("Nothing has been decided yet.\n")
    else:
        console = Console(highlight=False)
        for entry in entries:
            console.print(_block(entry))
    return ExitCode.OK


def _entries(name: str | None) -> list[Entry] | None:
    """The journal's, None where there is none.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        with Journal(home().history) as journal:
            return journal.entries(name)
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
        figures = ", ".join(f"{key} {value}" for key, value in entry.evidence.items())
        lines.append(Padding(shown(figures, "dim"), (0, 0, 0, 2)))
    if entry.judgement is not None:
        words = f"{entry.judged} by iteration {entry.judgement['iteration']}"
        lines.append(Padding(shown(f"{words}: {entry.judgement['because']}"), (0, 0, 0, 2)))
    return Group(*lines, Text())
