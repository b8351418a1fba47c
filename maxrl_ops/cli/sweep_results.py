"""What came of a sweep, read from its runs: as tables, as JSON, as a page."""

import json
import math
import sys
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.cli.printable import print_whole, shown
from maxrl_ops.cli.report import curves_of, write_page
from maxrl_ops.core.run_state import State
from maxrl_ops.core.snapshot import DAMAGED
from maxrl_ops.core.sweep import Planned, Sweep
from maxrl_ops.report import sweep_page, sweeps
from maxrl_ops.report.sweeps import Outcome, measured, reached_of
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.rundir import DocumentError


def show(sweep: Sweep, target: Path | None, *, as_json: bool) -> int:
    """Print what came of it, and write its page; 1 where no run of it has finished."""
    outcomes = [_outcome(planned) for planned in sweep.runs()]
    if target is not None:
        write_page(target, sweep_page.render(sweep, outcomes, utc_now()))
    if as_json:
        sys.stdout.write(json.dumps(sweeps.to_json(sweep, outcomes), indent=1) + "\n")
    else:
        _print(sweep, outcomes)
        if target is not None:
            sys.stdout.write(f"{target}\n")
    is_any_good = any(each.state == State.FINISHED for each in outcomes)
    return ExitCode.OK if is_any_good else ExitCode.BAD


def _outcome(planned: Planned) -> Outcome:
    name, point, seed = planned.name, planned.point, planned.seed
    run = home().run(name)
    if not run.spec.exists():
        return Outcome(name, point, seed)
    try:
        _, curves, found = curves_of(run)
    except DocumentError as error:
        return Outcome(name, point, seed, state=DAMAGED, reason=str(error))
    last = curves.evaluations[-1].pass_at_k if curves.evaluations else {}
    cost = measured(curves, curves.last)
    return Outcome(
        name,
        point,
        seed,
        state=found.state,
        reason=found.exit_reason,
        iterations=found.iteration,
        samples=curves.samples_at(curves.last),
        seconds=cost.get("seconds"),
        pass_at={k: value for k, value in last.items() if math.isfinite(value)},
        reached=reached_of(curves),
        curves=curves,
    )


def _print(sweep: Sweep, outcomes: list[Outcome]) -> None:
    console = Console(highlight=False)
    for each in sweeps.tables(sweeps.rows(sweep.points(), outcomes)):
        print_whole(
            console,
            Group(
                Text(each.title, style="bold"), Padding(_table(each), (0, 0, 1, 2), expand=False)
            ),
        )
    console.print(Text(sweeps.HOW_TO_READ, style="dim"))
    for run in outcomes:
        if run.state != State.FINISHED:
            console.print(_not_finished(run), soft_wrap=True)


def _not_finished(run: Outcome) -> Text:
    state = "has not begun" if run.state is None else f"is {run.state.replace('_', ' ')}"
    return shown(f"{run.name} {state}" + ("" if run.reason is None else f": {run.reason}"))


def _table(told: sweeps.Table) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, head in enumerate(told.head):
        table.add_column(head, justify="right" if place else "left")
    for row in told.rows:
        table.add_row(*(shown("-" if cell is None else cell) for cell in row))
    return table
