"""Rewards: a verdict -> named components, whose sum is the reward.

The scale is the guide's: a completion that parses, compiles and is clean is worth 23, and the
threshold 20 is meant to read "at least compiles cleanly". What a component is granted *for* is
what a profile decides.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from trainer.errors import ExitCode, TrainerError
from trainer.objectives import is_correct as is_above
from trainer.verdict import Verdict

# What "compiles cleanly" means on this scale: 18 is not enough, 23 is.
CLEAN_THRESHOLD = 20.0

_PARSES = 8.0
_COMPILES = 10.0
_NO_ERRORS = 5.0
_NO_WARNINGS = 1.0
_PER_ERROR = -2.0
_PER_WARNING = -0.5


@dataclass(frozen=True, slots=True)
class Bonus:
    """What a measure of trainer.verify.quality is worth.

    Attributes:
        weight: For each one.
        up_to: How many count; None for all.
    """

    weight: float
    up_to: float | None = None

    def of(self, amount: float) -> float:
        """The bonus, or the penalty, for `amount`."""
        return self.weight * (amount if self.up_to is None else min(amount, self.up_to))


# The bonuses of the system that the guide's scale comes from, its factors (structure 2, care 3,
# idioms 2) multiplied in. With 24 for compiling cleanly they make its maximum, 54.3.
ORIGIN: Mapping[str, Bonus] = {
    "functions": Bonus(1.0, up_to=4),
    "structs": Bonus(0.6, up_to=10 / 3),
    "enums": Bonus(0.6, up_to=10 / 3),
    "traits": Bonus(1.0, up_to=2),
    "result": Bonus(3.0),
    "option": Bonus(1.5),
    "docs": Bonus(3.0),
    "doc_coverage": Bonus(3.0),
    "question_mark": Bonus(1.5),
    "unsafe": Bonus(-3.0, up_to=1),
    "panics": Bonus(-6.0),
    "iterators": Bonus(2.0),
    "match": Bonus(1.6),
    "destructuring": Bonus(1.0),
    "closures": Bonus(1.4),
    "chaining": Bonus(1.2),
    "turbofish": Bonus(0.6),
    "cyclomatic_excess": Bonus(-0.1),
    "nesting_excess": Bonus(-0.5),
    "short": Bonus(-1.0),
    "medium": Bonus(0.5),
    "long": Bonus(-2.0),
}
# A weights file is small; a weight above this would drown everything else.
_MOST_BYTES = 64 * 1024
_MOST_WEIGHT = 100.0


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


Profile = Callable[[Verdict], Reward]

PROFILES: Mapping[str, Profile] = {
    "tested": tested,
    "guide": guide,
    "own": own,
}


def bonuses(quality: Mapping[str, float], weights: Mapping[str, Bonus]) -> dict[str, float]:
    """The bonus of each measure that `weights` names and that was found."""
    found = {name: bonus.of(quality.get(name, 0.0)) for name, bonus in weights.items()}
    return {name: value for name, value in found.items() if value}


def weighted(weights: Mapping[str, Bonus], verdict: Verdict) -> Reward:
    """The gated reward, and on top of 23, so only for what passes cleanly, the bonuses.

    Penalties use bonuses up and no more: what passes cleanly never falls below 23, so a threshold
    of 20 goes on meaning that it does.
    """
    reward = tested(verdict)
    if not verdict.clean or verdict.quality is None:
        return reward
    found = bonuses(verdict.quality, weights)
    if (debt := -sum(found.values())) > 0:
        found["not below clean"] = debt
    return Reward({**reward.components, **found})


def profile_of(name: str, weights: Mapping[str, Bonus] | None = None) -> Profile:
    """The reward profile `name`, with bonuses on top where there are weights.

    Raises:
        TrainerError: The profile takes none.
    """
    if weights is None:
        return PROFILES[name]
    if name != "tested":
        raise TrainerError(
            f"reward weights come on top of the profile tested, and the reward is {name}: "
            f"leave one of them out"
        )
    return partial(weighted, weights)


def load_weights(file: Path) -> dict[str, Bonus]:
    """Weights of one's own: a TOML file with `measure = number` a line (see ORIGIN).

    As many of a measure count as in the origin's table.

    Raises:
        TrainerError: It cannot be read, is no TOML, or has a key or a value that cannot be used.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        table = tomllib.loads(data[:_MOST_BYTES].decode())
    except FileNotFoundError:
        raise TrainerError(f"{file}: there is no such file", ExitCode.NOT_FOUND) from None
    except OSError as error:
        raise TrainerError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TrainerError(f"{file}: no TOML: {error}") from None
    if len(data) > _MOST_BYTES:
        raise TrainerError(f"{file}: more than {_MOST_BYTES} bytes")
    return {key: Bonus(_weight(file, key, raw), ORIGIN[key].up_to) for key, raw in table.items()}


def _weight(file: Path, key: str, raw: object) -> float:
    if key not in ORIGIN:
        close = get_close_matches(key, ORIGIN, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ORIGIN)}"
        raise TrainerError(f"{file}: nothing is measured as {key!r}: {hint}")
    # NaN is in no range.
    if (
        isinstance(raw, bool)
        or not isinstance(raw, int | float)
        or not -_MOST_WEIGHT <= raw <= _MOST_WEIGHT
    ):
        most = f"{_MOST_WEIGHT:g}"
        raise TrainerError(f"{file}: {key} is no number from -{most} to {most}")
    return float(raw)


def is_correct(verdict: Verdict, reward: Reward | None, threshold: float) -> bool:
    """Above the threshold, and not refused by the compiler whatever its reward."""
    return (
        reward is not None
        and verdict.parsed
        and verdict.compiled is not False
        and is_above(reward.total, threshold)
    )
