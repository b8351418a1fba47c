"""How often the daemon turns, looks and shows, by how many runs go on. Pure; times in seconds.

More than a hundred runs that go on are a crowd: to be woken for each write costs more than to take
it in, so nothing wakes, and the loop turns, and looks what each run is doing, so much less often a
run. A run's series are left as they are for longer, too: to write them takes longer than to read a
block.
"""

from dataclasses import dataclass

# How often the list of runs, and the state of each, is looked at again; of one that nobody trains.
LOOK_SECONDS = 1.0
REST_SECONDS = 5.0
# How often logs are looked at whose writes do not wake.
TICK_SECONDS = 0.25
CROWD = 100
_TURNED_AFTER = 0.001
_LOOKED_AFTER = 0.005
_SHOWN_AFTER = 0.005


@dataclass(slots=True)
class Pace:
    """Of one daemon.

    Attributes:
        going_on: How many runs somebody trains, or whose logs grow.
        is_crowded: They are too many to be woken by.
    """

    going_on: int = 0
    is_crowded: bool = False

    def count(self, going_on: int) -> None:
        """So many go on now."""
        self.going_on = going_on
        # Not to and fro: to watch a thousand directories again takes a while.
        self.is_crowded = going_on > (CROWD // 2 if self.is_crowded else CROWD)

    def turns(self, *, is_quiet: bool) -> float:
        """From one turn to the next; `is_quiet`: whatever comes to a log wakes."""
        if self.is_crowded:
            return min(max(TICK_SECONDS, self.going_on * _TURNED_AFTER), LOOK_SECONDS)
        # What comes beside the logs waits so long.
        return LOOK_SECONDS if is_quiet else TICK_SECONDS

    @property
    def looks(self) -> float:
        """From one look at what a run is doing to the next."""
        return min(max(LOOK_SECONDS, self.going_on * _LOOKED_AFTER), REST_SECONDS)

    @property
    def shows(self) -> float:
        """From one writing of a run's series to the next; below 0 where none has to wait."""
        return (self.going_on - CROWD) * _SHOWN_AFTER
