"""What every sandbox is: a way to run one program where it can harm nothing.

bubblewrap.py has the one that is wanted, landlock.py the one for hosts where that does not work,
unconfined.py the one that is none; sandboxes.py chooses.
"""

import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MIB = 1 << 20
# What a compiler and a linker read of the system besides /usr.
SYSTEM = (Path("/bin"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/sbin"))
SYSTEM_FILES = (Path("/etc/alternatives"), Path("/etc/ld.so.cache"))
# Uids that no distribution, container manager or systemd hands out (systemd: UIDS-GIDS.md).
_FREE_UIDS = range(1_900_000_000, 2_100_000_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        cpu_s: CPU seconds of each of its processes, then SIGKILL; the host's load does not matter.
        wall_s: Seconds until the sandbox is killed. This one does depend on the host's load.
        memory: Bytes of address space of each process.
        file_size: Bytes of the largest file it may write.
        processes: Processes and threads at any one time.
        output: Bytes of stdout and stderr together, then the sandbox is killed.
    """

    cpu_s: int
    wall_s: float
    memory: int
    file_size: int
    processes: int
    output: int


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        returncode: Its exit status; 128 + N, or -N where the sandbox was killed, for a signal N.
        output: stdout and stderr in the order they came, at most `Limits.output` bytes.
        timed_out: It was killed at the wall deadline.
        truncated: It was killed because it wrote too much.
    """

    returncode: int
    output: bytes
    timed_out: bool
    truncated: bool


class Sandbox(Protocol):
    """Starts programs in sandboxes; safe to use from several threads."""

    @property
    def kind(self) -> str:
        """Its name: one of sandboxes.KINDS."""
        ...

    def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        read_only: Mapping[Path, str] | None = None,
        writable: tuple[Path, str] | None = None,
        stdin: bytes = b"",
        chdir: str = "/",
    ) -> Finished:
        """Run `command` to its end, or kill it; nothing of it survives the call.

        Args:
            command: The program, by its absolute path inside, and its arguments. An argument that
                is a path inside stands alone: a sandbox whose paths are the host's replaces it.
            limits: What it may use.
            read_only: Host path -> path inside.
            writable: Host directory and path inside. As root its owner becomes the sandbox's uid.
            stdin: At most 4096 bytes (so that the pipe takes them at once), then end of file.
            chdir: Working directory inside.

        Raises:
            SandboxError: The program did not start; there is nothing to be said about it.
        """
        ...


def resource_limits(limits: Limits) -> dict[int, int]:
    """RLIMIT_* -> value, never above our own hard limit, which an ordinary user cannot raise."""
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_STACK: 8 * MIB,
        resource.RLIMIT_CORE: 0,
    }
    return {which: _at_most_ours(which, value) for which, value in wanted.items()}


def _at_most_ours(which: int, wanted: int) -> int:
    hard = resource.getrlimit(which)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def free_uids(uid_map: str) -> range | None:
    """Uids nobody has, by /proc/self/uid_map; None when root is the only uid there is.

    In a container's user namespace only some uids exist, and the topmost ones are unused.
    """
    ends = [int(fields[0]) + int(fields[2]) for fields in map(str.split, uid_map.splitlines())]
    end = min(max(ends, default=0), _FREE_UIDS.stop)
    if end == _FREE_UIDS.stop:
        return _FREE_UIDS
    # With root alone, the uid behind it is an ordinary user's, and RLIMIT_NPROC binds that.
    return range(end - end // 4, end) if end >= 1024 else None


def own_free_uids() -> range | None:
    """The uids that sandboxes of this process get; None when it is not root."""
    if os.geteuid() != 0:
        return None
    return free_uids(Path("/proc/self/uid_map").read_text("ascii"))
