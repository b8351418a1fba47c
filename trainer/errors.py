"""Errors a user can cause, with the exit code each ends the trainer with."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the trainer's exit code tells its supervisor."""

    FINISHED = 0
    CRASHED = 1
    USAGE = 2
    NOT_FOUND = 3
    IN_USE = 4
    # EX_IOERR of sysexits.h: the log, which would have told the reason, could not be written.
    UNTOLD = 74
    # 128 + SIGTERM: stopped as asked, with a checkpoint.
    STOPPED = 143


class TrainerError(Exception):
    """One line that says what was wrong, where, and what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code
