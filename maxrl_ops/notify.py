"""What a service tells systemd: sd_notify(3), a datagram to the socket that $NOTIFY_SOCKET names.

Where nobody listens everything here does nothing, so that callers need not ask.
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Self

from maxrl_ops.core.printable import one_line

# A manager that takes nothing for so long must not hold up whoever tells it something.
_PATIENCE_SECONDS = 1.0
_LONGEST_STATUS = 300
# Pings per watchdog interval: one lost to a busy host kills nobody.
_PINGS = 3.0


class Notifier:
    """The one service manager of this process."""

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        """Tell `address` (a path, or @NAME in the abstract namespace); None: nobody."""
        self._address = None
        if address and len(address) > 1 and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
        self._pause = None if watchdog_seconds is None else watchdog_seconds / _PINGS
        self._pinged_at = float("-inf")
        self._status: str | None = None

    @classmethod
    def take(cls, env: MutableMapping[str, str], pid: int) -> Self:
        """The manager that `env` names, and remove it there: what we start is not the service."""
        address = env.pop("NOTIFY_SOCKET", None)
        interval, for_whom = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", str(pid))
        is_watched = for_whom == str(pid) and interval.isascii() and interval.isdigit()
        seconds = int(interval) / 1e6 if is_watched else 0.0
        return cls(address, seconds or None)

    def ready(self) -> None:
        """The service is up, or up again after `reloading`."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The service reads its configuration again; `ready` ends that."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._tell("STOPPING=1")

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows; told when it changes."""
        text = one_line(sentence)[:_LONGEST_STATUS]
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """The loop turns: to be called by it alone, as often as it likes."""
        now = time.monotonic()
        if self._pause is not None and now - self._pinged_at >= self._pause:
            self._pinged_at = now
            self._tell("WATCHDOG=1")

    def _tell(self, words: str) -> None:
        if self._address is None:
            return
        # No service ends because its manager is away.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to,
        ):
            to.settimeout(_PATIENCE_SECONDS)
            to.sendto(words.encode(), self._address)


def is_service(env: Mapping[str, str]) -> bool:
    """Whether systemd itself started this process: not a child of something that it started."""
    return env.get("SYSTEMD_EXEC_PID") == str(os.getpid())
