"""What a run's processes cost, whoever is parent of whom."""

import os
from contextlib import suppress
from pathlib import Path

from maxrl_ops import daemon_file
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import DocumentError, RunDir

_TICKS = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU seconds of the trainers, the supervisor and the daemons of a run.

    They end unseen: what was last seen of each counts, which is a little less than the whole.
    """

    def __init__(self, run: RunDir, home: Path) -> None:
        self._run, self._home = run, Home(home)
        self._spent: dict[int, float] = {}

    def look(self) -> None:
        """Look at those that live."""
        pids: list[int] = []
        with suppress(OSError, DocumentError):
            state = SupervisorState.load(self._run)
            pids += [each.pid for each in (state.supervisor, state.trainer) if each is not None]
        if (daemon := daemon_file.running(self._home)) is not None:
            pids.append(daemon.process.pid)
        for pid in pids:
            self._spent[pid] = max(self._spent.get(pid, 0.0), _seconds(pid))

    @property
    def seconds(self) -> float:
        """So far."""
        return sum(self._spent.values())


def _seconds(pid: int) -> float:
    """User and system time of the process itself (fields 14 and 15 of /proc/PID/stat)."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0
