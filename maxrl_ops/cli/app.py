"""The commands of `maxrl-ops`, and how errors end them.

Each command's module is imported when the command runs, so that `status` stays light.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from maxrl_ops import __version__
from maxrl_ops.cli import (
    autopilot_commands,
    changing_commands,
    comparing_commands,
    export_commands,
    past_commands,
    run_commands,
    runless_commands,
)
from maxrl_ops.cli.errors import CommandError, of_os_error
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.wire.rundir import DocumentError
from maxrl_ops.wire.settings import SettingError

# typer exports only this one of click's exceptions: BadParameter(UsageError(ClickException)).
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="maxrl-ops",
    help="The autopilot for reinforcement-learning runs with verifiable rewards.",
    epilog="Example: maxrl-ops start --use-maxrl --task arithmetic --follow",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Plain help: half as long as rich's, and it fits a pager.
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
)

# In the order in which --help lists them.
app.add_typer(run_commands.app)
app.add_typer(autopilot_commands.app)
app.add_typer(changing_commands.app)
app.add_typer(runless_commands.app)
app.add_typer(past_commands.app)
app.add_typer(comparing_commands.app)
app.add_typer(
    export_commands.app,
    name="export",
    short_help="Write a model, units, files of Prometheus and Grafana.",
)


def main() -> NoReturn:
    """The entry point of `maxrl-ops`."""
    _open_streams()
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """Let whoever has closed a standard stream (`>&-`) write to nobody, and read nothing.

    Else Python has None in its place, and the next file that is opened is it for every child.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. What a person can cause ends in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign gets a question mark, not a traceback.
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = app(args=arguments, prog_name="maxrl-ops", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_has_enough()
    except SystemExit as end:
        # What typer makes of a broken pipe.
        if isinstance(end.__context__, BrokenPipeError):
            return _reader_has_enough()
        raise
    except (CommandError, SettingError, DocumentError, OSError, _ClickError) as error:
        return _report(_as_command_error(error))
    return int(code or ExitCode.OK)


def _reader_has_enough() -> ExitCode:
    """`maxrl-ops logs | head` is no error, and the flush at exit must not complain either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return ExitCode.OK


def _as_command_error(error: Exception) -> CommandError:
    match error:
        case CommandError():
            return error
        case SettingError():
            return CommandError(str(error), ExitCode.USAGE)
        case DocumentError():
            return CommandError(str(error), ExitCode.BAD)
        case OSError():
            return of_os_error(error)
    return CommandError(_usage_message(error), ExitCode.USAGE)


def _report(error: CommandError) -> ExitCode:
    from maxrl_ops.core.printable import one_line  # noqa: PLC0415

    sys.stderr.write(f"maxrl-ops: {one_line(str(error))}\n")
    return error.exit_code


def _usage_message(error: Any) -> str:
    """Click's complaint in our words: what is wrong, and where it is explained."""
    message = str(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "maxrl-ops"
    return f"{message[:1].lower()}{message[1:]} (see {path} --help)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maxrl-ops {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
