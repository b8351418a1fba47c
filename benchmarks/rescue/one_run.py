"""One run, driven by the installed command from its start until its samples are spent."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real_runs import Home
from benchmarks.rescue import outside
from benchmarks.rescue.cpu import CpuMeter
from benchmarks.rescue.evaluation import held_out, newest_model
from benchmarks.rescue.facts import Told, facts_of
from benchmarks.rescue.kinds import KINDS, SUPERVISION, Kind
from benchmarks.rescue.naive import Naive
from benchmarks.rescue.small_task import TASK_ENV
from maxrl_ops.core.in_force import InForce
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import (
    ControlApplied,
    Event,
    IterationRecord,
    RunStarted,
    UpdateSkipped,
)
from maxrl_ops.wire.rundir import DocumentError, RunDir

_LONGEST_SECONDS = 240.0
_POLL_SECONDS = 0.1
_READING_SECONDS = 20.0
_ROOT = Path(__file__).parents[2]


INTERRUPTED = threading.Event()
"""Set by whoever ends the benchmark: living runs are stopped, and nothing is kept of them."""


@dataclass(frozen=True)
class Order:
    """A run that is to be made: one of KINDS, a seed, one of ARMS."""

    kind: str
    seed: int
    arm: str

    @property
    def key(self) -> str:
        """By which its row is known."""
        return f"{self.kind}/{self.seed}/{self.arm}"


class Watch:
    """A living run: its log as far as it has been read, and what it has cost."""

    def __init__(self, at: Home, naive: Naive | None) -> None:
        self.at, self.home, self.env = at, at.path, at.env
        self.run = RunDir(at.run)
        self.events: list[Event] = []
        self.iteration = self.samples = 0
        self.cpu = CpuMeter(self.run, at.path)
        self._parser, self._offset, self._naive = Parser(), 0, naive
        self._in_force = InForce()
        self._prompts = 0

    def read(self) -> None:
        """What the log tells anew; the naive controller sees its last iteration."""
        try:
            with self.run.log.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        self._take(data)
        self.cpu.look()

    def drain(self, log: Path) -> None:
        """The rest of a log that has been copied away; the next one begins."""
        self._take(log.read_bytes()[self._offset :])
        self._offset = 0

    def _take(self, data: bytes) -> None:
        newest: IterationRecord | None = None
        for event in self._parser.feed(data):
            self.events.append(event)
            match event:
                case RunStarted():
                    self._in_force = InForce.at_start(event)
                    self._prompts = event.prompts_per_iteration or 0
                case ControlApplied():
                    self._in_force = self._in_force.after(event.changes)
                case UpdateSkipped() if self._naive is not None:
                    self._naive.skipped(event)
                case IterationRecord():
                    newest = event
                    self.iteration = event.iteration
                    self.samples += (event.n_total or 0) + (event.unscored or 0)
        if newest is not None and self._naive is not None:
            self._listen(self._naive, newest)

    def _listen(self, naive: Naive, newest: IterationRecord) -> None:
        threshold, samples = self._in_force.correctness_threshold, self._in_force.n_samples
        if threshold is None or samples is None:
            return
        words = naive.look(newest, threshold, samples)
        if words is not None:
            self.at.try_(*words, "--run", "run", "--wait", "0")

    def state(self) -> SupervisorState | None:
        """The supervisor's word; None where there is none, as on a full disk."""
        try:
            return SupervisorState.load(self.run)
        except (OSError, DocumentError):
            return None


def make(order: Order, keep: Path | None) -> dict[str, Any]:
    """The run, and what became of it; a copy of its directory goes to `keep`."""
    kind = KINDS[order.kind]
    began = time.monotonic()
    try:
        with _home(kind) as at:
            told = _run(at, order, kind)
            if keep is not None:
                ignored = shutil.ignore_patterns("checkpoints", "*.lock")
                shutil.copytree(at.run, keep / order.key.replace("/", "-"), ignore=ignored)
    except outside.NoSmallDiskError as error:
        told = {"skipped": str(error)}
    row = {"kind": order.kind, "seed": order.seed, "arm": order.arm, **told}
    return {**row, "seconds": round(time.monotonic() - began, 1)}


@contextmanager
def _home(kind: Kind) -> Iterator[Home]:
    """A home of its own, and nothing left of it."""
    with tempfile.TemporaryDirectory(prefix="rescue-") as directory:
        place = Path(directory) / "disk"
        env = {**SUPERVISION, TASK_ENV: kind.task, "PYTHONPATH": str(_ROOT)}
        if not kind.on_small_disk:
            yield Home(place / "home", env)
            return
        with outside.small_disk(place):
            yield Home(place / "home", env)


def _run(at: Home, order: Order, kind: Kind) -> dict[str, Any]:
    mode = "act" if order.arm == "act" else "observe"
    task = kind.small.make()
    naive = Naive(task.threshold_bounds) if order.arm == "naive" else None
    strike = kind.strike()
    watch = Watch(at, naive)
    begin = ("--name", "run", "--mode", mode, "--seed", str(order.seed), "--device", "cpu")
    try:
        at.ask("start", *begin, "--task", kind.spec, *kind.small.flags, *kind.flags)
        ending = _follow(watch, strike, kind.small.budget)
        strike.end()
        told = _ask(watch)
    finally:
        strike.end()
        at.try_("stop", "--all")
        at.try_("daemon", "--stop")
        strike.reap()
    found = newest_model(watch.run)
    worth = held_out(kind.small, None if found is None else found.model)
    return {
        "ending": ending,
        "checkpoint": 0 if found is None else found.iteration,
        "pass_at_1": round(worth.pass_at_k[1], 4),
        "se": round(worth.se, 4),
        "samples": watch.samples,
        "cpu_seconds": round(watch.cpu.seconds, 1),
        **facts_of(watch.events, told, kind),
    }


def _follow(watch: Watch, strike: outside.Nothing, budget: int) -> str:
    """Until the run ends, or its samples or its time are spent: which of them."""
    deadline, ending = time.monotonic() + _LONGEST_SECONDS, ""
    while not watch.at.has_ended():
        if INTERRUPTED.is_set():
            raise InterruptedError
        watch.read()
        strike.step(watch)
        if not ending and watch.samples > budget:
            ending = "samples spent"
        elif not ending and time.monotonic() > deadline:
            ending = "time spent"
        if ending:
            watch.at.try_("stop", "run")
        time.sleep(_POLL_SECONDS)
    watch.read()
    state = watch.state()
    return ending or ("unknown" if state is None else state.state)


def _ask(watch: Watch) -> Told:
    """What the commands tell, once the daemon has read all of the log."""
    deadline = time.monotonic() + _READING_SECONDS
    while True:
        [status] = json.loads(watch.at.ask("status", "run", "--json"))["runs"]
        if status["iteration"] == watch.iteration or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return Told(
        status,
        json.loads(watch.at.ask("decisions", "run", "--json")),
        json.loads(watch.at.ask("decisions", "run", "--why-not", "--json")),
    )
