"""What ends the loop's wait before its time: a signal, or a log that was written to."""

import select
import time
from pathlib import Path

from maxrl_ops.inotify import Inotify
from maxrl_ops.stop_signals import StopSignals

# Writes within this are taken in together: a commit costs the same for one run and for ten.
_GATHER_SECONDS = 0.005


class Wakes:
    """Logs by the names of their runs; where they cannot be watched, nothing wakes."""

    def __init__(self) -> None:
        self._inotify = _inotify()
        # By run, the inode and the number of the file that is watched; and back.
        self._watched: dict[str, tuple[int, int]] = {}
        self._runs: dict[int, str] = {}
        self._woken_at = 0.0

    def follow(self, run: str, log: Path, inode: int) -> None:
        """Watch what is `log` now, in the place of what was; `inode` says whether it is another."""
        if self._inotify is None or not inode or self.watches(run, inode):
            return
        try:
            number = self._inotify.watch(str(log))
        except OSError:
            # Gone again, or too many: it is looked at all the same, only not at once.
            return
        if self._runs.get(number, run) == run and self._watched.get(run, (0, number))[1] != number:
            self.forget(run)
        self._watched[run] = inode, number
        self._runs[number] = run

    def watches(self, run: str, inode: int) -> bool:
        """That file of that run is watched."""
        return self._watched.get(run, (0, 0))[0] == inode != 0

    def forget(self, run: str) -> None:
        """Watch that run's log no more."""
        _, number = self._watched.pop(run, (0, 0))
        if self._inotify is not None and self._runs.get(number) == run:
            del self._runs[number]
            self._inotify.forget(number)

    def wait(self, signals: StopSignals, seconds: float) -> set[str]:
        """Wait so long, or until something comes; the runs whose logs were written to."""
        if self._inotify is None:
            select.select([signals], [], [], seconds)
            return set()
        gathering = self._woken_at + _GATHER_SECONDS - time.monotonic()
        if 0 < gathering < seconds:
            select.select([signals], [], [], gathering)
            seconds -= gathering
        select.select([signals.fileno(), self._inotify.fileno()], [], [], seconds)
        numbers = self._inotify.take()
        if numbers is None:
            return set(self._watched)
        if numbers:
            self._woken_at = time.monotonic()
        return {self._runs[number] for number in numbers if number in self._runs}


def _inotify() -> Inotify | None:
    try:
        return Inotify()
    except OSError:
        return None
