"""What a run's processes cost, whoever is parent of whom."""

import os
from contextlib import suppress
from pathlib import Path

from maxrl_ops import daemon_file, processes
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import ProcessIdentity, SupervisorState
from maxrl_ops.wire.rundir import DocumentError, RunDir

_TICKS = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU seconds of the trainers, the supervisor and the daemons of a run.

    They end unseen: what was last seen of each counts, which is a little less than the whole.
    """

    def __init__(self, run: RunDir, home: Path) -> None:
        self._run, self._home = run, Home(home)
        self._spent: dict[ProcessIdentity, float] = {}

    def look(self) -> None:
        """Look at those that live."""
        found: list[ProcessIdentity] = []
        with suppress(OSError, DocumentError):
            state = SupervisorState.load(self._run)
            found += [each for each in (state.supervisor, state.trainer) if each is not None]
        if (daemon := daemon_file.running(self._home)) is not None:
            found.append(daemon.process)
        for process in found:
            seconds = _seconds(process.pid)
            # Looked at second: what was read is of this one, not of whoever has its pid now.
            if processes.is_alive(process):
                self._spent[process] = seconds

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
