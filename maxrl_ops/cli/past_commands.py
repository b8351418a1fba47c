"""The commands about what was: `history` and `prune`."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog="Example: maxrl-ops history rust-1 --since 12h --csv")
def history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")],
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
