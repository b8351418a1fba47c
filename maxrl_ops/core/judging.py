"""What a change was worth: correctness before it against after it, at the reference threshold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from maxrl_ops.core.decision import Judged, Scalar
from maxrl_ops.core.figures import short
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.stats import Interval, Proportion, Slope, design_effect, newcombe
from maxrl_ops.core.window import Rows


@dataclass(frozen=True, slots=True)
class Before:
    """The iterations before a change.

    Attributes:
        seen: Correctness over them, on so many independent samples.
        slope: Of correctness, None where it cannot be told.
        centre: Their mean iteration.
    """

    seen: Proportion
    slope: Slope | None
    centre: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A change in force that is to be judged.

    Attributes:
        revision: Its control's.
        rule: Whose change it is; None for a person's.
        rung: Of that rule.
        was: The values before it, by their key; None where they are not known.
        before: None where too few iterations preceded it.
        since: The iteration from which it is in force; None where a resumed run has yet to come to
            it again.
    """

    revision: int
    rule: str | None
    rung: str | None
    was: Mapping[str, Scalar | None]
    before: Before | None
    since: int | None

    @property
    def may_be_put_back(self) -> bool:
        """A person's change is theirs; what was put back, or planned to return, stays.

        A restart is none that could be: the learning rate before it is the one that the run had
        come to harm under.
        """
        if self.rule is None or self.rung is None or self.rung.startswith("restart_"):
            return False
        return self.rung not in {"put_back", "return"} and None not in self.was.values()


def before(rows: Rows, policy: Policy) -> Before | None:
    """The end of the rows that a change puts an end to."""
    judging = policy.judging
    counts = rows.counts(judging.before)
    if counts.rows < judging.least_before:
        return None
    effect = design_effect(rows.counts(policy.window.design_effect_rows))
    return Before(
        Proportion(counts.k / counts.n, counts.n / effect),
        rows.slope(judging.trend_rows),
        rows.centre(counts.rows),
    )


def judge(trial: Trial, rows: Rows, iteration: int, policy: Policy) -> Judged:
    """The verdict, once `judging.after` iterations have followed the change."""
    if trial.before is None:
        least = policy.judging.least_before
        return unjudged(trial, iteration, f"fewer than {least} iterations came before it")
    counts = rows.counts(policy.judging.after)
    effect = design_effect(rows.counts(policy.window.design_effect_rows))
    after = Proportion(counts.k / counts.n, counts.n / effect)
    plain = newcombe(trial.before.seen, after, policy.judging.z)
    distance = rows.centre(counts.rows) - trial.before.centre
    verdict = _verdict(trial.before, after, plain, distance, policy)
    evidence: dict[str, Scalar] = {
        "before": short(trial.before.seen.p),
        "after": short(after.p),
        "difference": short(after.p - trial.before.seen.p),
        "lower": short(plain.lower),
        "upper": short(plain.upper),
        "effective_before": short(trial.before.seen.n),
        "effective_after": short(after.n),
    }
    if trial.before.slope is not None:
        evidence["trend"] = short(trial.before.slope.value * distance)
        evidence["trend_error"] = short(trial.before.slope.error * distance)
    evidence |= _at_old_threshold(trial, rows, counts.rows)
    because = (
        f"correctness went from {trial.before.seen.p:.0%} to {after.p:.0%}, a difference between "
        f"{plain.lower:+.0%} and {plain.upper:+.0%}"
    )
    return Judged(trial.revision, verdict, iteration, evidence, because)


def unjudged(trial: Trial, iteration: int, because: str) -> Judged:
    """Nobody can tell."""
    return Judged(trial.revision, "inconclusive", iteration, {}, because)


def _verdict(
    before: Before, after: Proportion, plain: Interval, distance: float, policy: Policy
) -> str:
    """Against what was, and against what would have come by itself.

    The trend's own error goes in: an extrapolation that is taken for certain calls a third of all
    changes that change nothing harmful.
    """
    slope = before.slope
    if slope is None:
        against = plain
    else:
        expected = slope.value * distance
        error = policy.judging.z * slope.error * distance
        difference = after.p - before.seen.p
        low = math.hypot(difference - plain.lower, error)
        high = math.hypot(plain.upper - difference, error)
        against = Interval(difference - expected - low, difference - expected + high)
    is_falling = slope is not None and slope.is_falling(policy.judging.falling_errors)
    if plain.upper < 0 and (not is_falling or against.upper < 0):
        return "harmed"
    return "helped" if plain.lower > 0 and against.lower > 0 else "inconclusive"


def _at_old_threshold(trial: Trial, rows: Rows, count: int) -> dict[str, Scalar]:
    """Counterfactual: the rewards that followed, judged at the threshold that was given up."""
    old = trial.was.get("correctness_threshold")
    records = rows.newest(count)
    if not isinstance(old, float) or any(old not in r.rewards_above for r in records):
        return {}
    total = sum(r.rewards_of or 0 for r in records)
    above = sum(r.rewards_above[old] for r in records)
    return {"old_threshold": old, "at_old_threshold": short(above / total)} if total else {}


@dataclass(frozen=True, slots=True)
class Harm:
    """A change that was judged harmful, and is to be put back."""

    trial: Trial
    judged: Judged


def since(trial: Trial, iteration: int) -> Trial:
    """A resumed run has come to the change again."""
    return replace(trial, since=iteration)
