"""Processes by identity: looked at and signalled without ever hitting a later one's pid."""

import os
import signal
import socket
from functools import cache
from pathlib import Path

from maxrl_ops.core.interruption import Boot
from maxrl_ops.wire.documents import ProcessIdentity

_DEAD = frozenset("ZXx")


def identity_of(pid: int, *, even_zombie: bool = False) -> ProcessIdentity | None:
    """The identity of the process that has `pid` now, None when there is none.

    A zombie counts as dead, except for its parent (`even_zombie`), whose pid it keeps.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # "pid (comm) state ppid ...": comm may hold blanks and parentheses, all later fields cannot.
    state, *fields = stat[stat.rindex(b")") + 1 :].decode("ascii").split()
    if state in _DEAD and not even_zombie:
        return None
    # Field 22 of proc(5), which counts pid and comm as 1 and 2, state as 3.
    return ProcessIdentity(pid, int(fields[22 - 4]), boot_id())


@cache
def boot_id() -> str:
    """Of the kernel that runs now."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


@cache
def boot() -> Boot:
    """Which boot of which machine this is."""
    return Boot(socket.gethostname(), boot_id())


def memory_kills() -> int:
    """How many processes of our cgroup the kernel has killed for memory; 0 where nobody counts."""
    try:
        own = Path("/proc/self/cgroup").read_text("utf-8", "replace").splitlines()
        path = next(line[3:] for line in own if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{path}/memory.events").read_text("ascii").splitlines()
        return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs."""
    return identity_of(identity.pid) == identity


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A descriptor of that very process, readable once it has ended; None if it is dead."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Opened first, looked at second: whatever the pid names later, the descriptor is of this one.
    if is_alive(identity):
        return descriptor
    os.close(descriptor)
    return None


def send_signal(identity: ProcessIdentity, number: int) -> bool:
    """Signal that very process; False when it is dead.

    Raises:
        PermissionError: It belongs to somebody else.
    """
    descriptor = open_pidfd(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def signal_group(leader: ProcessIdentity, number: int) -> bool:
    """Signal the process group that `leader` founded, also after its death.

    A pid is not given out again while a group has it as its id: a group whose leader is dead is
    still the leader's, and one whose leader is somebody else is not.
    """
    if leader.boot_id != boot_id():
        return False
    now = identity_of(leader.pid, even_zombie=True)
    if now is not None and now != leader:
        return False
    try:
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return False
    return True
