"""From a rule that fires to a change: its next rung, or what stands against it."""

from collections.abc import Callable, Iterator, Mapping

from maxrl_ops.core.decision import Decision, Output, Scalar
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.rules import RULES, Rule, evidence_of
from maxrl_ops.core.rungs import Plan, Rung, Situation, planned
from maxrl_ops.core.state import InFlight, State
from maxrl_ops.core.verdicts import say
from maxrl_ops.core.window import WindowStats
from maxrl_ops.wire.logformat import number

# A firing rule that has found no remedy looks for one again after so many iterations.
_LOOK_EVERY = 10
PUT_BACK = "put_back"
# What ends what was meant to end is no new change: it costs nothing, and no limit holds it.
FREE = frozenset({PUT_BACK, "return"})

Objection = tuple[str, Callable[[], str]]


def rung_id(decision: Decision) -> str:
    """By which a rung that was taken is known."""
    return f"{decision.rule}.{decision.rung}"


def decide(
    state: State, stats: WindowStats | None, time: str | None, policy: Policy, out: list[Output]
) -> Decision | None:
    """The change to make now, if there is one; what stands against others is added to `out`."""
    if state.harm is not None and next(_of_the_run(state), None) is None:
        return _put_back(state, time, policy)
    if not state.firing:
        return None
    for rule in RULES:
        if rule.name not in state.firing or state.looks_again.get(rule.name, 0) > state.iteration:
            continue
        objection = next(_objections(state, rule, stats, policy), None)
        if objection is None:
            found = _next_rung(state, rule, stats, time, policy)
            if isinstance(found, Decision):
                return found
            objection = found
        key, words = objection
        say(state, rule.name, key, _held(state, rule, stats, policy, words), out)
        if key in _OF_THE_RUN:
            # Neither may a less urgent rule do what a more urgent one may not.
            return None
    return None


def _held(
    state: State,
    rule: Rule,
    stats: WindowStats | None,
    policy: Policy,
    words: Callable[[], str],
) -> Callable[[], str]:
    return lambda: f"{rule.name} fires ({rule.figure(state, stats, policy)}), held: {words()}"


# --- Objections -----------------------------------------------------------------------------------

_OF_THE_RUN = frozenset(
    {"host frozen", "in flight", "unconfirmed", "behind", "settling", "cooldown", "budget", "late"}
)


def _of_the_run(state: State) -> Iterator[Objection]:
    """What stands against any change now."""
    if state.is_frozen:
        yield "host frozen", lambda: "the autopilot of this host is frozen"
    if state.in_flight:
        flying = max(state.in_flight, key=lambda each: each.is_unconfirmed)
        key = "unconfirmed" if flying.is_unconfirmed else "in flight"
        yield key, lambda: f"revision {flying.revision} is not answered yet"
    if state.iteration <= state.blocked_until:
        yield "behind", lambda: f"the log has come to iteration {state.blocked_until} already"


def _objections(
    state: State, rule: Rule, stats: WindowStats | None, policy: Policy
) -> Iterator[Objection]:
    """What stands against a change by that rule now, the cheapest to find out first."""
    yield from _of_the_run(state)
    if mode_of(state, rule, policy) is Mode.OFF:
        yield "off", lambda: "its mode is off"
    if rule.name in state.frozen:
        yield "frozen", lambda: "a change of its was taken back, it makes no other in this run"
    if any(decision.rule == rule.name for decision in state.suggested.values()):
        yield "waiting", lambda: "its suggestion waits for approval"
    if state.streaks.get(rule.name, 0) < rule.dwell(policy):
        yield "eased", lambda: "its condition does not hold any more, and is not over yet"
    if rule.name == "ADAPT" and state.warm_up is not None:
        return
    yield from _limits(state, rule, stats, policy)
    waits = rule.waits(state, stats, policy)
    if waits is not None:
        key, words = waits
        yield key, lambda: words


def _limits(
    state: State, rule: Rule, stats: WindowStats | None, policy: Policy
) -> Iterator[Objection]:
    limits, at = policy.limits, state.iteration
    width = stats.rows if rule.needs_window and stats is not None else 0
    settled = state.revision_since + limits.settle + width
    if state.revision and at < settled:
        yield "settling", lambda: f"revision {state.revision} settles until iteration {settled}"
    if state.changed_at is not None and at < (cooled := state.changed_at + limits.cooldown):
        yield "cooldown", lambda: f"cooldown until iteration {cooled}"
    if state.decided >= limits.most_changes and mode_of(state, rule, policy) is Mode.OBSERVE:
        yield "budget", lambda: f"{state.decided} changes were made, that is all a run gets"
    left = None if state.target_iterations is None else state.target_iterations - at
    if left is not None and rule.goes_back:
        best = state.held_out.best()
        left += 0 if best is None else at - best
    if left is not None and left < limits.least_left:
        yield "late", lambda: f"{left} iterations are left, {limits.least_left} are needed"


def mode_of(state: State, rule: Rule | None, policy: Policy) -> Mode:
    """What becomes of a decision: the most careful of run, policy and rule."""
    mode = state.mode.at_most(policy.mode)
    if rule is not None:
        mode = mode.at_most(rule.mode(policy))
    # Nobody changes on its own what it cannot judge.
    return mode if state.has_reference else mode.at_most(Mode.SUGGEST)


# --- Decisions ------------------------------------------------------------------------------------


def _next_rung(
    state: State, rule: Rule, stats: WindowStats | None, time: str | None, policy: Policy
) -> Decision | Objection:
    rows = stats.rows if stats is not None else policy.window.sizes[0]
    situation = Situation(state, stats, state.rows.newest(rows), policy)
    refusals: list[str] = []
    for rung in rule.ladder:
        if f"{rule.name}.{rung.name}" in state.taken:
            refusals.append(f"{rung.name}: taken already")
            continue
        plan = planned(rung, situation)
        if isinstance(plan, Plan) and not rung.is_planned:
            plan = _unless_reversal(state, plan, policy)
        if isinstance(plan, Plan):
            return _decision(situation, rule, rung, plan, time, refusals)
        if plan not in _unsaid(refusals):
            refusals.append(f"{rung.name}: {plan}")
    state.looks_again[rule.name] = state.iteration + _LOOK_EVERY
    ends = f"; {rule.escalation}" if rule.escalation else ""
    return "no remedy", lambda: f"no remedy left; {'; '.join(refusals)}{ends}"


def _unsaid(refusals: list[str]) -> list[str]:
    return [refusal.split(": ", 1)[1] for refusal in refusals]


def _unless_reversal(state: State, plan: Plan, policy: Policy) -> Plan | str:
    """No rule takes back what was changed a moment ago, but for a run that goes back itself."""
    if "restart_from" in plan.changes:
        return plan
    since = state.iteration - policy.limits.oscillation
    for moved in state.moved:
        back = moved.key in plan.changes and plan.changes[moved.key] == moved.was
        if back and moved.iteration > since and not moved.is_planned:
            return f"it would take {moved.key} back, which changed at iteration {moved.iteration}"
    return plan


def _decision(
    situation: Situation,
    rule: Rule,
    rung: Rung,
    plan: Plan,
    time: str | None,
    refusals: list[str],
) -> Decision:
    state, policy, stats = situation.state, situation.policy, situation.stats
    mode = mode_of(state, rule, policy)
    limits = policy.limits
    if state.decided >= limits.most_changes and rung.name not in FREE:
        mode = mode.at_most(Mode.SUGGEST)
    evidence: dict[str, Scalar] = {**evidence_of(state, stats, policy), **plan.evidence}
    evidence["changes_left"] = max(0, limits.most_changes - state.decided)
    if situation.left is not None:
        evidence["iterations_left"] = situation.left
    if refusals:
        evidence["skipped"] = "; ".join(refusals)
    because = f"{_seen(situation, rule)}; {plan.because}"
    return _of(state, rule.name, rung.name, mode, plan.changes, evidence, because, time)


def _seen(situation: Situation, rule: Rule) -> str:
    state, stats = situation.state, situation.stats
    if stats is None or not rule.needs_window:
        return rule.figure(state, stats, situation.policy)
    threshold = "the live threshold"
    if state.has_reference:
        threshold = "the reference threshold"
        if state.reference_threshold is not None:
            threshold += f" {number(state.reference_threshold)}"
    return (
        f"correctness at {threshold} was {stats.correctness:.0%} over {stats.rows} "
        f"iterations, between {stats.lower:.0%} and {stats.upper:.0%}"
    )


def _put_back(state: State, time: str | None, policy: Policy) -> Decision | None:
    """What was in force before a change that did harm."""
    harm = state.harm
    if harm is None or harm.trial.rule is None:
        return None
    rule = next((each for each in RULES if each.name == harm.trial.rule), None)
    was = {key: value for key, value in harm.trial.was.items() if value is not None}
    because = f"revision {harm.trial.revision} did harm: {harm.judged.because}; it is put back"
    evidence: dict[str, Scalar] = {"harmful_revision": harm.trial.revision, **harm.judged.evidence}
    mode = mode_of(state, rule, policy)
    if mode is Mode.OFF:
        return None
    return _of(state, harm.trial.rule, PUT_BACK, mode, was, evidence, because, time)


def _of(
    state: State,
    rule: str,
    rung: str,
    mode: Mode,
    changes: Mapping[str, Scalar],
    evidence: Mapping[str, Scalar],
    because: str,
    time: str | None,
) -> Decision:
    return Decision(
        intent=f"{rule}:{rung}:{state.attempt}.{state.iteration}",
        rule=rule,
        rung=rung,
        iteration=state.iteration,
        time=time,
        mode=mode,
        base_revision=state.revision,
        changes=changes,
        evidence=evidence,
        because=because,
    )


def take(state: State, decision: Decision) -> None:
    """A decision was made, now or in the past that is folded again."""
    is_free = decision.rung in FREE
    before = state.changed_at
    if decision.rung != PUT_BACK:
        state.taken.append(rung_id(decision))
    elif decision.mode is not Mode.ACT:
        state.harm = None
    if not is_free:
        state.changed_at = decision.iteration
    if decision.mode is Mode.SUGGEST:
        state.suggested[decision.intent] = decision
    elif not is_free:
        state.decided += 1
    if decision.mode is Mode.ACT:
        flying = InFlight(decision.base_revision + 1, decision, changed_before=before)
        state.in_flight.append(flying)
    state.said.pop(decision.rule, None)


def uncount(state: State, flying: InFlight) -> None:
    """A decision that changed nothing is none for the budget, nor for the cooldown."""
    if flying.decision is not None and flying.decision.rung not in FREE:
        state.decided -= 1
        state.changed_at = flying.changed_before
