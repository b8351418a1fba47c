"""What a policy makes of a recorded log: the live reducer over its events, its wishes granted.

A recorded log cannot do as it is told. A decision that it acknowledges within a few iterations,
with the same values, is taken as it was answered then. Any other is assumed to be acknowledged at
the next iteration (`assumed`); what follows it in the log was made under the old values, so nobody
judges it. Revisions are counted on where one was assumed.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Decision, Judged, Output, Published, Scalar
from maxrl_ops.core.in_force import CONTROLLED, InForce
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.rules import ALERTS, RULES, evidence_of
from maxrl_ops.core.state import State
from maxrl_ops.core.window import measure
from maxrl_ops.wire.record import (
    Change,
    ControlApplied,
    ControlRejected,
    Event,
    IterationRecord,
)

LOOK_AHEAD = 4
"""So many iterations after a decision its answer is looked for."""

_DWELLS = {rule.name: rule.dwell for rule in RULES}
_NAMES = (*_DWELLS, *(alert.name for alert in ALERTS))


@dataclass(slots=True)
class Firing:
    """A rule began to fire.

    Attributes:
        evidence: The window's figures and the gradient's then.
        delay: Iterations from the first that the verdict rests on to this one; None for a verdict
            that rests on no window of correctness.
        ended: When it was over; None while it was not.
    """

    rule: str
    iteration: int
    evidence: Mapping[str, Scalar]
    delay: int | None
    ended: int | None = None


@dataclass(slots=True)
class Decided:
    """A decision, and what came of it.

    Attributes:
        held: Iterations from its rule's firing to it; None where it did not fire, as when a
            harmful change is put back.
        acknowledged: `recorded` by the log, or `assumed`; None where nothing was published, as of a
            suggestion.
        revision: Its control's; None where there is none.
        judged: What it was worth, where the log acknowledged it.
    """

    decision: Decision
    held: int | None
    acknowledged: str | None = None
    revision: int | None = None
    judged: str | None = None


@dataclass(slots=True)
class Backtest:
    """What came of a log.

    Attributes:
        iterations: How many it told.
        flaps: How often a rule fired anew within `limits.oscillation` iterations after it was over,
            under the same values.
    """

    policy: Policy
    state: State
    iterations: int = 0
    firings: list[Firing] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)
    flaps: int = 0

    @property
    def assumed(self) -> int:
        """How many decisions were assumed to be acknowledged."""
        return sum(each.acknowledged == "assumed" for each in self.decisions)


def backtest(batches: Iterable[list[Event]], policy: Policy, mode: Mode = Mode.ACT) -> Backtest:
    """Fold a log's events, which come in pieces, by that policy."""
    return _Replay(iter(batches), policy, mode).run()


class _Replay:
    """One log on its way through the reducer."""

    def __init__(self, batches: Iterator[list[Event]], policy: Policy, mode: Mode) -> None:
        self._batches = batches
        self._policy = policy
        self._result = Backtest(policy, State(mode=mode))
        # The piece that is being folded, and where; pieces read ahead.
        self._piece: list[Event] = []
        self._at = 0
        self._ahead: deque[list[Event]] = deque()
        # Of the log's revisions, those of ours; and the newest of ours.
        self._revisions: dict[int, int] = {}
        self._newest = 0
        # Decisions to be acknowledged before the next iteration, for the log does not do it.
        self._to_assume: list[Decided] = []
        self._firing: set[str] = set()
        self._open: dict[str, Firing] = {}
        # When a rule was over, under which revision.
        self._over: dict[str, tuple[int, int]] = {}

    def run(self) -> Backtest:
        """To the log's end."""
        result, policy, reduce = self._result, self._policy, autopilot.reduce
        state, firing = result.state, self._firing
        while self._next_piece():
            piece = self._piece
            self._at = 0
            while self._at < len(piece):
                event = piece[self._at]
                self._at += 1
                if type(event) is IterationRecord:
                    result.iterations += 1
                    if self._to_assume:
                        self._assume()
                elif type(event) is ControlApplied or type(event) is ControlRejected:
                    event = self._renumbered(event)
                outputs = reduce(state, event, policy)[1]
                if state.firing != firing:
                    self._follow(is_judged=type(event) is IterationRecord)
                    firing = self._firing
                if outputs:
                    self._take(outputs)
        return result

    def _next_piece(self) -> bool:
        if self._ahead:
            self._piece = self._ahead.popleft()
            return True
        found = next(self._batches, None)
        self._piece = found or []
        return found is not None

    # --- Rules ------------------------------------------------------------------------------------

    def _follow(self, *, is_judged: bool) -> None:
        """What has begun to fire, and what is over.

        New values in force, or a rewind, end every firing without a verdict: that is no flapping.
        """
        state, at = self._result.state, self._result.state.iteration
        began, over = state.firing - self._firing, self._firing - state.firing
        for name in over:
            self._open.pop(name).ended = at
            if is_judged:
                self._over[name] = at, state.revision
        for name in sorted(began, key=_NAMES.index):
            self._fire(name)
        self._firing = set(state.firing)

    def _fire(self, name: str) -> None:
        state, policy = self._result.state, self._policy
        stats = measure(state.rows, policy.window)
        rests_on_window = name in _DWELLS and name not in {"NONFINITE", "UNSTABLE"}
        delay = None
        if stats is not None and rests_on_window:
            delay = stats.rows + _DWELLS[name](policy) - 1
        evidence = evidence_of(state, stats, policy)
        firing = Firing(name, state.iteration, evidence, delay)
        self._open[name] = firing
        self._result.firings.append(firing)
        ended, revision = self._over.get(name, (None, 0))
        if ended is not None and revision == state.revision:
            self._result.flaps += state.iteration - ended <= policy.limits.oscillation

    # --- Decisions --------------------------------------------------------------------------------

    def _take(self, outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            if isinstance(output, Decision):
                self._decide(output)
            elif isinstance(output, Judged):
                for each in self._result.decisions:
                    if each.revision == output.revision:
                        each.judged = output.verdict

    def _decide(self, decision: Decision) -> None:
        state = self._result.state
        began = self._open.get(decision.rule)
        held = None if began is None else decision.iteration - began.iteration
        decided = Decided(decision, held)
        self._result.decisions.append(decided)
        if decision.mode is not Mode.ACT:
            return
        decided.revision = decision.base_revision + 1
        self._newest = max(self._newest, decided.revision)
        autopilot.reduce(
            state, Published(decision.intent, decided.revision, decision.iteration), self._policy
        )
        answer = self._answer_to(decision)
        if answer is None:
            self._to_assume.append(decided)
            return
        decided.acknowledged = "recorded"
        self._revisions[answer.revision] = decided.revision

    def _answer_to(self, decision: Decision) -> ControlApplied | ControlRejected | None:
        """The log's own answer to such values, where it comes soon."""
        state = self._result.state
        wanted = {key: value for key, value in decision.changes.items() if key in CONTROLLED}
        seen = 0
        for event in self._coming():
            match event:
                case IterationRecord():
                    seen += 1
                    if seen > LOOK_AHEAD:
                        return None
                case ControlApplied() if event.revision not in self._revisions:
                    told = {each.key for each in event.changes if each.key in CONTROLLED}
                    now = state.in_force.after(event.changes)
                    if told == wanted.keys() and _has(now, wanted):
                        return event
                    return None
                case ControlRejected(revision) if revision == decision.base_revision + 1:
                    # What was rejected the log does not tell; whose number it has, it is.
                    return None if self._is_shifted else event
        return None

    def _coming(self) -> Iterator[Event]:
        yield from self._piece[self._at :]
        for piece in list(self._ahead):
            yield from piece
        for piece in self._batches:
            self._ahead.append(piece)
            yield from piece

    def _assume(self) -> None:
        """The trainer does as it was told, at the iteration that comes now."""
        state = self._result.state
        for decided in self._to_assume:
            decided.acknowledged = "assumed"
            changes = tuple(
                Change(key, str(value), str(getattr(state.in_force, key)))
                for key, value in decided.decision.changes.items()
                if key in CONTROLLED
            )
            revision = decided.revision or 0
            applied = ControlApplied(revision, state.iteration + 1, changes)
            outputs = autopilot.reduce(state, applied, self._policy)[1]
            # The rest of the log was made without the change: it cannot tell what that was worth.
            state.trial = None
            self._take(outputs)
        self._to_assume = []
        self._follow(is_judged=False)

    def _renumbered(
        self, event: ControlApplied | ControlRejected
    ) -> ControlApplied | ControlRejected:
        """With the revision that it would have had here."""
        ours = self._revisions.get(event.revision)
        if ours is None:
            ours = max(event.revision, self._newest + 1) if self._is_shifted else event.revision
            self._revisions[event.revision] = ours
        self._newest = max(self._newest, ours)
        if ours == event.revision:
            return event
        if isinstance(event, ControlApplied):
            return ControlApplied(ours, event.iteration, event.changes)
        return ControlRejected(ours, event.reason)

    @property
    def _is_shifted(self) -> bool:
        return self._result.assumed > 0 or bool(self._to_assume)


def _has(now: InForce, wanted: Mapping[str, Scalar]) -> bool:
    return all(_is_same(getattr(now, key), value) for key, value in wanted.items())


def _is_same(told: Scalar | None, wanted: Scalar) -> bool:
    if isinstance(told, float) and isinstance(wanted, float):
        return math.isclose(told, wanted, rel_tol=1e-6)
    return told == wanted
