"""The peer: the tuning guide's sentences taken at their word, as one would write them first.

One iteration is all it looks at, correctness is what stands in the log at the live threshold, and
after a change it waits for ten iterations. It sees each block at once, and writes what it wants by
`maxrl-ops set` and `maxrl-ops switch`.
"""

from collections import deque

from maxrl_ops.wire.record import IterationRecord, UpdateSkipped

_WAIT = 10
_STEP = 5.0
_MOST_SAMPLES = 32


class Naive:
    """The controller of one run; `look` gives the words of the command that it wants run now."""

    def __init__(self, bounds: tuple[float, float]) -> None:
        self._low, self._high = bounds
        self._acted, self._skipped = -_WAIT, 0
        self._norms: deque[float] = deque(maxlen=10)

    def skipped(self, _: UpdateSkipped) -> None:
        """An update was not finite."""
        self._skipped += 1

    def look(self, seen: IterationRecord, threshold: float, n_samples: int) -> list[str] | None:
        """What to do on this iteration, with what is in force."""
        usual = sum(self._norms) / len(self._norms) if self._norms else 0.0
        norm = seen.grad_norm
        wild = len(self._norms) == 10 and norm is not None and norm > 2 * usual
        self._norms.extend([] if norm is None else [norm])
        share = seen.correctness
        if seen.iteration < self._acted + _WAIT or share is None:
            return None
        words = self._wanted(seen, share, threshold, n_samples, wild=wild)
        if words is not None:
            self._acted, self._skipped = seen.iteration, 0
        return words

    def _wanted(
        self, seen: IterationRecord, share: float, threshold: float, n_samples: int, *, wild: bool
    ) -> list[str] | None:
        if self._skipped >= 3 and seen.learning_rate:
            return ["set", f"learning_rate={seen.learning_rate * 0.3:g}"]
        if wild and n_samples < _MOST_SAMPLES:
            return ["set", f"n_samples={2 * n_samples}"]
        if share < 0.5:
            return self._easier(seen.objective or "", threshold)
        return self._harder(seen.objective or "", threshold) if share > 0.9 else None

    def _easier(self, objective: str, threshold: float) -> list[str] | None:
        if threshold > self._low:
            return ["set", f"correctness_threshold={max(threshold - _STEP, self._low):g}"]
        return ["switch", "grpo"] if objective.startswith("maxrl") else None

    def _harder(self, objective: str, threshold: float) -> list[str] | None:
        if objective == "grpo":
            return ["switch", "maxrl"]
        if threshold < self._high:
            return ["set", f"correctness_threshold={min(threshold + _STEP, self._high):g}"]
        return None
