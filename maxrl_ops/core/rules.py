"""The tuning guide's rules: when each fires, when it is over, and its ladder of remedies.

One ordered table, the most urgent first. Behind the rules that change something stand those that
can only tell a person.
"""

from collections.abc import Callable
from dataclasses import dataclass

from maxrl_ops.core import learning, rungs
from maxrl_ops.core.decision import Scalar
from maxrl_ops.core.figures import short
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.rungs import Rung
from maxrl_ops.core.state import State
from maxrl_ops.core.window import WindowStats

Condition = Callable[[State, WindowStats | None, Policy], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """When to look for a remedy, and which.

    Attributes:
        name: As journal and metrics spell it.
        holds: The condition that must last for the dwell.
        clears: The condition that ends a firing; stricter than `holds` is false, or it would flap.
        figure: What the condition looks at, in words.
        dwell: For how many iterations.
        mode: What the policy allows the rule at most.
        ladder: Remedies, the mildest first; each is taken once.
        needs_window: Without a window of correctness there is no verdict.
        goes_back: Its remedy begins again at a checkpoint, with as many more iterations left.
        waits: Why the rule, though it fires, leaves the run alone: a key and words.
        escalation: What is told once no remedy is left.
    """

    name: str
    holds: Condition
    clears: Condition
    figure: Callable[[State, WindowStats | None, Policy], str]
    dwell: Callable[[Policy], int]
    mode: Callable[[Policy], Mode | None]
    ladder: tuple[Rung, ...]
    needs_window: bool = True
    goes_back: bool = False
    waits: Callable[[State, WindowStats | None, Policy], tuple[str, str] | None] = lambda *_: None
    escalation: str | None = None


# --- NONFINITE and COLLAPSE: what was learned is at stake -----------------------------------------


def _skips(state: State, policy: Policy) -> int:
    first = state.iteration - policy.nonfinite.within
    return sum(iteration > first for iteration in state.skipped)


def _nonfinite(state: State, _: WindowStats | None, policy: Policy) -> bool:
    return bool(state.skipped) and _skips(state, policy) >= policy.nonfinite.skipped


def _restarts(name: str, rung: Callable[[rungs.Situation], rungs.Plan | str]) -> tuple[Rung, ...]:
    """As many as a policy may allow; how many it does allow, the ladder asks itself."""

    def limited(place: int) -> Callable[[rungs.Situation], rungs.Plan | str]:
        def plan(situation: rungs.Situation) -> rungs.Plan | str:
            allowed = getattr(situation.policy, name).most_restarts
            return rung(situation) if place < allowed else f"{allowed} restarts are all"

        return plan

    return tuple(Rung(f"restart_{place + 1}", limited(place)) for place in range(10))


def _collapsed(state: State, stats: WindowStats | None, policy: Policy) -> bool:
    """Held-out evaluations fell, or the upper bound lies clearly below the best lower one."""
    collapse = policy.collapse
    if state.held_out.below >= collapse.held_out_dwell:
        return True
    # Most of the time a run is at its best, or never was anywhere.
    if stats is None or not state.peaks or stats.upper >= state.peaks[-1][1] - collapse.drop:
        return False
    best = state.best_before(state.iteration - collapse.earlier)
    return best is not None and stats.upper < best - collapse.drop


def _told_collapse(state: State, stats: WindowStats | None, policy: Policy) -> str:
    if state.held_out.below:
        return f"{state.held_out.below} held-out evaluations running below the first"
    if stats is None:
        return "no window yet"
    best = state.best_before(state.iteration - policy.collapse.earlier)
    reached = "nothing reached yet" if best is None else f"best lower bound {best:.2f}"
    return f"upper bound {stats.upper:.2f}, {reached}"


# --- UNSTABLE -------------------------------------------------------------------------------------


def _told_gradient(state: State, _: WindowStats | None, policy: Policy) -> str:
    gradient = state.gradient
    if gradient.z is None:
        least = policy.unstable.least_baseline
        return f"{len(gradient.values)} gradient norms, {least} are needed before a verdict"
    spikes = f"{gradient.spiking} of {len(gradient.spikes)} gradient norms spike"
    noted = ", noted" if gradient.drift > policy.unstable.drift_note else ""
    return f"{spikes}, drift {gradient.drift:.1f}{noted}"


# --- LOW, ADAPT, HIGH: correctness ----------------------------------------------------------------


def _learns(state: State, stats: WindowStats | None, policy: Policy) -> tuple[str, str] | None:
    """A low run that learns is left alone, and one that may yet has time to show it.

    Over few iterations nobody can tell a run that rises slowly from one that does not; only where
    most iterations have nothing to learn from is there nothing to wait for.
    """
    if state.warm_up is not None:
        return "warming up", f"it warms up since iteration {state.warm_up.since}"
    if state.held_out.below:
        # COLLAPSE's, if the next one does too; a change now would have to settle first.
        return "fallen", "the last held-out evaluation lies below the first"
    slope = state.rows.slope(policy.window.slope_rows)
    if slope is not None and slope.is_rising(policy.low.rising_errors):
        return "rising", f"correctness rises by {slope.value:.2g} an iteration"
    if state.rows.count >= policy.low.patience or stats is None:
        return None
    records = state.rows.newest(stats.rows)
    starved = sum(record.n_correct == 0 for record in records) / len(records)
    if starved >= policy.low.starved:
        return None
    return "patience", (
        f"it has correct samples to learn from, and {policy.low.patience} iterations to show it"
    )


def _vetoed(state: State, _: WindowStats | None, __: Policy) -> tuple[str, str] | None:
    """Nobody makes it harder for a run whose figures are in doubt."""
    for other in ("UNSTABLE", "REWARD HACKING"):
        if other in state.firing:
            return "vetoed", f"{other} fires too"
    return None


def _upper(_: State, stats: WindowStats | None, __: Policy) -> str:
    return "no window yet" if stats is None else f"upper bound {stats.upper:.2f}"


def _lower(state: State, stats: WindowStats | None, _: Policy) -> str:
    if state.warm_up is not None:
        return f"a warm-up since iteration {state.warm_up.since}"
    return "no window yet" if stats is None else f"lower bound {stats.lower:.2f}"


def _unless_hacked(plan: Callable[[rungs.Situation], rungs.Plan | str]) -> Rung:
    """The threshold's rung: a lower one would pay for what only looks right."""

    def held(situation: rungs.Situation) -> rungs.Plan | str:
        if "REWARD HACKING" in situation.state.firing:
            return "REWARD HACKING fires"
        return plan(situation)

    return Rung("threshold", held)


RULES: tuple[Rule, ...] = (
    Rule(
        "NONFINITE",
        holds=_nonfinite,
        clears=lambda state, stats, policy: not _nonfinite(state, stats, policy),
        figure=lambda state, _, policy: (
            f"{_skips(state, policy)} of the last {policy.nonfinite.within} updates not finite"
        ),
        dwell=lambda _: 1,
        mode=lambda policy: policy.nonfinite.mode,
        ladder=_restarts("nonfinite", rungs.restart_after_nonfinite),
        needs_window=False,
        goes_back=True,
        escalation="look at the learning rate and the data",
    ),
    Rule(
        "COLLAPSE",
        holds=_collapsed,
        clears=lambda state, stats, policy: not _collapsed(state, stats, policy),
        figure=_told_collapse,
        dwell=lambda policy: policy.collapse.dwell,
        mode=lambda policy: policy.collapse.mode,
        ladder=_restarts("collapse", rungs.restart_after_collapse),
        needs_window=False,
        goes_back=True,
        escalation="look at the reward and the learning rate",
    ),
    # Never on the GRPO loss, which is zero by construction, nor on how much correctness wavers.
    Rule(
        "UNSTABLE",
        holds=lambda state, _, policy: state.gradient.is_unstable(policy.unstable),
        clears=lambda state, _, policy: (
            not state.gradient.spiking and state.gradient.drift < policy.unstable.drift_note
        ),
        figure=_told_gradient,
        dwell=lambda _: 1,
        mode=lambda policy: policy.unstable.mode,
        ladder=(
            Rung("n_samples", rungs.multiply_samples),
            Rung("weight_temperature", rungs.flatten_weights),
            Rung("objective", rungs.normalise),
        ),
        needs_window=False,
        escalation="look at the learning rate",
    ),
    Rule(
        "LOW",
        holds=lambda _, stats, policy: stats is not None and stats.upper < policy.low.below,
        clears=lambda _, stats, policy: stats is not None and stats.lower > policy.low.clears_above,
        figure=_upper,
        dwell=lambda policy: policy.low.dwell,
        mode=lambda policy: policy.low.mode,
        ladder=(
            _unless_hacked(rungs.lower_threshold),
            Rung("warm_up", rungs.warm_up),
            Rung("n_samples", rungs.more_samples),
        ),
        waits=_learns,
        escalation="check the base model",
    ),
    # The guide's option 3: once most samples are right, learn from those alone.
    Rule(
        "ADAPT",
        holds=lambda state, stats, policy: rungs.adapted(state, stats, policy) is not None,
        clears=lambda state, stats, policy: rungs.adapted(state, stats, policy) is None,
        figure=_lower,
        dwell=lambda policy: policy.adapt.dwell,
        mode=lambda policy: policy.adapt.mode,
        ladder=(
            Rung("return", rungs.end_warm_up, is_planned=True),
            Rung("objective", rungs.hand_over),
            Rung("objective_back", rungs.hand_over),
        ),
        needs_window=False,
    ),
    Rule(
        "HIGH",
        holds=lambda _, stats, policy: stats is not None and stats.lower > policy.high.above,
        clears=lambda _, stats, policy: (
            stats is not None and stats.upper < policy.high.clears_below
        ),
        figure=lambda _, stats, __: (
            "no window yet" if stats is None else f"lower bound {stats.lower:.2f}"
        ),
        dwell=lambda policy: policy.high.dwell,
        mode=lambda policy: policy.high.mode,
        ladder=(
            _unless_hacked(rungs.raise_threshold),
            Rung("weight_temperature", rungs.sharpen_weights),
            Rung("n_samples", rungs.fewer_samples),
        ),
        waits=_vetoed,
    ),
)


def is_adapting(state: State, policy: Policy) -> bool:
    """Whether ADAPT has a say in such a run at all."""
    if state.warm_up is not None:
        return True
    if state.hand_over_to is None:
        return False
    # Once it has handed over nothing is left to do, unless the switch goes both ways.
    return policy.adapt.is_reversed or state.in_force.objective != state.hand_over_to


# --- What only a person can mend ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule without a remedy; `told` says what is wrong, None where nothing is."""

    name: str
    told: Callable[[State, Policy], str | None]


def _dead(state: State, policy: Policy) -> str | None:
    widest = policy.window.sizes[-1]
    if len(state.rows.records) < policy.window.sizes[0]:
        return None
    return learning.dead_groups(state.rows.newest(widest), policy.dead_groups)


def _hacked(state: State, policy: Policy) -> str | None:
    rows, first = policy.hacking.window, state.progress.first
    now = state.rows.newest(rows)
    if len(now) < rows:
        return None
    # As long as they overlap there is nothing to hold it against.
    is_past = now[0].iteration > first[-1].iteration
    began_with = state.progress.began_with() if is_past else None
    evaluations = state.held_out.first, state.held_out.newest
    return learning.hacking(began_with, now, evaluations, policy.hacking)


def _few_count(state: State, policy: Policy) -> str | None:
    """Advice only: both are true of healthy runs now and then."""
    unstable = policy.unstable
    ratios = sorted(
        record.effective_samples / record.effective_of
        for record in state.rows.newest(policy.window.sizes[0])
        if record.effective_samples is not None
        and record.effective_of is not None
        and record.effective_of >= unstable.least_correct
    )
    if not ratios or ratios[len(ratios) // 2] >= unstable.least_effective_ratio:
        return None
    return (
        f"of the correct samples of a group {ratios[len(ratios) // 2]:.0%} count: "
        "a higher weight_temperature lets more of them"
    )


ALERTS: tuple[Alert, ...] = (
    Alert("DEAD GROUPS", _dead),
    Alert("NO LEARNING", lambda s, policy: learning.no_learning(s.progress, policy.no_learning)),
    Alert("REWARD HACKING", _hacked),
    Alert("FEW EFFECTIVE SAMPLES", _few_count),
)


def evidence_of(state: State, stats: WindowStats | None, policy: Policy) -> dict[str, Scalar]:
    """The window and the gradient in figures, short enough to read."""
    evidence: dict[str, Scalar] = {}
    if stats is not None:
        evidence = {
            "iterations": stats.rows,
            "first_iteration": state.rows.records[-stats.rows].iteration,
            "samples": stats.samples,
            "effective_samples": short(stats.effective),
            "design_effect": short(stats.design_effect),
            "correctness": short(stats.correctness),
            "lower": short(stats.lower),
            "upper": short(stats.upper),
        }
        if (slope := state.rows.slope(policy.window.slope_rows)) is not None:
            evidence |= {"slope": short(slope.value), "slope_error": short(slope.error)}
        if state.peaks:
            evidence["best_lower"] = short(state.peaks[-1][1])
    if state.gradient.z is not None:
        evidence |= {"gradient_z": short(state.gradient.z), "drift": short(state.gradient.drift)}
    return evidence
