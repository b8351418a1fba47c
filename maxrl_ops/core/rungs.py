"""The rungs: one remedy each, what it would change now, or why it would not help.

A rung looks at what is in force and at the iterations its rule fired on. What it would change is
predicted before it is done; a rung that would change nothing is no remedy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from maxrl_ops.core.decision import Scalar
from maxrl_ops.core.figures import short
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.predict import predict, uses_threshold, uses_weights
from maxrl_ops.core.state import State
from maxrl_ops.core.window import WindowStats
from maxrl_ops.wire.logformat import number
from maxrl_ops.wire.record import Algorithm, IterationRecord
from trainer.objectives import DEFAULT_OBJECTIVE, OBJECTIVES


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rung looks at: `records` are the iterations of the window that its rule fired on."""

    state: State
    stats: WindowStats | None
    records: Sequence[IterationRecord]
    policy: Policy

    @property
    def left(self) -> int | None:
        """Iterations to come; None where the log does not tell."""
        target = self.state.target_iterations
        return None if target is None else target - self.state.iteration

    @property
    def empty(self) -> float:
        """Share of these iterations without a sample above the live threshold."""
        if not self.records:
            return 0.0
        return sum(record.n_correct == 0 for record in self.records) / len(self.records)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest threshold: the task's, else the policy's."""
        bounds = self.policy.bounds
        return self.state.bounds or (bounds.threshold_least, bounds.threshold_most)


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
    evidence: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rung:
    """One remedy. `plan` gives what it would change, or in a few words why not.

    Attributes:
        name: Unique in its rule.
        plan: What it would change.
        is_planned: It ends what was meant to end: limits and budget do not hold it back.
    """

    name: str
    plan: Callable[[Situation], Plan | str]
    is_planned: bool = False


def planned(rung: Rung, situation: Situation) -> Plan | str:
    """What the rung would change, with the prediction in its evidence."""
    plan = rung.plan(situation)
    if isinstance(plan, str):
        return plan
    prediction = predict(situation.records, situation.state.in_force, plan.changes)
    if prediction.is_nothing:
        return "it would change nothing"
    return Plan(plan.changes, plan.because, {**plan.evidence, **prediction.evidence()})


# --- Threshold ------------------------------------------------------------------------------------


def lower_threshold(situation: Situation) -> Plan | str:
    """The first level of the task's grid, going down, that admits clearly more of the rewards.

    A threshold above all rewards leaves MaxRL without a correct sample, and so without a gradient;
    one that some samples reach is left alone.
    """
    found = _movable_threshold(situation)
    if isinstance(found, str):
        return found
    live, empty, low = found, situation.empty, situation.policy.low
    if empty < low.least_empty:
        return (
            f"{empty:.0%} of the iterations had no sample above the threshold "
            f"{number(live)}, {low.least_empty:.0%} are needed"
        )
    total = sum(record.rewards_of or 0 for record in situation.records)
    admitted = _above(situation, live)
    # Where nothing is learned at all, a little to learn from is worth a change.
    least_gain = low.least_gain if admitted else low.least_gain_empty
    for level in reversed([each for each in _levels(situation) if each < live]):
        gain = (_above(situation, level) - admitted) / total
        if gain >= least_gain:
            return Plan(
                {"correctness_threshold": level},
                f"{empty:.0%} of these iterations had no sample above the threshold "
                f"{number(live)}, and {gain:.0%} more of the rewards lie above "
                f"{number(level)}",
                {"threshold": live, "empty_iterations": short(empty), "gain": short(gain)},
            )
    return (
        f"no threshold from {number(situation.bounds[0])} to {number(live)} would admit "
        f"{least_gain:.0%} more of the rewards"
    )


def raise_threshold(situation: Situation) -> Plan | str:
    """The next level of the task's grid, where enough samples stay correct."""
    live = _movable_threshold(situation)
    if isinstance(live, str):
        return live
    level = next((each for each in _levels(situation) if each > live), None)
    if level is None:
        return f"no threshold above {number(live)} up to {number(situation.bounds[1])} is told of"
    samples = situation.state.in_force.n_samples
    if not samples:
        return "the log does not tell n_samples"
    total = sum(record.rewards_of or 0 for record in situation.records)
    correct = _above(situation, level) / total * samples
    least = situation.policy.high.least_correct
    if correct < least:
        return (
            f"{correct:.1f} samples of a group would stay above {number(level)}, "
            f"{number(least)} are needed"
        )
    return Plan(
        {"correctness_threshold": level},
        f"{correct:.1f} of {samples} samples of a group stay above {number(level)}",
        {"threshold": live, "correct_per_group": short(correct)},
    )


def _movable_threshold(situation: Situation) -> float | str:
    """The live threshold, or why it is not to be moved."""
    state = situation.state
    if not state.has_reference:
        return "the log tells no correctness at a reference threshold"
    live = state.in_force.correctness_threshold
    if live is None or not math.isfinite(live) or state.bounds is None:
        return "the log does not tell the threshold and its bounds"
    if not uses_threshold(state.in_force.objective):
        return f"{state.in_force.objective} does not look at the threshold"
    if not sum(record.rewards_of or 0 for record in situation.records):
        return "the log does not tell how many rewards lie above other thresholds"
    return live


def _levels(situation: Situation) -> list[float]:
    """Levels of the grid that the task allows and every iteration tells of, the lowest first."""
    low, high = situation.bounds
    told = set.intersection(*(set(record.rewards_above) for record in situation.records))
    return sorted(level for level in told if math.isfinite(level) and low <= level <= high)


def _above(situation: Situation, level: float) -> int:
    """Rewards of the window above a level; the live one need not be on the grid."""
    return sum(r.rewards_above.get(level, r.n_correct or 0) for r in situation.records)


# --- Samples and weights --------------------------------------------------------------------------


def more_samples(situation: Situation) -> Plan | str:
    """LOW's: up to a number."""
    wanted = situation.policy.low.n_samples
    return _samples(situation, min(wanted, situation.policy.bounds.n_samples_most), up=True)


def fewer_samples(situation: Situation) -> Plan | str:
    """HIGH's: down to a number."""
    wanted = situation.policy.high.n_samples
    return _samples(situation, max(wanted, situation.policy.bounds.n_samples_least), up=False)


def multiply_samples(situation: Situation) -> Plan | str:
    """UNSTABLE's: an average over more samples wavers less."""
    live = situation.state.in_force.n_samples
    if not live:
        return "the log does not tell n_samples"
    wanted = round(live * situation.policy.unstable.n_samples_factor)
    return _samples(situation, min(wanted, situation.policy.bounds.n_samples_most), up=True)


def _samples(situation: Situation, wanted: int, *, up: bool) -> Plan | str:
    live = situation.state.in_force.n_samples
    if live is None and situation.state.has_reference:
        return "the log does not tell n_samples"
    if live is not None and (wanted <= live if up else wanted >= live):
        return f"n_samples is {live} already"
    now = "" if live is None else f" instead of {live}"
    return Plan({"n_samples": wanted}, f"it goes to {wanted} samples a prompt{now}")


def sharpen_weights(situation: Situation) -> Plan | str:
    """HIGH's: half the weight temperature, where enough effective samples stay."""
    live = _weights(situation)
    if isinstance(live, str):
        return live
    wanted, bounds = live / 2, situation.policy.bounds
    floor = max(situation.policy.high.weight_temperature, bounds.weight_temperature_least)
    if wanted < floor:
        return f"weight_temperature is {number(live)}, half of it is below {number(floor)}"
    prediction = predict(
        situation.records, situation.state.in_force, {"weight_temperature": wanted}
    )
    if prediction.effective is None:
        return "the log does not tell the effective samples at half the weight temperature"
    then, least = prediction.effective[1], situation.policy.high.least_effective_samples
    if then < least:
        return f"{then:.1f} effective samples of a group would stay, {number(least)} are needed"
    return Plan(
        {"weight_temperature": wanted},
        f"{then:.1f} effective samples of a group stay at weight_temperature {number(wanted)}",
    )


def flatten_weights(situation: Situation) -> Plan | str:
    """UNSTABLE's: a higher weight temperature lets more samples count."""
    live = _weights(situation)
    if isinstance(live, str):
        return live
    highest = situation.policy.bounds.weight_temperature_most
    wanted = min(live * situation.policy.unstable.weight_temperature_factor, highest)
    if wanted <= live:
        return f"weight_temperature is {number(live)} already, {number(highest)} is the most"
    return Plan(
        {"weight_temperature": wanted},
        f"more samples count at weight_temperature {number(wanted)} than at {number(live)}",
    )


def _weights(situation: Situation) -> float | str:
    in_force = situation.state.in_force
    if in_force.weight_temperature is None or not math.isfinite(in_force.weight_temperature):
        return "the log does not tell the weight temperature"
    if not uses_weights(in_force.objective):
        return f"{in_force.objective or 'the objective'} does not look at weight_temperature"
    return in_force.weight_temperature


# --- Objectives -----------------------------------------------------------------------------------


def normalise(situation: Situation) -> Plan | str:
    """UNSTABLE's: the variant of MaxRL whose weights do not hang on the rewards' scale."""
    live, wanted = situation.state.in_force.objective, situation.policy.unstable.objective
    if live is None:
        return "the log does not tell the objective"
    if live == wanted or OBJECTIVES[wanted].algorithm is not algorithm_of(live):
        return f"the objective is {live}"
    return Plan({"objective": wanted}, f"it goes from {live} to {wanted}")


def warm_up(situation: Situation) -> Plan | str:
    """LOW's: GRPO learns from wrong samples too, for a while."""
    state, policy = situation.state, situation.policy
    live = state.in_force.objective
    if live is None:
        return "the log does not tell the objective"
    if policy.adapt.is_reversed:
        return "by this policy MaxRL is the better one at low correctness"
    if algorithm_of(live) is not Algorithm.MAXRL:
        return f"the objective is {live}"
    needed = policy.low.warm_up + policy.limits.least_left
    if situation.left is not None and situation.left < needed:
        return f"{situation.left} iterations are left, {needed} are needed"
    return Plan(
        {"objective": DEFAULT_OBJECTIVE[Algorithm.GRPO]},
        f"GRPO warms it up for {policy.low.warm_up} iterations, then it returns to {live}",
        {"warm_up": policy.low.warm_up, "objective": live},
    )


def end_warm_up(situation: Situation) -> Plan | str:
    """ADAPT's: back to the objective that the warm-up interrupted."""
    state = situation.state
    if state.warm_up is None:
        return "there is no warm-up"
    since = state.iteration - state.warm_up.since
    return Plan(
        {"objective": state.warm_up.objective},
        f"the warm-up of {since} iterations is over",
        {"warm_up": since},
    )


def hand_over(situation: Situation) -> Plan | str:
    """ADAPT's: to the objective that an adaptive run is to have at this correctness."""
    state = situation.state
    wanted = adapted(state, situation.stats, situation.policy)
    if state.warm_up is not None or wanted is None:
        return "the run is not adaptive" if state.hand_over_to is None else "a warm-up is on"
    return Plan(
        {"objective": wanted},
        f"it hands over from {state.in_force.objective} to {wanted}",
        {"objective": state.in_force.objective or ""},
    )


def adapted(state: State, stats: WindowStats | None, policy: Policy) -> str | None:
    """The objective that ADAPT wants now; None where the one in force may stay.

    The guide begins with GRPO and hands over to MaxRL. The theory has it the other way: where
    correctness is low, MaxRL weighs hard prompts more than GRPO does.
    """
    live = state.in_force.objective
    if state.warm_up is not None:
        since = state.iteration - state.warm_up.since
        is_over = since >= policy.low.warm_up
        is_high = stats is not None and stats.lower > policy.adapt.above
        is_back = is_over or (is_high and since >= policy.low.warm_up_least)
        return state.warm_up.objective if is_back else None
    if state.hand_over_to is None or stats is None:
        return None
    low, high = state.began_with, state.hand_over_to
    if policy.adapt.is_reversed:
        low, high = high, low
        if stats.upper < policy.adapt.above:
            return low if live != low else None
    return high if stats.lower > policy.adapt.above and live != high else None


def algorithm_of(objective: str | None) -> Algorithm | None:
    """The algorithm an objective belongs to; None for an unknown one."""
    known = OBJECTIVES.get(objective or "")
    return None if known is None else known.algorithm


# --- Restarts -------------------------------------------------------------------------------------


def restart_after_collapse(situation: Situation) -> Plan | str:
    """COLLAPSE's: what was saved after the best window is not trusted."""
    state = situation.state
    newest, policy = state.peaks[-1][0] if state.peaks else state.iteration, situation.policy
    # A rate at which nothing was ever learned is too high by more than a little.
    factors = (policy.collapse.learning_rate_factor, policy.collapse.learning_rate_factor_at_start)
    return _restart(situation, factors, newest)


def restart_after_nonfinite(situation: Situation) -> Plan | str:
    """NONFINITE's: what was saved since the first skipped update is not trusted."""
    first = min(situation.state.skipped, default=situation.state.iteration)
    factor = situation.policy.nonfinite.learning_rate_factor
    return _restart(situation, (factor, factor), first - 1)


def _restart(situation: Situation, factors: tuple[float, float], newest: int) -> Plan | str:
    """From the best checkpoint, more carefully; without evaluations from the newest one allowed.

    `factors` are those of the learning rate: from a checkpoint, and from the very beginning.

    A rate that is lower still led to that checkpoint? Then it was raised since, and is taken again.
    """
    state = situation.state
    rate = state.in_force.learning_rate
    if rate is None or not math.isfinite(rate):
        return "the log does not tell the learning rate"
    best = state.held_out.best()
    if best is None:
        best = max((n for n in state.held_out.saved if n <= newest), default=0)
    led_to_it, factor = state.rate_at(best), factors[not best]
    wanted = short(rate * factor if led_to_it is None else min(rate * factor, led_to_it))
    whence = f"checkpoint {best}" if best else "the model that it began with"
    return Plan(
        {"learning_rate": wanted, "lifecycle": "restart_from", "restart_from": best},
        f"it goes back to {whence}, with learning rate {wanted:g} instead of {rate:g}",
        {"checkpoint": best, "learning_rate": rate},
    )
