"""`status`: every run in a row and a sentence, as a table, live, or as JSON."""

import json
import sys
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import active, home, named
from maxrl_ops.cli.live import state_text
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.run_reader import AllRuns, RunReader
from maxrl_ops.wire.rundir import RunDir

_FRAME_SECONDS = 1.0
# Said without a daemon, which would keep these figures in its database.
_FROM_FILES = "no daemon is running: read from the files"
_NO_DAEMON = {"running": False, "pid": None, "metrics": None, "frozen": False}


def status(name: str | None, *, watch: bool, as_json: bool) -> int:
    """Show one run or all."""
    if watch and as_json:
        raise CommandError("--watch and --json: give one of them")
    if watch:
        return _watch(name)
    runs = AllRuns().look(_chosen(name))
    if as_json:
        sys.stdout.write(json.dumps(_as_json(runs), indent=1) + "\n")
    else:
        console = Console(highlight=False)
        console.print(_page(runs))
    return ExitCode.OK


def _chosen(name: str | None) -> list[RunDir]:
    return home().runs() if name is None else [named(name)]


def _as_json(runs: list[RunSnapshot]) -> dict[str, Any]:
    return {"daemon": _NO_DAEMON, "runs": [run.to_json() for run in runs]}


def _watch(name: str | None) -> int:
    """The live view of the run that is meant, else the table again and again."""
    candidates = [named(name)] if name is not None else active()
    console = Console(highlight=False)
    if len(candidates) == 1:
        from maxrl_ops.cli.follow import follow  # noqa: PLC0415 - only for who watches

        follow(RunReader(candidates[0]))
        return ExitCode.OK
    if not console.is_terminal:
        raise CommandError(
            "--watch needs a terminal, or the NAME of one run to print a line an iteration"
        )
    everything = AllRuns()
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(_page(everything.look(home().runs())), refresh=True)
                time.sleep(_FRAME_SECONDS)
    except KeyboardInterrupt:
        return ExitCode.OK


def _page(runs: list[RunSnapshot]) -> RenderableType:
    if not runs:
        return Group(
            Text("There is no run yet. Start one: maxrl-ops start --use-maxrl"),
            Text(_FROM_FILES, style="dim"),
        )
    rows = [_figures(run) for run in runs]
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    blocks = (_block(run, row, widths) for run, row in zip(runs, rows, strict=True))
    return Group(*blocks, Text(_FROM_FILES, style="dim"))


def _figures(run: RunSnapshot) -> tuple[Text, ...]:
    return (
        shown(run.name, "bold"),
        state_text(run),
        shown(run.algorithm or ""),
        Text(_done(run)),
        Text("" if run.correctness is None else f"correctness {run.correctness:.0%}"),
    )


def _block(run: RunSnapshot, row: tuple[Text, ...], widths: list[int]) -> RenderableType:
    """A row of figures, in columns that all runs share, and the sentence under it."""
    figures = Table.grid(padding=(0, 3))
    for width in widths:
        figures.add_column(min_width=width, no_wrap=True)
    figures.add_row(*row)
    return Group(figures, Padding(shown(run.sentence), (0, 0, 1, 2)))


def _done(run: RunSnapshot) -> str:
    if run.iteration is None:
        return ""
    return str(run.iteration) + (f"/{run.target_iterations}" if run.target_iterations else "")
