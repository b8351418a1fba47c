"""Rewards: a verdict -> named components, whose sum is the reward.

The scale is the guide's: a completion that parses, compiles and is clean is worth 23, and the
threshold 20 is meant to read "at least compiles cleanly". What a component is granted *for* is
what a profile decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainer.errors import TrainerError
from trainer.verdict import Verdict

_PARSES = 8.0
_COMPILES = 10.0
_NO_ERRORS = 5.0
_NO_WARNINGS = 1.0
_PER_ERROR = -2.0
_PER_WARNING = -0.5


@dataclass(frozen=True, slots=True)
class Reward:
    """What one scored completion earned, component by component."""

    components: Mapping[str, float]

    @property
    def total(self) -> float:
        """The reward."""
        return sum(self.components.values())


def tested(verdict: Verdict) -> Reward:
    """Credit for compiling and for being clean only to what passes all its tests.

    0 does not parse; 8 parses; 18 also passes, with warnings; 23 passes without one. Everything
    that compiles but fails a test stays at 8: ungated, RL raises the compile rate and learns
    nothing.
    """
    components = {"parses": _PARSES if verdict.parsed else 0.0}
    if verdict.passed:
        components["compiles"] = _COMPILES
    if verdict.clean:
        components["clean"] = _NO_ERRORS
    return Reward(components)


def guide(verdict: Verdict) -> Reward:
    """The guide's plain scale, blind to tests, and therefore hackable: for demonstration."""
    components = {"parses": _PARSES if verdict.parsed else 0.0}
    if verdict.compiled:
        warnings = verdict.warnings
        components |= {
            "compiles": _COMPILES,
            "no errors": _NO_ERRORS,
            "warnings": _PER_WARNING * warnings if warnings else _NO_WARNINGS,
        }
    else:
        components["errors"] = _PER_ERROR * max(1, verdict.errors)
    return Reward(components)


def own(verdict: Verdict) -> Reward:
    """The task's own number, as it is.

    Raises:
        TrainerError: The task gave none.
    """
    if verdict.score is None:
        raise TrainerError(
            "the task's verify gave a verdict without a score, which the reward profile own needs: "
            "set Verdict.score, or declare reward_profiles = ('tested',)"
        )
    return Reward({"own": verdict.score})


PROFILES: Mapping[str, Callable[[Verdict], Reward]] = {
    "tested": tested,
    "guide": guide,
    "own": own,
}
