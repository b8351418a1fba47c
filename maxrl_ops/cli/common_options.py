"""Arguments and options that several commands have."""

import math
from typing import Annotated

import typer


def _seconds(text: str | float) -> float:
    """A time to wait. "nan" passes every comparison with a deadline, and would wait for ever."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds) or seconds < 0:
        raise typer.BadParameter(f"{text!r} is no number of seconds")
    return seconds


GivenRunName = Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")]
RunName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run's name.")]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Which; by default the only active one.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", parser=_seconds, help="How long to wait for the trainer's answer."
    ),
]
TimeoutOption = Annotated[
    float, typer.Option(metavar="SECONDS", parser=_seconds, help="How long to wait for the end.")
]
