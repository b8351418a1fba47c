"""The autopilot: events in, decisions out. One reducer for live, dry run and backtest.

Two kinds of event go in: what the trainer's log tells, and what happens in control/ beside it
(Published, Superseded, ForeignControl, Declined, Frozen, ModeSet). PolicyChanged is for whoever
calls: which policy is handed in. Time is the iteration. Whoever restarts
folds the stored events again with `deciding=False`, the decisions of that time among them: the past
is never decided anew.

`reduce` does no I/O, looks at no clock and draws no lots: the same events give the same outputs.
The state handed in is changed in place and handed back.
"""

from collections.abc import Callable, Mapping
from typing import Any

from maxrl_ops.core import deciding as decisions
from maxrl_ops.core import judging, verdicts
from maxrl_ops.core.deciding import FREE, PUT_BACK, rung_id, uncount
from maxrl_ops.core.decision import (
    Answered,
    Decision,
    Declined,
    ForeignControl,
    Frozen,
    Input,
    ModeSet,
    Output,
    Published,
    Scalar,
    Superseded,
)
from maxrl_ops.core.in_force import CONTROLLED
from maxrl_ops.core.judging import Harm, Trial
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.state import InFlight, Moved, State, WarmUp
from maxrl_ops.core.window import measure
from maxrl_ops.wire.record import (
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    IterationRecord,
    RunStarted,
    UpdateSkipped,
)

__all__ = ["InFlight", "State", "reduce"]

Step = tuple[State, tuple[Output, ...]]


def reduce(state: State, event: Input, policy: Policy, *, deciding: bool = True) -> Step:
    """Take one event in: the state, changed, and what is to be said or done about it."""
    take = _TAKERS.get(type(event))
    if take is None:
        return state, ()
    outputs: list[Output] = []
    take(state, event, policy, outputs, deciding)
    return state, tuple(outputs)


# --- An iteration ---------------------------------------------------------------------------------


def _iterate(
    state: State,
    record: IterationRecord,
    policy: Policy,
    outputs: list[Output],
    deciding: bool,
) -> None:
    at = record.iteration
    if at <= state.iteration:
        # A trainer without headers that starts again says an earlier iteration again.
        state.rewind(at)
        state.attempt += 1
    state.iteration = at
    if record.target_iterations:
        state.target_iterations = record.target_iterations
    state.is_blind = (record.unscored or 0) > (record.n_total or 0)
    if state.in_flight:
        _miss_answers(state, policy, outputs)
    if not _append(state, record, policy):
        state.streaks.clear()
        verdicts.say(state, "all", "silent", lambda: _SILENT, outputs)
        return
    stats = measure(state.rows, policy.window)
    if stats is not None and (not state.peaks or stats.lower > state.peaks[-1][1]):
        state.peaks.append((at, stats.lower))
    if state.trial is not None:
        _judge(state, policy, outputs)
    verdicts.take(state, stats, policy, outputs)
    if not state.firing and state.harm is None:
        return
    decision = decisions.decide(state, stats, record.at, policy, outputs)
    # Of the past, what was decided then comes as an event.
    if decision is not None and deciding:
        decisions.take(state, decision)
        outputs.append(decision)


_SILENT = "this iteration tells no correctness that could be judged"


def _append(state: State, record: IterationRecord, policy: Policy) -> bool:
    """Take the record's figures in; whether it tells correctness.

    Correctness at the reference threshold where the log has it, else, in a foreign one, at the
    live threshold. A log that has told it once is not judged at another threshold in between.
    """
    k, n = record.reference_correct, record.reference_total
    if k is not None:
        state.has_reference = True
    elif not state.has_reference:
        k, n = record.n_correct, record.n_total
    norm, loss = record.grad_norm, record.loss
    if norm is not None:
        state.gradient.append(norm, policy.unstable)
    # NaN and infinity are what is not itself less itself.
    if (loss is not None and loss - loss != 0) or (norm is not None and norm - norm != 0):
        _skip(state, record.iteration, policy)
    state.progress.append(record, policy.hacking.window, is_ours=state.has_reference)
    # A log may write anything: more correct samples than samples are no observation.
    if k is None or not n or not 0 <= k <= n:
        return False
    state.rows.append(record, k, n)
    return True


def _skip(state: State, iteration: int, policy: Policy) -> None:
    """An update was not taken; both its line and the iteration's record may say so."""
    if iteration in state.skipped:
        return
    first = iteration - policy.nonfinite.within
    state.skipped = [n for n in state.skipped if n > first] + [iteration]


def _miss_answers(state: State, policy: Policy, outputs: list[Output]) -> None:
    """Say once of each control that it was not answered in time; a late answer still counts."""
    within = policy.limits.unconfirmed_after
    for flying in state.in_flight:
        if flying.published_at is None or flying.is_unconfirmed:
            continue
        if state.iteration > flying.published_at + within:
            flying.is_unconfirmed = True
            because = f"no answer within {within} iterations"
            known = state.in_force.known()
            outputs.append(
                Answered(flying.revision, "unconfirmed", state.iteration, known, because)
            )


def _judge(state: State, policy: Policy, outputs: list[Output]) -> None:
    trial = state.trial
    if trial is None or trial.since is None or state.rows.count < policy.judging.after:
        return
    judged = judging.judge(trial, state.rows, state.iteration, policy)
    state.trial = None
    if judged.verdict == "harmed" and trial.may_be_put_back:
        state.harm = Harm(trial, judged)
    outputs.append(judged)


# --- What else the log tells ----------------------------------------------------------------------


def _start(state: State, event: RunStarted, *_: Any) -> None:
    state.begin(event)


def _evaluate(state: State, event: Evaluated, policy: Policy, *_: Any) -> None:
    # It counts what has no verdict as wrong: of a verifier that is down it tells nothing else.
    if not state.is_blind:
        state.held_out.evaluate(event, policy.collapse.held_out_errors)


def _save(state: State, event: CheckpointSaved, *_: Any) -> None:
    state.held_out.save(event.iteration)


def _update_skipped(state: State, event: UpdateSkipped, policy: Policy, *_: Any) -> None:
    _skip(state, event.iteration, policy)


# --- Answers --------------------------------------------------------------------------------------


def _apply(
    state: State, event: ControlApplied, policy: Policy, outputs: list[Output], *_: Any
) -> None:
    """Other values are in force; a revision that was answered before is being replayed."""
    before = state.in_force
    state.in_force = before.after(event.changes)
    state.set_rate(event.iteration)
    known = state.in_force.known()
    is_new = event.revision > state.revision
    if is_new:
        outputs.append(Answered(event.revision, "applied", event.iteration, known))
    decision = _settle_answers(state, event.revision, event.iteration, outputs)
    changed: dict[str, Scalar | None] = {
        change.key: getattr(before, change.key)
        for change in event.changes
        if change.key in CONTROLLED
    }
    if decision is not None and decision.rung not in FREE:
        state.changed_at = event.iteration
    # Who pauses, or saves a checkpoint, changes nothing of the training.
    if changed:
        if is_new:
            _try(state, event, decision, changed, policy, outputs)
        elif state.trial is not None and state.trial.revision == event.revision:
            state.trial = judging.since(state.trial, event.iteration)
        state.restart_window(event.iteration)
    state.revision = max(state.revision, event.revision)


def _try(
    state: State,
    event: ControlApplied,
    decision: Decision | None,
    was: Mapping[str, Scalar | None],
    policy: Policy,
    outputs: list[Output],
) -> None:
    """A change is in force for the first time: it is to be judged, and remembered."""
    if state.trial is not None:
        after = policy.judging.after
        why = f"revision {event.revision} came before {after} iterations had followed"
        outputs.append(judging.unjudged(state.trial, event.iteration, why))
    rule, rung = (None, None) if decision is None else (decision.rule, decision.rung)
    state.trial = Trial(
        event.revision, rule, rung, was, judging.before(state.rows, policy), event.iteration
    )
    state.harm = None
    # What was suggested was so on top of other values.
    for suggestion in state.suggested.values():
        if rung_id(suggestion) in state.taken:
            state.taken.remove(rung_id(suggestion))
    state.suggested = {}
    # A restart during a warm-up begins with the warm-up's objective again.
    if "objective" in was and "restart_from" not in ({} if decision is None else decision.changes):
        state.warm_up = None
        if rung == "warm_up":
            state.warm_up = WarmUp(str(was["objective"]), event.iteration)
    _remember(state, event.iteration, decision, was, policy)


def _remember(
    state: State,
    iteration: int,
    decision: Decision | None,
    was: Mapping[str, Scalar | None],
    policy: Policy,
) -> None:
    """Freeze whose change is taken back within a while, and who takes it back."""
    rule = None if decision is None else decision.rule
    is_planned = decision is not None and decision.rung in {"warm_up", "return"}
    first = iteration - policy.limits.oscillation
    state.moved = [moved for moved in state.moved if moved.iteration > first]
    for key, old in was.items():
        new = getattr(state.in_force, key)
        for moved in state.moved:
            if moved.key == key and moved.was == new and not moved.is_planned and not is_planned:
                state.frozen |= {name for name in (moved.rule, rule) if name is not None}
        state.moved.append(Moved(key, old, new, iteration, rule, is_planned))


def _reject(
    state: State, event: ControlRejected, _: Policy, outputs: list[Output], *__: Any
) -> None:
    iteration = state.iteration + 1
    if event.revision > state.revision:
        known = state.in_force.known()
        outputs.append(Answered(event.revision, "rejected", iteration, known, event.reason))
    rejected = [each for each in _answered_by(state, event.revision) if each.decision is not None]
    _settle_answers(state, event.revision, iteration, outputs)
    for flying in rejected:
        uncount(state, flying)
        if flying.decision is not None and flying.decision.rung == PUT_BACK:
            state.harm = None
    state.revision = max(state.revision, event.revision)


def _answered_by(state: State, revision: int) -> list[InFlight]:
    """What an answer to `revision` is the answer to: the trainer reads the newest control only.

    A number alone tells nothing of a decision that is not published: somebody else may have it.
    """
    published = (flying for flying in state.in_flight if flying.published_at is not None)
    return [flying for flying in published if flying.revision <= revision]


def _settle_answers(
    state: State, revision: int, iteration: int, outputs: list[Output]
) -> Decision | None:
    """Nothing up to `revision` is in flight any more; the decision that the answer is one to."""
    answered = _answered_by(state, revision)
    for flying in answered:
        if flying.revision < revision:
            later = f"the trainer took over revision {revision}, which came after it"
            known = state.in_force.known()
            outputs.append(Answered(flying.revision, "superseded", iteration, known, later))
    state.in_flight = [each for each in state.in_flight if each not in answered]
    # A person's change on top of ours holds ours too; it is still theirs to judge.
    ours = [flying.decision for flying in answered if flying.decision is not None]
    return ours[-1] if ours else None


# --- What happens in control/ ---------------------------------------------------------------------


def _decide(state: State, event: Decision, *_: Any) -> None:
    decisions.take(state, event)


def _publish(state: State, event: Published, *_: Any) -> None:
    for flying in state.in_flight:
        if flying.decision is not None and flying.decision.intent == event.intent:
            flying.revision, flying.published_at = event.revision, event.iteration
            return
    approved = state.suggested.pop(event.intent, None)
    if approved is not None and approved.rung not in FREE:
        state.decided += 1
    if event.revision > state.revision:
        flying = InFlight(event.revision, approved, event.iteration, False, state.changed_at)
        state.in_flight.append(flying)


def _await(state: State, event: ForeignControl, *_: Any) -> None:
    if event.revision > state.revision:
        state.in_flight.append(InFlight(event.revision, published_at=event.iteration))


def _supersede(state: State, event: Superseded, *_: Any) -> None:
    """The rung may be taken again, once the log has been read as far as it had come."""
    for flying in state.in_flight:
        if flying.decision is not None and flying.decision.intent == event.intent:
            uncount(state, flying)
            if rung_id(flying.decision) in state.taken:
                state.taken.remove(rung_id(flying.decision))
            state.blocked_until = event.iteration
            state.in_flight.remove(flying)
            return


def _decline(state: State, event: Declined, *_: Any) -> None:
    """A suggestion is off; its rung stays taken."""
    state.suggested.pop(event.intent, None)


def _set_mode(state: State, event: ModeSet, *_: Any) -> None:
    state.mode = event.mode


def _freeze(state: State, event: Frozen, *_: Any) -> None:
    state.is_frozen = event.is_frozen


_TAKERS: Mapping[type, Callable[..., None]] = {
    IterationRecord: _iterate,
    RunStarted: _start,
    Evaluated: _evaluate,
    CheckpointSaved: _save,
    UpdateSkipped: _update_skipped,
    ControlApplied: _apply,
    ControlRejected: _reject,
    Decision: _decide,
    Published: _publish,
    ForeignControl: _await,
    Superseded: _supersede,
    Declined: _decline,
    Frozen: _freeze,
    ModeSet: _set_mode,
}
