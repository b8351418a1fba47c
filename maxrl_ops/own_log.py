"""What our own processes say: a line on stderr, with the time."""

import sys
from contextlib import suppress

from maxrl_ops.wire.documents import utc_now


def say(message: str) -> None:
    """One line; a full disk may swallow it."""
    with suppress(OSError):
        sys.stderr.write(f"{utc_now()} {message}\n")
        sys.stderr.flush()
