"""Errors a person can cause: one line on stderr and an exit code, never a traceback."""

import errno

from maxrl_ops.cli.exit_codes import ExitCode


class CommandError(Exception):
    """One line that says what was wrong, where, and what to do."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def of_os_error(error: OSError) -> CommandError:
    """An operating system's refusal (read-only, full, no permission) in one line."""
    if error.errno == errno.ENOENT and not error.filename:
        # os.getcwd alone names nothing.
        return CommandError("the current directory is gone: cd to another one", ExitCode.USAGE)
    where = f"{error.filename}: " if error.filename else ""
    return CommandError(f"{where}{error.strerror or error}", ExitCode.USAGE)
