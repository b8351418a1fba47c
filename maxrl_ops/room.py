"""How much room this machine has for processes of ours: memory and cores, in a container its own.

A container sees the whole host in /proc/meminfo; what it may take stands in its cgroups.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that processes may still take; None where nobody tells. `root` is for tests."""
    room = [*_of_host(root), *_of_cgroups(root)]
    return max(0, min(room)) if room else None


def cores(root: Path = Path("/")) -> int:
    """On how many at a time, 1 at least; the part of one that a quota gives counts as one."""
    quotas = (_quota(directory) for directory in _cgroups(root))
    found = [quota for quota in quotas if quota is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *found]))


def _of_host(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) << 10


def _of_cgroups(root: Path) -> Iterator[int]:
    """What is left below the limit of each group that we are in."""
    for directory in _cgroups(root):
        limit, used = _number(directory / "memory.max"), _number(directory / "memory.current")
        if limit is not None and used is not None:
            # The kernel takes pages of files back before it lets anybody die.
            yield limit - used + _inactive(directory)


def _cgroups(root: Path) -> Iterator[Path]:
    """Our group (cgroup v2) and those around it, as far as they are mounted."""
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        if line.startswith("0::/"):
            own = top / line.removeprefix("0::/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(top))


def _inactive(directory: Path) -> int:
    for line in _lines(directory / "memory.stat"):
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _quota(directory: Path) -> int | None:
    """Whole cores of `cpu.max`, such as `150000 100000`: of microseconds, so many in so many."""
    for line in _lines(directory / "cpu.max"):
        quota, _, period = line.partition(" ")
        if quota.isdecimal() and period.isdecimal():
            return -(-int(quota) // int(period))
    return None


def _number(path: Path) -> int | None:
    """The file's number; None where it says `max`, or is not there."""
    for line in _lines(path):
        return int(line) if line.isdecimal() else None
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
