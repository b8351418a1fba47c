"""Every run of a home as the daemon knows it: those it follows, those that rest, those just found.

A run rests once it is over, taken in whole, and shown no more: thousands of them cost next to
nothing.
"""

import math
import time
from collections import Counter
from collections.abc import Callable

from maxrl_ops.hearing import Stamp, stamp_of
from maxrl_ops.own_log import say
from maxrl_ops.pace import LOOK_SECONDS, REST_SECONDS
from maxrl_ops.seen_run import SeenRun, in_one_line
from maxrl_ops.settings import Home
from maxrl_ops.wire.rundir import RunDir

# Of runs that rest: each look costs three `stat`. Of more than that takes, each has its turn later.
_LOOKS_A_SECOND = 500
# Of runs that were found, as after a start: to read their logs takes milliseconds each.
_TAKEN_UP_AT_ONCE = 50


class Roll:
    """Those runs, by name.

    Attributes:
        runs: All that were taken up.
        awake: Those of them that do not rest.
        problem: Why the directory cannot be listed, as said last.
    """

    def __init__(self, home: Home) -> None:
        self.runs: dict[str, SeenRun] = {}
        self.awake: dict[str, SeenRun] = {}
        self.problem: str | None = None
        self._home = home
        self._listed_as: Stamp | None = None
        # The last one is taken up first.
        self._found: list[RunDir] = []
        # The one that was looked at longest ago comes first.
        self._resting: dict[str, SeenRun] = {}
        # Theirs; counted when somebody asks after a change.
        self._resting_states: Counter[str] | None = None
        self._looked_at = -math.inf

    @property
    def has_found(self) -> bool:
        """There are runs that were found and are still to be taken up."""
        return bool(self._found)

    @property
    def is_whole(self) -> bool:
        """Every run is known, and taken up."""
        return self.problem is None and not self._found

    @property
    def states(self) -> Counter[str]:
        """How many runs are in which state."""
        if self._resting_states is None:
            self._resting_states = Counter(str(seen.state) for seen in self._resting.values())
        return Counter(str(seen.state) for seen in self.awake.values()) + self._resting_states

    def list_runs(self) -> bool:
        """See which runs there are; whether one is not there any more."""
        stamp = stamp_of(self._home.runs_dir)
        # A directory that has been at rest for a while: whatever comes or goes later shows in it.
        if stamp is not None and stamp == self._listed_as:
            return False
        is_at_rest = stamp is not None and time.time() - stamp.mtime_ns / 1e9 > LOOK_SECONDS
        self._listed_as = stamp if is_at_rest else None
        try:
            there = {run.name: run for run in self._home.runs()}
        except OSError as error:
            problem = in_one_line(error)
            if problem != self.problem:
                say(f"daemon: {problem}: looking after the runs known so far")
            self.problem = problem
            return False
        self.problem = None
        gone = self.runs.keys() - there.keys()
        for name in gone:
            if name in self._resting:
                self._wake(name)
            del self.runs[name], self.awake[name]
        found = [there[name] for name in there.keys() - self.runs.keys()]
        self._found = sorted(found, key=_written, reverse=True)
        return bool(gone)

    def take_up(self) -> None:
        """Some of those that were found: others have their turn meanwhile.

        Those that go on first: to take in thousands of old ones for the first time takes minutes.
        """
        for _ in range(min(len(self._found), _TAKEN_UP_AT_ONCE)):
            run = self._found.pop()
            self.runs[run.name] = self.awake[run.name] = SeenRun(run)

    def due(self, now: float, is_due: Callable[[SeenRun], bool]) -> list[SeenRun]:
        """Those awake that are due, and some that rest (`now` in monotonic seconds)."""
        return [*filter(is_due, self.awake.values()), *self._resting_due(now)]

    def _resting_due(self, now: float) -> list[SeenRun]:
        period = max(REST_SECONDS, len(self._resting) / _LOOKS_A_SECOND)
        share = min(1.0, (now - self._looked_at) / period)
        count = math.floor(share * len(self._resting))
        if not count:
            return []
        self._looked_at = now
        names = [name for name, _ in zip(self._resting, range(count), strict=False)]
        due = {name: self._resting.pop(name) for name in names}
        self._resting |= due
        return list(due.values())

    def put_in_place(self, seen: SeenRun) -> None:
        """Among those that rest, or among the others, after it was looked at."""
        name = seen.run.name
        if seen.done_as is None and name in self._resting:
            self._wake(name)
        elif seen.done_as is not None and name in self.awake:
            # Of what was only needed to show it nothing is kept.
            seen.life = None
            self._resting[name] = self.awake.pop(name)
            self._resting_states = None

    def _wake(self, name: str) -> None:
        self.awake[name] = self._resting.pop(name)
        self._resting_states = None


def _written(run: RunDir) -> tuple[int, str]:
    """What sorts runs by when somebody last said that they live, the newest first."""
    stamp = stamp_of(run.heartbeat) or stamp_of(run.state) or stamp_of(run.spec)
    return (0 if stamp is None else -stamp.mtime_ns, run.name)
