"""The runs of a sweep: which have yet to begin, which go on, which are over; and their beginning.

Only run directories tell: whoever conducts a sweep may be killed at any instant.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from maxrl_ops.cli import start, supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.cli.start import Asked
from maxrl_ops.core.snapshot import RunSnapshot, damaged
from maxrl_ops.core.sweep import Planned, Sweep
from maxrl_ops.host import Host
from maxrl_ops.room import cores, free_memory
from maxrl_ops.run_reader import RunReader, life_of
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import DocumentError, RunDir
from maxrl_ops.wire.settings import Value

# What a supervisor needs to write its first state; it has no part in the sweep's pace.
_COMING_UP_SECONDS = 30.0
# One that dies without a word again and again is not worth a sweep's end.
_MOST_SUPERVISORS = 3
# What a trainer of a small model takes, torch among it.
_MEMORY_OF_ONE = 1 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep, and what `start` would be given for it."""

    planned: Planned
    asked: Asked

    @property
    def name(self) -> str:
        """The run's."""
        return self.planned.name


@dataclass(frozen=True, slots=True)
class Change:
    """A run that has begun, is over, or is given up."""

    run: RunSnapshot
    is_over: bool
    is_given_up: bool = False


class Runs:
    """All runs of a sweep, looked at again and again.

    Attributes:
        jobs: All of them, in the order in which they begin.
        waiting: Those that have yet to begin, or whose supervisor is gone.
        given_up: Names of those whose supervisors have died one after the other.
        seen: The newest look at each that is there, by name.
    """

    def __init__(self, sweep: Sweep, jobs: Sequence[Job], at_once: int) -> None:
        """Look at what is there already.

        Raises:
            CommandError: A run of one of their names is not of this sweep.
        """
        self.sweep, self.jobs, self.at_once = sweep, jobs, at_once
        self.waiting: deque[Job] = deque()
        self.given_up: list[str] = []
        self.seen: dict[str, RunSnapshot] = {}
        self._going: list[Job] = []
        self._readers: dict[str, RunReader] = {}
        self._begun: dict[str, float] = {}
        self._supervisors: Counter[str] = Counter()
        for job in jobs:
            _refuse_foreign(job)
            if _is_over(job):
                self._look(job)
            elif _is_going(job):
                self._going.append(job)
            else:
                self.waiting.append(job)

    @property
    def are_over(self) -> bool:
        """There is nothing left to do."""
        return not self.waiting and not self._going

    @property
    def over(self) -> int:
        """How many are."""
        return len(self.jobs) - len(self.waiting) - len(self._going) - len(self.given_up)

    def going(self) -> list[str]:
        """The names of those that go on."""
        return [job.name for job in self._going]

    def not_begun(self) -> list[str]:
        """The names of those that there is nothing of, also after a Ctrl-C at any instant."""
        return [job.name for job in self.jobs if not home().run(job.name).spec.exists()]

    def step(self) -> list[Change]:
        """Look at those that go on, and begin as many as there is room for; what is new."""
        changes: list[Change] = []
        for job in [*self._going]:
            self._look(job)
            if _is_over(job):
                self._going.remove(job)
                changes.append(Change(self._look(job), is_over=True))
            elif not self._is_looked_after(job):
                self._going.remove(job)
                if self._supervisors[job.name] < _MOST_SUPERVISORS:
                    self.waiting.appendleft(job)
                else:
                    self.given_up.append(job.name)
                    changes.append(Change(self._look(job), is_over=False, is_given_up=True))
        while self.waiting and len(self._going) < self.at_once:
            job = self.waiting.popleft()
            # First, for a Ctrl-C may come while it begins.
            self._going.append(job)
            self._begun[job.name] = time.monotonic()
            self._supervisors[job.name] += 1
            _begin(job)
            changes.append(Change(self._look(job), is_over=False))
        return changes

    def _is_looked_after(self, job: Job) -> bool:
        began = self._begun.get(job.name)
        is_coming_up = began is not None and time.monotonic() - began < _COMING_UP_SECONDS
        return is_coming_up or _is_going(job)

    def _look(self, job: Job) -> RunSnapshot:
        try:
            if job.name not in self._readers:
                self._readers[job.name] = RunReader(home().run(job.name))
            found = self._readers[job.name].look()[0]
        except DocumentError as error:
            found = damaged(job.name, str(error))
        self.seen[job.name] = found
        return found


def _is_over(job: Job) -> bool:
    """It has ended, or cannot be read, which no supervisor could mend."""
    run = home().run(job.name)
    try:
        return run.spec.exists() and life_of(run).has_ended
    except DocumentError:
        return True


def _is_going(job: Job) -> bool:
    run = home().run(job.name)
    return run.spec.exists() and life_of(run).is_active


def _refuse_foreign(job: Job) -> None:
    try:
        spec = RunSpec.load(home().run(job.name))
    except (FileNotFoundError, DocumentError):
        return
    found = Asked(
        spec.settings,
        spec.command,
        spec.job_name,
        spec.mode,
        spec.actuate,
        spec.restart_on_boot,
        spec.environment_file,
    )
    if found != job.asked:
        raise CommandError(
            f"there is a run {job.name} already, and it is not of this sweep: give another --name",
            ExitCode.IN_USE,
        )


def _begin(job: Job) -> None:
    """Make the run, or give one that was made a supervisor, which goes on where it stands."""
    run = home().run(job.name)
    if run.spec.exists():
        supervising.supervise(home(), run)
        return
    with supervising.as_owner(home()):
        _remove_half_made(run)
    start.begin(job.asked, job.name)


def _remove_half_made(run: RunDir) -> None:
    """Remove what a kill between a run's directory and its run.json left.

    rmdir leaves a directory in which anything else lies; then the name is in use.
    """
    for aside in run.path.glob(f".{run.spec.name}.*"):
        aside.unlink(missing_ok=True)
    for directory in (run.control, run.path):
        with suppress(OSError):
            directory.rmdir()


def at_once_here(settings: Mapping[str, Value]) -> int:
    """How many trainers this machine has room for: one on a GPU, else one a core.

    Memory counts too, where it is scarce.
    """
    if settings.get("device", "auto") != "cpu" and Host(home().path).look().gpus:
        return 1
    memory = free_memory()
    room = cores() if memory is None else min(cores(), memory // _MEMORY_OF_ONE)
    return max(1, room)
