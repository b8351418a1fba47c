"""The options of `start`: one for each row of the table of settings, and the run's own.

`sweep` has them too.
"""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from maxrl_ops.wire.settings import SETTINGS, Setting

OWN_COMMAND = "maxrl_ops.command"

Options = Mapping[str, tuple[Any, Any, Any]]
"""By parameter: its type, its default, and what typer makes of it."""

OWN: Options = {
    "name": (
        str | None,
        None,
        typer.Option(metavar="NAME", help="The run's name; by default the task's and a number."),
    ),
    "job": (
        str | None,
        None,
        typer.Option(metavar="NAME", help="The group it belongs to; by default the task's name."),
    ),
    "config": (str | None, None, typer.Option(metavar="FILE.toml", help="Settings, key = value.")),
    "source": (
        str | None,
        None,
        typer.Option(
            "--from", metavar="RUN", help="Take a run's settings and newest checkpoint over."
        ),
    ),
    "mode": (
        str,
        "act",
        typer.Option(
            metavar="VALUE",
            help="What the autopilot may do: act, suggest (it waits for you), observe or off.",
        ),
    ),
    "actuate": (
        str | None,
        None,
        typer.Option(
            metavar="restart",
            help="Change a command of your own by starting it again: {checkpoint}, {objective}, "
            "{threshold}, {weight_temperature}, {n_samples} and {learning_rate} are filled in.",
        ),
    ),
    "follow": (
        bool,
        False,
        typer.Option("--follow/--detach", help="Watch it live, or return once it is up."),
    ),
    "algorithm": (
        str | None,
        None,
        typer.Option(
            metavar="VALUE",
            help="grpo or maxrl, as --use-grpo or --use-maxrl; hybrid: GRPO for --hand-over-after "
            "iterations, then MaxRL; adaptive: GRPO, then MaxRL once correctness is above 50%.",
        ),
    ),
}

# Settings whose options take no value.
_FLAGS = {"use_maxrl": "--use-maxrl/--use-grpo", "unsafe_no_sandbox": "--unsafe-no-sandbox"}


class StartCommand(TyperCommand):
    """A command whose line may end in `-- COMMAND ...`, which is nobody's option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set the own command aside before options are looked for."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[OWN_COMMAND] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


def with_options(own: Options) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give `command(ctx, **options)` the signature that typer makes the options from.

    These are `own`, and one for each setting.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        parameters = [
            Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(_own(name, *option) for name, option in own.items()),
            *(_of_setting(setting) for setting in SETTINGS.values()),
        ]
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _of_setting(setting: Setting) -> Parameter:
    if setting.key in _FLAGS:
        kind: type = bool
        option = typer.Option(_FLAGS[setting.key], help=setting.help)
    else:
        kind = str
        option = typer.Option(
            "--" + setting.key.replace("_", "-"),
            metavar="VALUE",
            help=f"{setting.help} [{setting.allowed}]",
        )
    # Texts all: Setting.parse says in one line what is allowed, the same for flag, env and file.
    return Parameter(
        setting.key, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _own(name: str, kind: Any, default: Any, option: Any) -> Parameter:
    annotation = Annotated[kind, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
