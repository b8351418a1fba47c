"""Wall time by phase, told to the supervisor as each phase begins."""

import time
from dataclasses import dataclass, field

from maxrl_ops.wire.documents import Heartbeat, utc_now
from maxrl_ops.wire.rundir import RunDir


@dataclass(slots=True)
class Stopwatch:
    """Wall time by phase, in seconds.

    Attributes:
        run: Where each phase is told as it begins; None in a process that only helps.
    """

    run: RunDir | None
    iteration: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    _phase: str = "load"
    _since: float = field(default_factory=time.monotonic)

    def enter(self, phase: str) -> None:
        """End the current phase and begin `phase`."""
        self.book()
        self._phase = phase
        if self.run is not None:
            Heartbeat(phase, self.iteration, utc_now()).save(self.run)

    def book(self) -> None:
        """Count the time since the phase began, or was last booked, as the phase's."""
        now = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._since = now
