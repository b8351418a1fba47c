"""What ends the loop's wait before its time: a signal, or a log that was written to.

It only wakes: what a log holds is found out by looking at it, as at every tick. Where nothing can
be watched (a network file system, no inotify left), or by MAXRL_OPS_NO_WATCH, nothing wakes.

One watch for each run that is followed, none for those that are over.
"""

import os
import select
import time
from collections.abc import Mapping
from pathlib import Path

from maxrl_ops.inotify import Inotify
from maxrl_ops.own_log import say
from maxrl_ops.stop_signals import StopSignals


class Wakes:
    """Runs whose logs were written to since the last wait."""

    def __init__(self, *, watching: bool = True) -> None:
        """Watch what is followed; without `watching`, only wait."""
        self._inotify: Inotify | None = None
        self._is_resting = self._is_short = False
        # Where each run's log really is, by the name that it was followed by, and whose it is.
        self._places: dict[str, tuple[Path, Path]] = {}
        self._runs: dict[Path, str] = {}
        self._directories: set[Path] = set()
        self._woken_at = 0.0
        if watching:
            try:
                self._inotify = Inotify()
            except OSError as error:
                say(f"daemon: logs cannot be watched, and are looked at often: {error}")

    @property
    def is_watching(self) -> bool:
        """A write to a run's log wakes."""
        return self._inotify is not None and not self._is_resting

    def watch(self, *, wanted: bool) -> None:
        """Watch, or rest: where very many write, to be woken costs more than to look."""
        self._is_resting = not wanted
        if self._is_resting:
            self.follow({})

    def follow(self, logs: Mapping[str, Path]) -> None:
        """Watch those logs and no others, by the runs' names."""
        if self._inotify is None:
            return
        if {run: log for run, (log, _) in self._places.items()} != logs:
            self._find(logs)
        watched = self._inotify.directories
        for directory in watched - self._directories:
            self._inotify.remove(directory)
        for directory in self._directories - watched:
            self._add(self._inotify, directory)

    def _find(self, logs: Mapping[str, Path]) -> None:
        known = self._places
        self._places = {
            run: known[run]
            if run in known and known[run][0] == log
            else (log, Path(os.path.realpath(log)))
            for run, log in logs.items()
        }
        self._runs = {file: run for run, (_, file) in self._places.items()}
        self._directories = {file.parent for file in self._runs}

    def _add(self, inotify: Inotify, directory: Path) -> None:
        try:
            inotify.add(directory)
        except FileNotFoundError:
            # It may come, or the run is just being removed.
            pass
        except OSError as error:
            if not self._is_short:
                say(f"daemon: some logs cannot be watched, and are looked at often: {error}")
            self._is_short = True

    def wait(self, signals: StopSignals, seconds: float, gathered: float = 0.0) -> set[str]:
        """Wait so long, or until something comes; the runs whose logs were written to.

        Writes within `gathered` seconds of the last that were returned are waited for, to be
        returned together.
        """
        end = time.monotonic() + seconds
        gathering = min(self._woken_at + gathered - time.monotonic(), seconds)
        if gathering > 0:
            select.select([signals], [], [], gathering)
        awaited: list[StopSignals | Inotify] = [signals]
        if self._inotify is not None:
            awaited.append(self._inotify)
        while True:
            ready, _, _ = select.select(awaited, [], [], max(0.0, end - time.monotonic()))
            woken = self._woken()
            if woken:
                self._woken_at = time.monotonic()
            # Other files lie beside a log, and are written to, too.
            if woken or not ready or signals in ready:
                return woken

    def _woken(self) -> set[str]:
        if self._inotify is None:
            return set()
        written = self._inotify.read()
        if written is None:
            return set(self._places)
        return {self._runs[file] for file in written if file in self._runs}

    def close(self) -> None:
        """Watch no more."""
        if self._inotify is not None:
            self._inotify.close()
