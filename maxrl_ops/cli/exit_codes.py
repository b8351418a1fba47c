"""What the exit code of `maxrl-ops` tells a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One meaning each, told in the README; stable."""

    OK = 0
    # The thing asked about is bad: a failed run, a file with errors.
    BAD = 1
    # Usage or configuration.
    USAGE = 2
    NOT_FOUND = 3
    IN_USE = 4
    # The daemon or a run did not come up.
    NOT_UP = 5
    # Configuration, under systemd (EX_CONFIG of sysexits.h): do not restart.
    CONFIG = 78
    # 128 + SIGINT, as shells have it.
    INTERRUPTED = 130
