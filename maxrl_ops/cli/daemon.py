"""`daemon`: run it in the foreground, or end the one that runs."""

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from maxrl_ops import daemon_process
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home

_STOP_SECONDS = 30.0


def daemon(flags: Mapping[str, str | bool | None], *, is_stop: bool) -> int:
    """Become the daemon, with `flags` by parameter name, or end the one that runs."""
    given = _command_line(flags)
    # Before anybody becomes anything: what is wrong with it is said here.
    where = home()
    if not is_stop:
        _become(given)
    if given:
        raise CommandError(f"{given[0]} and --stop: give one of them")
    try:
        ended = daemon_process.stop(where, _STOP_SECONDS)
    except TimeoutError as error:
        raise CommandError(f"{error} within {_STOP_SECONDS:.0f} s", ExitCode.BAD) from None
    said = "No daemon is running." if ended is None else f"The daemon, pid {ended.pid}, has ended."
    sys.stdout.write(said + "\n")
    return ExitCode.OK


def _command_line(flags: Mapping[str, str | bool | None]) -> list[str]:
    words: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, str):
            words += [flag, value]
        elif value:
            words.append(flag)
    return words


def _become(given: list[str]) -> NoReturn:
    """Put the daemon in this process's place: a command line has no business in its memory."""
    words = [sys.executable, "-P", "-m", "maxrl_ops.daemon", *given]
    os.execv(sys.executable, words)  # noqa: S606 - no shell is what is wanted
