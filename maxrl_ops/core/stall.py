"""Whether a trainer has come to a standstill. Pure: the caller tells the time.

Time in which nobody looked (a stopped supervisor, a busy host) counts for nothing: what was not
watched cannot have been seen standing still.
"""

from dataclasses import dataclass

_LONGEST_GAP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a standstill counts as a stall.

    Attributes:
        least: Seconds that are never a stall.
        factor: Times the longest iteration, or the longest single phase, of this attempt: an
            evaluation comes once in many iterations, and may take as long as all of them.
        first: Seconds allowed before the first iteration is done: loading, compiling.
    """

    least: float = 60.0
    factor: float = 5.0
    first: float = 1800.0


class StallWatch:
    """One attempt's progress, as far as it was seen."""

    def __init__(
        self,
        limits: Limits,
        now: float,
        longest: float | None = None,
        first_iteration: int | None = None,
    ) -> None:
        """Watch from `now` on.

        Args:
            limits: What is allowed.
            now: Monotonic seconds.
            longest: What an earlier watch of this attempt has seen.
            first_iteration: That of an attempt which begins now; None where it began before.
        """
        self._limits = limits
        self._since = self._looked_at = self._moved_at = now
        self._first_iteration = first_iteration
        self._mark: object = None
        self._iteration: int | None = None
        self._began_at: float | None = None
        self._longest = longest
        # A stretch without progress that ended by itself was none, however long.
        self._longest_phase = 0.0
        self._counts = False

    @property
    def longest(self) -> float | None:
        """Seconds of the longest iteration or phase; None before a whole iteration was seen."""
        return None if self._longest is None else max(self._longest, self._longest_phase)

    @property
    def limit(self) -> float:
        """Seconds without progress that are allowed now."""
        longest = self.longest
        if longest is None:
            return self._limits.first
        return max(self._limits.least, self._limits.factor * longest)

    def look(
        self,
        now: float,
        mark: object,
        iteration: int | None,
        *,
        is_paused: bool,
        is_loading: bool = False,
    ) -> float | None:
        """Seconds that nothing moved, once that is a stall; None while it is none.

        Args:
            now: Monotonic seconds.
            mark: Whatever differs after any progress: a phase, a block.
            iteration: The one that the trainer is at; None where nobody tells.
            is_paused: The trainer waits because somebody wants it to.
            is_loading: It loads a model, which may take longer than anything after it.
        """
        unwatched = now - self._looked_at
        if unwatched > _LONGEST_GAP_SECONDS:
            self._moved_at += unwatched
            self._began_at = None if self._began_at is None else self._began_at + unwatched
        self._looked_at = now
        if is_paused:
            # How long a person thinks is no iteration's length.
            self._began_at = None
        if is_paused or mark != self._mark:
            if self._counts:
                self._longest_phase = max(self._longest_phase, now - self._moved_at)
            self._mark, self._moved_at = mark, now
            self._counts = not (is_paused or is_loading)
        if iteration and iteration != self._iteration:
            first = self._first_iteration
            if self._iteration is None and first is not None and iteration > first:
                # Whole iterations before the first look: none took longer than all of it.
                self._longest = now - self._since
            if self._iteration is not None and self._began_at is not None:
                self._longest = max(self._longest or 0.0, now - self._began_at)
            self._iteration, self._began_at = iteration, now
        still = now - self._moved_at
        return still if still >= self.limit else None
