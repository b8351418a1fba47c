"""What ends the loop's wait before its time: a signal, or a log that was written to.

It only wakes: what a log holds is found out by looking at it, as at every tick. Where nothing can
be watched (a network file system, no inotify left), or by MAXRL_OPS_NO_WATCH, nothing wakes.

One watch for all runs below runs/, whatever their number: each of watchdog's takes a thread.
"""

import os
import select
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from maxrl_ops.own_log import say
from maxrl_ops.stop_signals import StopSignals

# Of attached logs; those in further directories are looked at every tick, like all others.
_MOST_DIRECTORIES = 16


class Wakes(FileSystemEventHandler):
    """Runs whose logs were written to since the last wait."""

    def __init__(self, runs_dir: Path, *, watching: bool = True) -> None:
        """Watch the runs in `runs_dir`; without `watching`, only wait."""
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken: set[str] = set()
        self._attached: dict[str, str] = {}
        self._directories: set[Path] = set()
        self._root = os.path.realpath(runs_dir) + os.sep
        self._woken_at = 0.0
        self._observer: BaseObserver | None = None
        self._is_resting = True
        if watching:
            try:
                # Which takes one of the user's few inotify instances.
                self._observer = Observer()
                self._observer.daemon = True
                self._observer.start()
            except OSError as error:
                self._give_up(error)
            self.watch(wanted=True)

    @property
    def is_watching(self) -> bool:
        """A write to a run's log wakes."""
        return self._observer is not None and not self._is_resting

    def watch(self, *, wanted: bool) -> None:
        """Watch, or rest: where very many write, to be woken costs more than to look."""
        if self._observer is None or wanted is not self._is_resting:
            return
        self._is_resting = not wanted
        try:
            if wanted:
                self._watch(Path(self._root), recursive=True)
            else:
                self._observer.unschedule_all()
                self._directories.clear()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        say(f"daemon: logs cannot be watched, and are looked at four times a second: {error}")
        self._end()

    def _watch(self, directory: Path, *, recursive: bool) -> None:
        assert self._observer is not None  # noqa: S101 - the callers have looked
        # Of writes alone: a heartbeat is made anew beside its place, and wakes nobody.
        self._observer.schedule(
            self, str(directory), recursive=recursive, event_filter=[FileModifiedEvent]
        )

    def follow(self, attached: Mapping[str, Path]) -> None:
        """Watch those logs of attached runs too, by the runs' names."""
        if not self.is_watching:
            return
        self._attached = {os.path.realpath(log): run for run, log in attached.items()}
        for name in self._attached:
            directory = Path(name).parent
            if directory in self._directories or len(self._directories) >= _MOST_DIRECTORIES:
                continue
            with suppress(OSError):
                self._watch(directory, recursive=False)
                self._directories.add(directory)

    def on_modified(self, event: FileSystemEvent) -> None:
        """A file was written to: watchdog's thread calls."""
        path = os.fsdecode(event.src_path)
        run = self._attached.get(path)
        if run is None and path.startswith(self._root):
            name, _, rest = path[len(self._root) :].partition(os.sep)
            run = name if rest == "trainer.log" else None
        if run is not None:
            self._woken.add(run)
            # Full: the loop is to wake anyway.
            with suppress(BlockingIOError):
                os.write(self._writer, b"\0")

    def wait(self, signals: StopSignals, seconds: float, gathered: float = 0.0) -> set[str]:
        """Wait so long, or until something comes; the runs whose logs were written to.

        Writes within `gathered` seconds of the last that were returned are waited for, to be
        returned together.
        """
        gathering = min(self._woken_at + gathered - time.monotonic(), seconds)
        if gathering > 0:
            select.select([signals], [], [], gathering)
            seconds -= gathering
        select.select([signals.fileno(), self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(self._reader, 65536)
        woken: set[str] = set()
        while self._woken:
            woken.add(self._woken.pop())
        if woken:
            self._woken_at = time.monotonic()
        return woken

    def close(self) -> None:
        """Watch no more."""
        self._end()
        os.close(self._reader)
        os.close(self._writer)

    def _end(self) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer = None
