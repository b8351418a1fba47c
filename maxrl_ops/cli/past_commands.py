"""The commands about what was: `history` and `prune`."""

from typing import Annotated

import typer

from maxrl_ops.cli.common_options import GivenRunName

app = typer.Typer()


@app.command(
    short_help="Show a run's iterations, as the daemon has stored them.",
    epilog="Example: maxrl-ops history rust-1 --since 12h --csv",
)
def history(
    name: GivenRunName,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="An iteration (500), an age (12h) or a time."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> int:
    """Show a run's iterations, as the daemon has stored them; none need be running.

    What a resume made again is left out. Without --since: the last 20, but all as JSON or CSV.
    """
    from maxrl_ops.cli.history import history as run_history  # noqa: PLC0415

    return run_history(name, since, as_json=as_json, as_csv=as_csv)


@app.command(
    short_help="Remove old runs, and old checkpoints.",
    epilog="Example: maxrl-ops prune --runs-older-than 90d --dry-run",
)
def prune(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these runs.")
    ] = None,
    runs_older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Remove runs untouched for so long.")
    ] = "30d",
    checkpoints_older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Of younger ones, the checkpoints after so long.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Remove old runs, and old checkpoints but each run's best and newest one.

    Nothing of a run that is active or attached is touched. What the daemon has stored of a removed
    run stays in the history, until the daemon's retention ends that too.
    """
    from maxrl_ops.cli.prune import prune as run_prune  # noqa: PLC0415

    return run_prune(
        names or [], runs_older_than, checkpoints_older_than, dry_run=dry_run, as_json=as_json
    )
