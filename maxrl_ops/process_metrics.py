"""The daemon's own process, in the series that every client of Prometheus's shows."""

import os
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from maxrl_ops.signals import Kind, Metric


def _of_process(name: str, kind: Kind, text: str) -> Metric:
    return Metric(f"process_{name}", kind, text, is_per_run=False)


_VIRTUAL = _of_process("virtual_memory_bytes", Kind.GAUGE, "Virtual memory size in bytes.")
_RESIDENT = _of_process("resident_memory_bytes", Kind.GAUGE, "Resident memory size in bytes.")
_STARTED = _of_process(
    "start_time_seconds", Kind.GAUGE, "Start time of the process since unix epoch in seconds."
)
_CPU = _of_process("cpu_seconds", Kind.COUNTER, "Total user and system CPU time spent in seconds.")
_OPEN = _of_process("open_fds", Kind.GAUGE, "Number of open file descriptors.")
_MOST_OPEN = _of_process("max_fds", Kind.GAUGE, "Maximum number of open file descriptors.")

_PROC = Path("/proc")


def now() -> Iterator[tuple[Metric, float]]:
    """What this process is like; nothing of what cannot be read."""
    try:
        # Behind the command's name, which may hold anything.
        fields = (_PROC / "self/stat").read_bytes().rpartition(b")")[2].split()
        started = _booted() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return
    yield _VIRTUAL, int(fields[20])
    yield _RESIDENT, int(fields[21]) * resource.getpagesize()
    yield _STARTED, started
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield _CPU, used.ru_utime + used.ru_stime
    yield _OPEN, len(list((_PROC / "self/fd").iterdir()))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        yield _MOST_OPEN, most


@cache
def _booted() -> float:
    """Seconds since the epoch."""
    for line in (_PROC / "stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return float(line.split()[1])
    raise OSError("/proc/stat tells no btime")
