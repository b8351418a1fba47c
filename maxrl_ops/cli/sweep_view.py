"""A sweep while it runs: a table of points and seeds on a terminal, plain lines anywhere else."""

import time

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.follow import without_caret_c
from maxrl_ops.cli.live import STATE_STYLES
from maxrl_ops.cli.printable import shown
from maxrl_ops.cli.sweep_runs import Change, Runs
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.core.sweep import Point, label

_FRAME_SECONDS = 0.5
# Frame, progress and head around the rows.
_ROWS_AROUND = 6


def watch(runs: Runs, console: Console) -> None:
    """Conduct the sweep to its end, and show how it goes; nothing where it is at its end."""
    if runs.are_over:
        return
    if console.is_terminal:
        _live(runs, console)
    else:
        _plain(runs, console)


def _live(runs: Runs, console: Console) -> None:
    with (
        without_caret_c(),
        Live(console=console, auto_refresh=False, vertical_overflow="crop", transient=True) as live,
    ):
        while not runs.are_over:
            runs.step()
            live.update(view(runs, console.height), refresh=True)
            time.sleep(_FRAME_SECONDS)


def _plain(runs: Runs, console: Console) -> None:
    if runs.over:
        console.print(f"{runs.over} of {len(runs.jobs)} runs are over already")
    while not runs.are_over:
        for change in runs.step():
            console.print(_line(change, runs), soft_wrap=True)
        time.sleep(_FRAME_SECONDS)


def _line(change: Change, runs: Runs) -> Text:
    if change.is_given_up:
        return shown(f"{change.run.name} is given up: one supervisor after the other has died")
    if change.is_over:
        return shown(f"{change.run.name}: {change.run.sentence}")
    return shown(f"{change.run.name} begins; {runs.over} of {len(runs.jobs)} are over")


def view(runs: Runs, height: int) -> RenderableType:
    """The panel for a terminal of so many rows; where they are too few, only what goes on."""
    going = set(runs.going())
    points = runs.sweep.points()
    if len(points) > height - _ROWS_AROUND:
        points = [
            p for p in points if any(j.planned.point == p and j.name in going for j in runs.jobs)
        ]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for seed in runs.sweep.seeds:
        table.add_column(f"seed {seed}", justify="right", no_wrap=True)
    for point in points:
        table.add_row(shown(label(point)), *_cells(runs, point))
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_row(
        f"{runs.over} of {len(runs.jobs)} runs are over, {len(going)} go on",
        ProgressBar(total=len(runs.jobs), completed=_done(runs)),
    )
    return Panel(
        Group(head, Text(), table),
        title=Text.assemble(" sweep ", (runs.sweep.name, "bold"), " "),
        title_align="left",
        subtitle=Text(" Ctrl-C leaves; what has begun goes on ", style="dim"),
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
        padding=(0, 1),
    )


def _cells(runs: Runs, point: Point) -> list[Text]:
    return [_cell(runs.seen.get(job.name)) for job in runs.jobs if job.planned.point == point]


def _cell(run: RunSnapshot | None) -> Text:
    """Its held-out pass@1 where it has finished, how far it is where it goes on, else its state."""
    if run is None:
        return Text("-", style="dim")
    style = STATE_STYLES.get(run.state, "")
    if run.state == "finished" and run.held_out.pass_at_1 is not None:
        return Text(f"{run.held_out.pass_at_1:.2f}", style=style)
    if run.is_over or not run.iteration:
        return shown(run.state.replace("_", " "), style)
    of = f"/{run.target_iterations}" if run.target_iterations else ""
    return Text(f"{run.iteration}{of}", style=style)


def _done(runs: Runs) -> float:
    """How many runs are done, those that go on by their share."""
    shares = (
        min(1.0, (run.iteration or 0) / run.target_iterations)
        for name in runs.going()
        if (run := runs.seen.get(name)) and run.target_iterations
    )
    return runs.over + sum(shares)
