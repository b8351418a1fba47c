"""The tuning guide's rules: when each fires, when it is over, and its ladder of remedies.

One ordered table, the most urgent first. A rule looks at a window of correctness at the reference
threshold; a rung looks at what is in force, and says what it would change or why it would not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maxrl_ops.core.policy import Policy
from maxrl_ops.core.window import WindowStats
from maxrl_ops.wire.logformat import number

Scalar = float | int | str


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rung looks at.

    Attributes:
        stats: The window that the rule fired on.
        threshold: The live one.
        bounds: Lowest and highest threshold that the task allows.
        objective: The one in force.
        hand_over_to: The objective that an adaptive run is to end with; None for any other run.
    """

    stats: WindowStats
    threshold: float | None = None
    bounds: tuple[float, float] | None = None
    objective: str | None = None
    hand_over_to: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rung would change.

    Attributes:
        changes: New values by their key in the control.
        because: What speaks for it, as the end of a sentence.
        evidence: The figures behind that.
    """

    changes: Mapping[str, Scalar]
    because: str
    evidence: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Rung:
    """One remedy. `plan` gives what it would change, or in a few words why not."""

    name: str
    plan: Callable[[Situation, Policy], Plan | str]


@dataclass(frozen=True, slots=True)
class Rule:
    """When to look for a remedy, and which.

    Attributes:
        holds: The condition that must last for the policy's dwell.
        clears: The condition that ends a firing; stricter than `holds` is false, or it would flap.
        bound: The figure the condition looks at, in words.
        ladder: Remedies, the mildest first; each is taken once.
        concerns: Whether the rule has a say in such a run at all.
        waits: Whether the rule, though it fires, leaves the run alone: it mends itself.
    """

    name: str
    holds: Callable[[WindowStats, Policy], bool]
    clears: Callable[[WindowStats, Policy], bool]
    bound: Callable[[WindowStats], str]
    ladder: tuple[Rung, ...]
    concerns: Callable[[Situation], bool] = lambda _: True
    waits: Callable[[WindowStats, Policy], bool] = lambda _stats, _policy: False


def _lower_threshold(situation: Situation, policy: Policy) -> Plan | str:
    """The first level of the task's grid, going down, that admits clearly more of the rewards.

    A threshold above all rewards leaves MaxRL without a correct sample, and so without a gradient;
    one that some samples reach is left alone.
    """
    live, bounds, rows = situation.threshold, situation.bounds, situation.stats.rows
    if live is None or not math.isfinite(live) or bounds is None:
        return "the log does not tell the threshold and its bounds"
    empty = sum(row.n_correct == 0 for row in rows) / len(rows)
    if empty < policy.low.least_empty:
        return (
            f"{empty:.0%} of the iterations had no sample above the threshold {number(live)}, "
            f"{policy.low.least_empty:.0%} are needed"
        )
    total = sum(row.rewards_of or 0 for row in rows)
    if not total:
        return "the log does not tell how many rewards lie above other thresholds"
    admitted = sum(row.rewards_above.get(live, row.n_correct or 0) for row in rows)
    for candidate in _levels_below(live, situation):
        gain = (sum(row.rewards_above[candidate] for row in rows) - admitted) / total
        if gain >= policy.low.least_gain:
            return Plan(
                {"correctness_threshold": candidate},
                f"{empty:.0%} of these iterations had no sample above the threshold "
                f"{number(live)}, and {gain:.0%} more of the rewards lie above {number(candidate)}",
                {"threshold": live, "empty_iterations": _short(empty), "gain": _short(gain)},
            )
    return (
        f"no threshold from {number(bounds[0])} to {number(live)} would admit "
        f"{policy.low.least_gain:.0%} more of the rewards"
    )


def _levels_below(live: float, situation: Situation) -> list[float]:
    """Levels of the grid that the task allows and every iteration tells of, the highest first."""
    low, high = situation.bounds or (live, live)
    told = set.intersection(*(set(row.rewards_above) for row in situation.stats.rows))
    allowed = (level for level in told if low <= level <= high and level < live)
    return sorted(filter(math.isfinite, allowed), reverse=True)


def _hand_over(situation: Situation, _: Policy) -> Plan | str:
    """From the objective of an adaptive run's beginning to the one it is to end with."""
    if situation.hand_over_to is None:
        return "the run is not adaptive"
    return Plan(
        {"objective": situation.hand_over_to},
        f"it hands over from {situation.objective} to {situation.hand_over_to}",
        {"objective": situation.objective or ""},
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "LOW",
        holds=lambda stats, policy: stats.interval.upper < policy.low.below,
        clears=lambda stats, policy: stats.interval.lower > policy.low.clears_above,
        bound=lambda stats: f"upper bound {stats.interval.upper:.2f}",
        ladder=(Rung("threshold", _lower_threshold),),
        waits=lambda stats, policy: (
            stats.slope is not None and stats.slope.is_rising(policy.low.rising_errors)
        ),
    ),
    # The guide's option 3: once most samples are right, learn from those alone.
    Rule(
        "ADAPT",
        holds=lambda stats, policy: stats.interval.lower > policy.adapt.above,
        clears=lambda stats, policy: stats.interval.upper < policy.adapt.above,
        bound=lambda stats: f"lower bound {stats.interval.lower:.2f}",
        ladder=(Rung("objective", _hand_over),),
        concerns=lambda situation: (
            situation.hand_over_to is not None and situation.objective != situation.hand_over_to
        ),
    ),
)


def evidence_of(stats: WindowStats) -> dict[str, Scalar]:
    """The window in figures, short enough to read."""
    evidence: dict[str, Scalar] = {
        "iterations": len(stats.rows),
        "first_iteration": stats.rows[0].iteration,
        "samples": stats.samples,
        "effective_samples": _short(stats.effective),
        "design_effect": _short(stats.design_effect),
        "correctness": _short(stats.correctness),
        "lower": _short(stats.interval.lower),
        "upper": _short(stats.interval.upper),
    }
    if stats.slope is not None:
        evidence["slope"] = _short(stats.slope.value)
        evidence["slope_error"] = _short(stats.slope.error)
    return evidence


def _short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
