"""`daemon`: run it in the foreground, or end the one that runs."""

import os
import sys
from typing import NoReturn

from maxrl_ops import daemon_process
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home

_STOP_SECONDS = 30.0


def daemon(listen: str | None, *, is_stop: bool) -> int:
    """Become the daemon, or end the one that runs."""
    if not is_stop:
        _become(listen)
    if listen is not None:
        raise CommandError("--listen and --stop: give one of them")
    try:
        ended = daemon_process.stop(home(), _STOP_SECONDS)
    except TimeoutError as error:
        raise CommandError(f"{error} within {_STOP_SECONDS:.0f} s", ExitCode.BAD) from None
    said = "No daemon is running." if ended is None else f"The daemon, pid {ended.pid}, has ended."
    sys.stdout.write(said + "\n")
    return ExitCode.OK


def _become(listen: str | None) -> NoReturn:
    """Put the daemon in this process's place: a command line has no business in its memory."""
    words = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]
    arguments = words if listen is None else [*words, "--listen", listen]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell is what is wanted
