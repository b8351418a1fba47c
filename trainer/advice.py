"""Settings that work, but hardly as anybody means them to; said once, as the run goes. Pure."""

from dataclasses import dataclass, field

from maxrl_ops.wire.control import TrainingState
from maxrl_ops.wire.record import IterationRecord

# Below, less than half of the correct samples have a say.
_LEAST_SHARE = 0.5
_WEIGHED = frozenset({"maxrl", "maxrl_zscore"})
_LEAST_SAMPLES_OF_MEAN = 4


@dataclass(slots=True)
class Advice:
    """What this attempt has said so far, by subject."""

    _said: set[str] = field(default_factory=set)

    def new(self, record: IterationRecord, state: TrainingState) -> list[str]:
        """What is to be said after an iteration and was not yet: a line each."""
        found = {"samples": _on_samples(state), "weights": _on_weights(record, state)}
        lines = [line for key, line in found.items() if line is not None and key not in self._said]
        self._said |= {key for key, line in found.items() if line is not None}
        return lines


def _on_samples(state: TrainingState) -> str | None:
    """The order of `maxrl_mean` is one below its samples. Source: arXiv 2602.02710, Algorithm 1."""
    if state.objective != "maxrl_mean" or state.n_samples >= _LEAST_SAMPLES_OF_MEAN:
        return None
    return (
        f"objective maxrl_mean with n_samples {state.n_samples}: its order is one less, and that "
        f"of 2 samples is plain REINFORCE; {_LEAST_SAMPLES_OF_MEAN} or more are advised"
    )


def _on_weights(record: IterationRecord, state: TrainingState) -> str | None:
    effective, correct = record.effective_samples, record.effective_of
    if state.objective not in _WEIGHED or effective is None or not correct:
        return None
    if effective / correct >= _LEAST_SHARE:
        return None
    return (
        f"iteration {record.iteration}: of {correct:.1f} correct samples in a group only "
        f"{effective:.1f} count: weight_temperature {state.weight_temperature:g} is small beside "
        f"the rewards' differences; a higher one lets more of them count"
    )
