"""A daemon's loop on a thread, and what it has made of the logs that a test writes."""

import signal
import socket
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

from scripted import record
from waiting import wait_until

from maxrl_ops.daemon import Daemon
from maxrl_ops.exporter import Exporter
from maxrl_ops.policy_file import PolicyFile
from maxrl_ops.settings import Home
from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.store import Store, Tally
from maxrl_ops.wakes import Wakes
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import RunDir


def block(iteration: int) -> bytes:
    """What a trainer appends at the end of an iteration."""
    return render(record(iteration)).encode()


def append(log: Path, *data: bytes) -> None:
    with log.open("ab") as file:
        file.write(b"".join(data))


def told(store: Store, run: RunDir) -> tuple[list[int], Tally]:
    """Iterations in the order in which they were found, each as often as it was; the tail's."""
    spec = RunSpec.load(run)
    number = store.run(spec.name, spec.created, spec.job_name)
    events = store.events(number)
    found = [event.iteration for event in events if isinstance(event, IterationRecord)]
    return found, store.place(number)[1]


class Asked(StopSignals):
    """Without handlers, which only a process's first thread may have."""

    def __init__(self) -> None:
        self._suspending, self._stopping = {signal.SIGUSR2}, {signal.SIGTERM}
        self.suspend_asked = self.reload_asked = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)

    def stop(self) -> None:
        self._writer.send(bytes([signal.SIGTERM]))

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Follower:
    """A daemon of one home; started, stopped, started again."""

    def __init__(self, home: Path, *, watching: bool, wakes: type[Wakes] = Wakes) -> None:
        self.home, self._is_watching, self._wakes = Home(home), watching, wakes
        # Our own way to what the daemon stores.
        self._store = Store(self.home.history)
        self._asked: Asked | None = None

    def start(self) -> None:
        self._asked = Asked()
        self._thread = threading.Thread(target=self._run, args=(self._asked,))
        self._thread.start()

    def _run(self, asked: Asked) -> None:
        with (
            closing(Store(self.home.history)) as store,
            closing(self._wakes(self.home.runs_dir, watching=self._is_watching)) as wakes,
        ):
            Daemon(self.home, store, Exporter(), PolicyFile()).run(asked, wakes)

    def stop(self) -> None:
        if self._asked is not None:
            self._asked.stop()
            self._thread.join(timeout=20)
            assert not self._thread.is_alive()
            self._asked.close()
            self._asked = None

    def close(self) -> None:
        self.stop()
        self._store.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def told(self, run: RunDir) -> tuple[list[int], Tally]:
        return told(self._store, run)

    def find(self, run: RunDir, *iterations: int) -> Tally:
        """Wait for those iterations: each was found once, and no other."""

        def are_found() -> bool:
            return not Counter(iterations) - Counter(self.told(run)[0])

        try:
            wait_until(are_found, 60, f"iterations {iterations}")
        finally:
            found, tally = self.told(run)
            assert Counter(found) == Counter(iterations), tally
        return tally
