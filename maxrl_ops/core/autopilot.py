"""The autopilot: events in, decisions out. One pure function for live, dry run and backtest.

Two kinds of event go in: what the trainer's log tells, and what happens in control/ beside it
(Published, Superseded, ForeignControl). Time is the iteration. Whoever restarts folds the stored
events again with `deciding=False`, the decisions of that time among them: the past is never decided
anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from maxrl_ops.core.decision import (
    Answered,
    Decision,
    ForeignControl,
    Hold,
    Input,
    Output,
    Published,
    Superseded,
)
from maxrl_ops.core.in_force import InForce
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.rules import RULES, Plan, Rule, Rung, Situation, evidence_of
from maxrl_ops.core.window import MOST_ROWS, Row, WindowStats, measure, row_of
from maxrl_ops.wire.logformat import number
from maxrl_ops.wire.record import (
    ControlApplied,
    ControlRejected,
    IterationRecord,
    RunStarted,
)


@dataclass(frozen=True, slots=True)
class InFlight:
    """A control that the trainer has not answered.

    Attributes:
        revision: Its number; of a decision that is not published yet, the one it is to get.
        intent: The decision's; None for somebody else's control.
        published_at: The trainer looks for it behind this iteration; None before it is published.
        is_unconfirmed: It was to be answered by now.
        changed_before: The state's `changed_at` without this decision.
    """

    revision: int
    intent: str | None = None
    published_at: int | None = None
    is_unconfirmed: bool = False
    changed_before: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that a decision depends on.

    Attributes:
        attempt: The trainer's.
        hand_over_to: The objective that an adaptive run is to end with; None for any other run.
        iteration: The newest current one.
        revision: The newest that the trainer has answered, 0 before the first.
        revision_since: The iteration from which the answered revision holds.
        rows: Iterations of that revision, oldest first, the newest MOST_ROWS.
        streaks: For how many iterations in a row each rule's condition has held.
        firing: Rules that fire.
        evaluated: How often each rule came to a verdict; never goes down.
        taken: Rungs taken, as `RULE.rung`.
        decided: How many changes were decided on, those superseded or rejected not counted.
        changed_at: The iteration of the newest of them; None before the first.
        blocked_until: No decision up to this iteration: the log has been read beyond it already.
        in_flight: Controls that await an answer, the autopilot's own and others'.
        hold: What was said last.
    """

    mode: Mode = Mode.ACT
    attempt: int = 1
    iteration: int = 0
    target_iterations: int | None = None
    reference_threshold: float | None = None
    bounds: tuple[float, float] | None = None
    in_force: InForce = field(default_factory=InForce)
    hand_over_to: str | None = None
    revision: int = 0
    revision_since: int = 0
    rows: tuple[Row, ...] = ()
    streaks: Mapping[str, int] = field(default_factory=dict)
    firing: frozenset[str] = frozenset()
    evaluated: Mapping[str, int] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    decided: int = 0
    changed_at: int | None = None
    blocked_until: int = 0
    in_flight: tuple[InFlight, ...] = ()
    hold: Hold | None = None


Step = tuple[State, tuple[Output, ...]]


def reduce(  # noqa: PLR0911 - one case a kind of event
    state: State, event: Input, policy: Policy, *, deciding: bool = True
) -> Step:
    """Take one event in: the new state, and what is to be said or done about it."""
    match event:
        case RunStarted():
            return _start(state, event), ()
        case IterationRecord():
            return _iterate(state, event, policy, deciding=deciding)
        case ControlApplied() | ControlRejected():
            return _answer(state, event)
        case Decision():
            return _decide(state, event), ()
        case Published():
            return _publish(state, event), ()
        case ForeignControl():
            return _await(state, event), ()
        case Superseded():
            return _supersede(state, event), ()
        case _:
            return state, ()


# --- Facts ----------------------------------------------------------------------------------------


def _start(state: State, header: RunStarted) -> State:
    """An attempt begins: rows beyond its checkpoint are superseded, decisions stay."""
    first = (header.resumed_from or 0) + 1
    return replace(
        _rewound(state, first),
        attempt=header.attempt or state.attempt + 1,
        target_iterations=header.target_iterations or state.target_iterations,
        reference_threshold=header.reference_threshold,
        bounds=header.bounds,
        hand_over_to=header.hand_over_to if header.schedule == "adaptive" else None,
        in_force=InForce.at_start(header),
    )


def _rewound(state: State, first: int) -> State:
    """Without the rows from iteration `first` on; a verdict must stand again."""
    kept = tuple(row for row in state.rows if row.iteration < first)
    return replace(
        state,
        iteration=min(state.iteration, first - 1),
        # Iterations may be counted anew: nothing may wait for one that is far ahead then.
        revision_since=min(state.revision_since, first),
        changed_at=_at_most(first, state.changed_at),
        in_flight=tuple(
            replace(flying, changed_before=_at_most(first, flying.changed_before))
            for flying in state.in_flight
        ),
        blocked_until=min(state.blocked_until, first - 1),
        rows=kept,
        streaks={},
        firing=frozenset(),
    )


def _at_most(first: int, iteration: int | None) -> int | None:
    return None if iteration is None else min(iteration, first)


def _answer(state: State, event: ControlApplied | ControlRejected) -> Step:
    """The trainer has answered a revision; one that it answered before is being replayed."""
    is_new = event.revision > state.revision
    outputs: list[Output] = []
    if isinstance(event, ControlApplied):
        iteration = event.iteration
        state = _restarted(replace(state, in_force=state.in_force.after(event.changes)), iteration)
        answer = Answered(event.revision, "applied", iteration, state.in_force.known())
    else:
        iteration = state.iteration + 1
        known = state.in_force.known()
        answer = Answered(event.revision, "rejected", iteration, known, event.reason)
    if is_new:
        outputs.append(answer)
    answered = _answered_by(state, event.revision)
    for flying in answered:
        if flying.revision < event.revision:
            later = f"the trainer took over revision {event.revision}, which came after it"
            known = state.in_force.known()
            outputs.append(Answered(flying.revision, "superseded", iteration, known, later))
        if flying.intent is not None and answer.outcome == "applied":
            state = replace(state, changed_at=iteration)
        elif flying.intent is not None:
            state = _uncounted(state, flying)
    left = tuple(flying for flying in state.in_flight if flying not in answered)
    revision = max(state.revision, event.revision)
    return replace(state, in_flight=left, revision=revision), tuple(outputs)


def _answered_by(state: State, revision: int) -> list[InFlight]:
    """What an answer to `revision` is the answer to: the trainer reads the newest control only.

    A number alone tells nothing of a decision that is not published: somebody else may have it.
    """
    published = (flying for flying in state.in_flight if flying.published_at is not None)
    return [flying for flying in published if flying.revision <= revision]


def _restarted(state: State, iteration: int) -> State:
    """A revision begins: its window holds no iteration of another."""
    return replace(state, revision_since=iteration, rows=(), streaks={}, firing=frozenset())


def _decide(state: State, decision: Decision) -> State:
    revision = decision.base_revision + 1
    flying = InFlight(revision, decision.intent, changed_before=state.changed_at)
    flies = decision.mode is Mode.ACT
    return replace(
        state,
        taken=(*state.taken, _rung_id(decision.rule, decision.rung)),
        decided=state.decided + 1,
        changed_at=decision.iteration,
        in_flight=(*state.in_flight, flying) if flies else state.in_flight,
        hold=None,
    )


def _publish(state: State, event: Published) -> State:
    def published(flying: InFlight) -> InFlight:
        if flying.intent != event.intent:
            return flying
        return replace(flying, revision=event.revision, published_at=event.iteration)

    return replace(state, in_flight=tuple(map(published, state.in_flight)))


def _await(state: State, found: ForeignControl) -> State:
    if found.revision <= state.revision:
        return state
    flying = InFlight(found.revision, published_at=found.iteration)
    return replace(state, in_flight=(*state.in_flight, flying))


def _supersede(state: State, event: Superseded) -> State:
    """The rung may be taken again, once the log has been read as far as it had come."""
    flying = next((each for each in state.in_flight if each.intent == event.intent), None)
    if flying is None:
        return state
    rule, rung, _ = event.intent.split(":", 2)
    return replace(
        _uncounted(state, flying),
        taken=tuple(taken for taken in state.taken if taken != _rung_id(rule, rung)),
        blocked_until=event.iteration,
        in_flight=tuple(each for each in state.in_flight if each is not flying),
    )


def _uncounted(state: State, flying: InFlight) -> State:
    """A decision that changed nothing is none for the budget, nor for the cooldown."""
    return replace(state, decided=state.decided - 1, changed_at=flying.changed_before)


def _rung_id(rule: str, rung: str) -> str:
    return f"{rule}.{rung}"


# --- Verdicts -------------------------------------------------------------------------------------


def _iterate(state: State, record: IterationRecord, policy: Policy, *, deciding: bool) -> Step:
    if record.iteration <= state.iteration:
        # A trainer without headers that starts again says an earlier iteration again.
        state = replace(_rewound(state, record.iteration), attempt=state.attempt + 1)
    row = row_of(record)
    state = replace(
        state,
        iteration=record.iteration,
        target_iterations=record.target_iterations or state.target_iterations,
        rows=state.rows if row is None else (*state.rows, row)[-MOST_ROWS:],
    )
    state, silence = _missed_answers(state, policy)
    stats = (
        measure(state.rows, policy.window.sizes, policy.window.least_effective, policy.window.z)
        if row
        else None
    )
    if stats is None:
        # Verdicts in a row end where there is none.
        state = replace(state, streaks={})
        key, because = _no_verdict(state, policy) if row else _SILENT
        return _hold(state, "all", key, because, silence)
    situation = _situation(state, stats)
    state = _with_verdicts(state, situation, policy)
    outcome = _judged(state, situation, policy, record)
    if isinstance(outcome, Hold):
        return _hold(state, outcome.rule, outcome.key, outcome.because, silence)
    if not deciding:
        return state, silence
    return _decide(state, outcome), (*silence, outcome)


def _missed_answers(state: State, policy: Policy) -> Step:
    """Say once of each control that it was not answered in time; a late answer still counts."""
    missed = [
        flying
        for flying in state.in_flight
        if flying.published_at is not None
        and not flying.is_unconfirmed
        and state.iteration > flying.published_at + policy.limits.unconfirmed_after
    ]
    if not missed:
        return state, ()
    because = f"no answer within {policy.limits.unconfirmed_after} iterations"
    at, known = state.iteration, state.in_force.known()
    in_flight = tuple(
        replace(flying, is_unconfirmed=True) if flying in missed else flying
        for flying in state.in_flight
    )
    return replace(state, in_flight=in_flight), tuple(
        Answered(flying.revision, "unconfirmed", at, known, because) for flying in missed
    )


def _hold(state: State, rule: str, key: str, because: str, before: tuple[Output, ...] = ()) -> Step:
    said = state.hold
    if said is not None and (said.rule, said.key) == (rule, key):
        return state, before
    hold = Hold(rule, key, state.iteration, because)
    return replace(state, hold=hold), (*before, hold)


_SILENT = ("silent", "the log tells no reference correctness")


def _no_verdict(state: State, policy: Policy) -> tuple[str, str]:
    on = f" on revision {state.revision}" if state.revision else ""
    return "window", (
        f"a verdict{on} needs at least {policy.window.sizes[0]} iterations "
        f"and {number(policy.window.least_effective)} independent samples"
    )


def _situation(state: State, stats: WindowStats) -> Situation:
    return Situation(
        stats,
        state.in_force.correctness_threshold,
        state.bounds,
        state.in_force.objective,
        state.hand_over_to,
    )


def _with_verdicts(state: State, situation: Situation, policy: Policy) -> State:
    streaks: dict[str, int] = {}
    firing: set[str] = set()
    evaluated = dict(state.evaluated)
    for rule in _concerned(situation):
        name, stats = rule.name, situation.stats
        evaluated[name] = evaluated.get(name, 0) + 1
        streaks[name] = state.streaks.get(name, 0) + 1 if rule.holds(stats, policy) else 0
        still_fires = name in state.firing and not rule.clears(stats, policy)
        if streaks[name] >= policy.low.dwell or still_fires:
            firing.add(name)
    return replace(state, streaks=streaks, firing=frozenset(firing), evaluated=evaluated)


def _concerned(situation: Situation) -> list[Rule]:
    return [rule for rule in RULES if rule.concerns(situation)]


def _judged(
    state: State, situation: Situation, policy: Policy, record: IterationRecord
) -> Decision | Hold:
    """The first firing rule's next rung, or what stands against a change."""
    concerned = _concerned(situation)
    idle: Hold | None = None
    for rule in concerned:
        if rule.name not in state.firing:
            continue
        outcome = _next_rung(state, rule, situation, policy, record)
        if not isinstance(outcome, Hold) or outcome.key not in _IDLE:
            return outcome
        idle = idle or outcome
    if idle is not None:
        return idle
    # The least urgent: of an adaptive run the one that it waits for.
    last = concerned[-1]
    because = f"{last.name} not fired: {last.bound(situation.stats)}"
    return Hold(last.name, "not fired", state.iteration, because)


# A rule that fires and wants no change keeps no other one from its own.
_IDLE = frozenset({"rising", "no remedy"})


def _next_rung(
    state: State, rule: Rule, situation: Situation, policy: Policy, record: IterationRecord
) -> Decision | Hold:
    stats = situation.stats
    fires = f"{rule.name} fires ({rule.bound(stats)})"
    if (objection := _objection(state, rule, stats, policy)) is not None:
        key, because = objection
        return Hold(rule.name, key, state.iteration, f"{fires}, held: {because}")
    refusals = []
    for rung in rule.ladder:
        if _rung_id(rule.name, rung.name) in state.taken:
            refusals.append(f"{rung.name}: taken already")
            continue
        plan = rung.plan(situation, policy)
        if isinstance(plan, Plan):
            return _decision(state, stats, (rule, rung), plan, record.at)
        refusals.append(f"{rung.name}: {plan}")
    because = f"{fires}, no remedy left; {'; '.join(refusals)}"
    return Hold(rule.name, "no remedy", state.iteration, because)


def _objection(
    state: State, rule: Rule, stats: WindowStats, policy: Policy
) -> tuple[str, str] | None:
    """What stands against a change by that rule now: its key and words."""
    at, width = state.iteration, len(stats.rows)
    settled = state.revision_since + policy.limits.settle + width
    cooled = at if state.changed_at is None else state.changed_at + policy.limits.cooldown
    left = None if state.target_iterations is None else state.target_iterations - at
    flying = max(state.in_flight, key=lambda each: each.is_unconfirmed, default=None)
    objections = (
        (
            flying is not None,
            "unconfirmed" if flying is not None and flying.is_unconfirmed else "in flight",
            f"revision {flying.revision if flying else 0} is not answered yet",
        ),
        (
            at <= state.blocked_until,
            "behind",
            f"the log has come to iteration {state.blocked_until} already",
        ),
        (
            rule.waits(stats, policy),
            "rising",
            f"correctness rises by {stats.slope.value if stats.slope else 0:.2g} an iteration",
        ),
        (
            state.revision > 0 and at < settled,
            "settling",
            f"revision {state.revision} settles until iteration {settled}",
        ),
        (at < cooled, "cooldown", f"cooldown until iteration {cooled}"),
        (
            state.decided >= policy.limits.most_changes,
            "budget",
            f"{state.decided} changes were made in this run, that is all it gets",
        ),
        (
            left is not None and left < policy.limits.least_left,
            "late",
            f"{left} iterations are left, {policy.limits.least_left} are needed",
        ),
    )
    return next(((key, words) for holds, key, words in objections if holds), None)


def _decision(
    state: State, stats: WindowStats, step: tuple[Rule, Rung], plan: Plan, time: str | None
) -> Decision:
    rule, rung = step
    reference = "the reference threshold"
    if state.reference_threshold is not None:
        reference += f" {number(state.reference_threshold)}"
    return Decision(
        intent=f"{rule.name}:{rung.name}:{state.attempt}.{state.iteration}",
        rule=rule.name,
        rung=rung.name,
        iteration=state.iteration,
        time=time,
        mode=state.mode,
        base_revision=state.revision,
        changes=plan.changes,
        evidence={**evidence_of(stats), **plan.evidence},
        because=(
            f"correctness at {reference} was {stats.correctness:.0%} over {len(stats.rows)} "
            f"iterations, between {stats.interval.lower:.0%} and {stats.interval.upper:.0%}; "
            f"{plan.because}"
        ),
    )
