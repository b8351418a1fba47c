"""The options of `sweep`: its own, and those of `start`."""

import typer

from maxrl_ops.cli.start_options import OWN, Options

_START = {name: OWN[name] for name in ("config", "source", "actuate", "algorithm")}

SWEEP: Options = {
    "vary": (
        list[str] | None,
        None,
        typer.Argument(
            metavar="WHAT",
            help="threshold, samples or temperature (the guide's ablations), or KEY=A,B,C.",
        ),
    ),
    "seeds": (
        str | None,
        None,
        typer.Option(
            metavar="LIST", help="A count (3, the default: 0, 1 and 2), or seeds: 0,5 or 7,"
        ),
    ),
    "name": (
        str | None,
        None,
        typer.Option(
            metavar="NAME", help="The sweep's name; by default what it varies. It resumes one."
        ),
    ),
    "at_once": (
        int | None,
        None,
        typer.Option(
            metavar="N",
            min=1,
            help="Runs that train at the same time; by default one a core, or one on a GPU.",
        ),
    ),
    "to": (
        str | None,
        None,
        typer.Option("--to", "--html", metavar="FILE", help="Write a page with the curves too."),
    ),
    "as_json": (bool, False, typer.Option("--json", help="Print JSON; progress goes to stderr.")),
    "job": (
        str | None,
        None,
        typer.Option(metavar="NAME", help="The group of its runs; by default the sweep's name."),
    ),
    "mode": (
        str | None,
        None,
        typer.Option(
            metavar="VALUE",
            help="What the autopilot may do: by default it may only observe, and what is compared "
            "stays as it is; or act, suggest, off.",
        ),
    ),
    **_START,
}
