"""The numbers that the rules go by: the tuning guide's, made sound by simulation."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What the autopilot may do with a decision."""

    ACT = "act"
    SUGGEST = "suggest"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds, dwell times and budgets; every length of time is in iterations.

    Attributes:
        windows: Iterations a window may have; the shortest with enough samples is taken.
        least_effective: Independent samples that a verdict needs.
        z: Half width of the intervals, in standard errors.
        dwell: A rule fires when its condition has held for so long.
        low_below: LOW: the upper bound of correctness lies below this.
        low_clears_above: LOW is over when the lower bound lies above this.
        adapt_above: ADAPT: an adaptive run hands over when the lower bound lies above this.
        rising_errors: A slope positive by more than so many standard errors is learning.
        least_gain: Share of the rewards that a lower threshold must admit more.
        least_empty: Share of the window's iterations without a sample above the live threshold.
        settle: No change for so long after one is in force, and then a whole window.
        cooldown: No change for so long after the autopilot's last one.
        most_changes: Of the autopilot in one run.
        least_left: No change with fewer iterations left: it could not show what it is worth.
        unconfirmed_after: A published control that is not echoed by then is unconfirmed.
        stale_after: A decision on an iteration that lies so far back is not published any more.
    """

    windows: tuple[int, ...] = (20, 30, 40, 60)
    least_effective: float = 100.0
    z: float = 2.24
    dwell: int = 5
    low_below: float = 0.50
    low_clears_above: float = 0.55
    adapt_above: float = 0.50
    rising_errors: float = 2.0
    least_gain: float = 0.10
    least_empty: float = 0.10
    settle: int = 20
    cooldown: int = 50
    most_changes: int = 3
    least_left: int = 80
    unconfirmed_after: int = 3
    stale_after: int = 20
