"""Arguments and options that several commands have."""

from typing import Annotated

import typer

GivenRunName = Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")]
RunName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run's name.")]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Which; by default the only active one.")
]
WaitOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the trainer's answer.")
]
