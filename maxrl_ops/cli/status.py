"""`status`: every run in a row and a sentence, as a table, live, or as JSON."""

import gc
import json
import sys
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from maxrl_ops.cli import finding
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, is_watched, named
from maxrl_ops.cli.live import state_text
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.daemon_file import DaemonFile, running
from maxrl_ops.host import Host
from maxrl_ops.journal import JournalReader
from maxrl_ops.operator_files import is_frozen
from maxrl_ops.run_reader import AllRuns, RunReader, life_of
from maxrl_ops.wire.rundir import DocumentError, RunDir

_FRAME_SECONDS = 1.0
# Of those that are kept: state.json has all.
_LAST_LINES = 10
_NO_DAEMON = "no daemon is running: read from the files; maxrl-ops daemon starts one"


def status(name: str | None, *, watch: bool, as_json: bool) -> int:
    """Show one run or all."""
    if watch and as_json:
        raise CommandError("--watch and --json: give one of them")
    if watch:
        return _watch(name)
    # Nothing here refers in circles; to look for such takes a tenth of the time of many runs.
    gc.disable()
    try:
        return _show(name, as_json=as_json)
    finally:
        gc.enable()


def _show(name: str | None, *, as_json: bool) -> int:
    journal = finding.journal()
    runs = AllRuns(journal).look(_chosen(name))
    daemon = running(home())
    if as_json:
        sys.stdout.write(json.dumps(_as_json(runs, daemon, journal), indent=1) + "\n")
    else:
        console = Console(highlight=False)
        console.print(_page(runs, _footer(daemon, journal, Host(home().path))))
        if name is not None:
            for line in _last_words(named(name)):
                console.print(line)
    return ExitCode.OK


def _last_words(run: RunDir) -> list[Text]:
    """The last lines that a trainer wrote which did not end well."""
    try:
        state = life_of(run).state
    except DocumentError:
        return []
    if state is None or state.state not in {"failed", "backing_off"} or not state.exits:
        return []
    newest = state.exits[-1]
    lines = newest.lines[-_LAST_LINES:]
    head = [Text(f"The last lines of attempt {newest.attempt}:", "dim")] if lines else []
    return [*head, *(Text("  ").append_text(shown(line, "dim")) for line in lines)]


def _chosen(name: str | None) -> list[RunDir]:
    return home().runs() if name is None else [named(name)]


def _as_json(
    runs: list[RunSnapshot], daemon: DaemonFile | None, journal: JournalReader
) -> dict[str, Any]:
    told = {
        "running": daemon is not None,
        "pid": daemon and daemon.process.pid,
        "metrics": daemon and daemon.metrics,
        "frozen": is_frozen(home()),
        "policy_problem": daemon and daemon.policy_problem,
        "unread": daemon and daemon.unread,
        "problem": journal.problem,
    }
    host = Host(home().path).look()
    return {"daemon": told, "host": host.to_json(), "runs": [run.to_json() for run in runs]}


def _footer(daemon: DaemonFile | None, journal: JournalReader, host: Host) -> list[str]:
    """Who judges the runs, where the metrics are, and what room the machine has."""
    return list(filter(None, (_judge(daemon, journal), host.look().sentence())))


def _judge(daemon: DaemonFile | None, journal: JournalReader) -> str:
    if journal.problem is not None:
        return f"the journal cannot be read: {journal.problem}"
    said = _NO_DAEMON
    if daemon is not None:
        said = f"daemon pid {daemon.process.pid}, metrics {daemon.metrics}"
    if is_frozen(home()):
        said += "; the autopilot is frozen: maxrl-ops unfreeze"
    if daemon is not None and daemon.policy_problem is not None:
        said += f"; the policy stays as it was: {daemon.policy_problem}"
    if daemon is not None and daemon.unread is not None:
        said += f"; it cannot follow {daemon.unread}"
    return said


def _watch(name: str | None) -> int:
    """The live view of the run that is meant, else the table again and again."""
    candidates = [named(name)] if name is not None else list(filter(is_watched, home().runs()))
    console = Console(highlight=False)
    if len(candidates) == 1:
        from maxrl_ops.cli.follow import follow  # noqa: PLC0415 - only for who watches

        follow(RunReader(candidates[0], finding.journal()))
        return ExitCode.OK
    if not console.is_terminal:
        raise CommandError(
            "--watch needs a terminal, or the NAME of one run to print a line an iteration"
        )
    journal = finding.journal()
    everything, host = AllRuns(journal), Host(home().path)
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                runs = everything.look(home().runs())
                footer = _footer(running(home()), journal, host)
                live.update(_page(runs, footer), refresh=True)
                time.sleep(_FRAME_SECONDS)
    except KeyboardInterrupt:
        return ExitCode.OK


def _page(runs: list[RunSnapshot], footer: list[str]) -> RenderableType:
    below = [shown(line, "dim") for line in footer]
    if not runs:
        return Group(Text("There is no run yet. Start one: maxrl-ops start --use-maxrl"), *below)
    rows = [_figures(run) for run in runs]
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    blocks = (_block(run, row, widths) for run, row in zip(runs, rows, strict=True))
    return Group(*blocks, *below)


def _figures(run: RunSnapshot) -> tuple[Text, ...]:
    return (
        shown(run.name, "bold"),
        state_text(run),
        shown(run.algorithm or ""),
        Text(_done(run)),
        Text("" if run.correctness is None else f"correctness {run.correctness:.0%}"),
    )


def _block(run: RunSnapshot, row: tuple[Text, ...], widths: list[int]) -> RenderableType:
    """A row of figures, in columns that all runs share, and the sentence under it.

    What does not fit beside a long name is on the next line: a table would cut it.
    """
    for cell, width in zip(row, widths, strict=True):
        cell.pad_right(width - cell.cell_len)
    figures = Text(" " * 3).join(row)
    figures.rstrip()
    return Group(figures, Padding(shown(run.sentence), (0, 0, 1, 2)))


def _done(run: RunSnapshot) -> str:
    if run.iteration is None:
        return ""
    return str(run.iteration) + (f"/{run.target_iterations}" if run.target_iterations else "")
