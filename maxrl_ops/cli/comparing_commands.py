"""The commands that show what came of runs: `report`, `compare` and `sweep`."""

from typing import Annotated, Any

import typer

from maxrl_ops.cli.common_options import RunName
from maxrl_ops.cli.start_options import OWN_COMMAND, StartCommand, with_options
from maxrl_ops.cli.sweep_options import SWEEP

app = typer.Typer()


@app.command(
    short_help="Write a run's report as one HTML page.",
    epilog="Example: maxrl-ops report rust-1 --to rust-1.html",
)
def report(
    name: RunName = None,
    to: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where to. [default: NAME.html]")
    ] = None,
) -> int:
    """Write a run's report: plots, decisions, evaluations, samples, set-up.

    One HTML file that loads nothing from elsewhere. Without NAME: of the only active run, else of
    the newest.
    """
    from maxrl_ops.cli.report import report as run_report  # noqa: PLC0415

    return run_report(name, to)


@app.command(
    short_help="Show runs beside each other.",
    epilog="Example: maxrl-ops compare grpo maxrl --to compare.html",
)
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Two runs or more, or one sweep.")
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", "--html", metavar="FILE", help="Write a page with the curves too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show runs beside each other: how far each came, and when it reached what.

    Of a sweep: means over seeds. A level is reached at the second of two evaluations in a row that
    have it.
    """
    from maxrl_ops.cli.report import compare as run_compare  # noqa: PLC0415

    return run_compare(names, to, as_json=as_json)


@app.command(
    cls=StartCommand,
    options_metavar="[OPTIONS] [-- COMMAND ...]",
    short_help="Run a setting's values beside each other, over seeds.",
    epilog="Example: maxrl-ops sweep threshold --task arithmetic --seeds 3 --html threshold.html",
)
@with_options(SWEEP)
def sweep(ctx: typer.Context, **options: Any) -> int:
    """Run a setting's values beside each other, over seeds, and compare what came of them.

    WHAT is one of the guide's ablations, threshold (15 20 25 30), samples (4 8 16 32) or
    temperature (0.5 1 2), or any setting as KEY=A,B,C; several make a grid. Called again with the
    same name it goes on with what is missing, and starts nothing twice. All other options are those
    of start. Exit code 1: no run finished.
    """
    from maxrl_ops.cli.sweep import sweep as run_sweep  # noqa: PLC0415

    return run_sweep(options, ctx.meta.get(OWN_COMMAND))
