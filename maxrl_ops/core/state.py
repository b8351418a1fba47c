"""All that a decision depends on, and what becomes of it when a run goes back.

A state is changed in place: millions of iterations are folded, and a copy of each would cost more
than the rules do. Whoever wants to keep one copies it (copy.deepcopy).
"""

import math
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field, replace

from maxrl_ops.core.decision import Decision, Scalar
from maxrl_ops.core.gradient import Gradient
from maxrl_ops.core.in_force import InForce
from maxrl_ops.core.judging import Harm, Trial
from maxrl_ops.core.learning import Progress
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.window import Rows
from maxrl_ops.wire.record import Evaluated, RunStarted


@dataclass(slots=True)
class InFlight:
    """A control that the trainer has not answered.

    Attributes:
        revision: Its number; of a decision that is not published yet, the one it is to get.
        decision: What it carries; None for somebody else's control.
        published_at: The trainer looks for it behind this iteration; None before it is published.
        is_unconfirmed: It was to be answered by now.
        changed_before: The state's `changed_at` without this decision.
    """

    revision: int
    decision: Decision | None = None
    published_at: int | None = None
    is_unconfirmed: bool = False
    changed_before: int | None = None


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A GRPO warm-up in force.

    Attributes:
        objective: The one to return to.
        since: Its first iteration.
    """

    objective: str
    since: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A value that a control changed.

    Attributes:
        iteration: From which on `value` was in force.
        rule: Whose change it was; None for a person's.
        is_planned: A planned return, or the way into it: no oscillation.
    """

    key: str
    was: Scalar | None
    value: Scalar | None
    iteration: int
    rule: str | None
    is_planned: bool


@dataclass(slots=True)
class HeldOut:
    """Held-out evaluations, and the checkpoints they speak for.

    Attributes:
        first: The run's first evaluation.
        below: How many running lay clearly below it.
        newest: The last one.
        pass_at_1: By iteration, of those evaluations a checkpoint may still be saved with.
        saved: Iterations of the checkpoints that the trainer keeps: the best, and the newest two;
            and 0, which needs none: the model that the run began with.
    """

    first: Evaluated | None = None
    below: int = 0
    newest: Evaluated | None = None
    pass_at_1: dict[int, float] = field(default_factory=dict)
    saved: list[int] = field(default_factory=lambda: [0])

    def evaluate(self, event: Evaluated, errors: float) -> None:
        """Take an evaluation in; `errors` standard errors below the first one are clear."""
        now = event.pass_at_k.get(1)
        if now is None or now != now:  # noqa: PLR0124 - NaN
            return
        self.newest = event
        self.pass_at_1[event.iteration] = now
        if self.first is None:
            self.first = event
            return
        error = math.hypot(self.first.se, event.se)
        fell = self.first.pass_at_k[1] - now > errors * error
        self.below = self.below + 1 if fell else 0

    def save(self, iteration: int) -> None:
        """A checkpoint is complete."""
        if iteration not in self.saved:
            self.saved.append(iteration)
        best, newest = self.best(), sorted(self.saved)[-2:]
        self.saved = sorted(n for n in self.saved if n in {0, best, *newest})
        kept = {*self.saved, iteration}
        self.pass_at_1 = {n: p for n, p in self.pass_at_1.items() if n in kept or n > iteration}

    def best(self) -> int | None:
        """The checkpoint with the highest held-out pass@1, the older of equals."""
        evaluated = sorted(n for n in self.saved if n in self.pass_at_1)
        return max(evaluated, key=self.pass_at_1.__getitem__, default=None)

    def rewind(self, first: int) -> None:
        """Without what came behind the checkpoint before iteration `first`."""
        self.saved = [n for n in self.saved if n < max(first, 1)]
        self.pass_at_1 = {n: p for n, p in self.pass_at_1.items() if n < first}
        self.below = 0
        if self.first is not None and self.first.iteration >= first:
            self.first = None
        if self.newest is not None and self.newest.iteration >= first:
            self.newest = None


@dataclass(slots=True)
class State:
    """All that a decision depends on.

    Attributes:
        mode: The run's; a policy may allow less.
        is_frozen: Nobody's autopilot changes anything on this host.
        attempt: The trainer's.
        iteration: The newest current one.
        is_blind: The newest iteration had a verdict on fewer than half of its samples.
        has_reference: The log tells correctness at the reference threshold.
        began_with: The objective that an adaptive run begins with.
        hand_over_to: The objective that it is to end with; None for any other run.
        revision: The newest that the trainer has answered, 0 before the first.
        revision_since: The iteration from which the values in force hold.
        rows: Iterations since then.
        gradient: Their gradient norms.
        progress: What the alerts look at.
        peaks: (iteration, lower bound of correctness) of each new highest of the run.
        held_out: Evaluations and checkpoints.
        skipped: Iterations whose update was not finite, the newest ones.
        rates: (iteration, learning rate in force from it on).
        streaks: For how many iterations in a row a rule's condition has held; none where it does
            not hold.
        firing: Rules that fire.
        judged: For how many iterations the rules came to a verdict; never goes down.
        looks_again: A firing rule without a remedy looks for one again at this iteration.
        taken: Rungs taken, as `RULE.rung`.
        decided: How many changes were decided on, those superseded or rejected not counted.
        changed_at: The iteration of the newest of them; None before the first.
        blocked_until: No decision up to this iteration: the log has been read beyond it already.
        in_flight: Controls that await an answer, the autopilot's own and others'.
        suggested: Decisions that wait for approval, by intent.
        warm_up: The one in force.
        moved: What controls changed, oldest first, as far back as an oscillation may reach.
        frozen: Rules that may change nothing any more.
        trial: The newest change, while it is to be judged.
        harm: The change that was judged harmful and is to be put back.
        said: Each rule's reason for no change, as said last.
    """

    mode: Mode = Mode.ACT
    is_frozen: bool = False
    is_blind: bool = False
    attempt: int = 1
    iteration: int = 0
    target_iterations: int | None = None
    reference_threshold: float | None = None
    bounds: tuple[float, float] | None = None
    has_reference: bool = False
    in_force: InForce = field(default_factory=InForce)
    began_with: str | None = None
    hand_over_to: str | None = None
    revision: int = 0
    revision_since: int = 0
    rows: Rows = field(default_factory=Rows)
    gradient: Gradient = field(default_factory=Gradient)
    progress: Progress = field(default_factory=Progress)
    peaks: list[tuple[int, float]] = field(default_factory=list)
    held_out: HeldOut = field(default_factory=HeldOut)
    skipped: list[int] = field(default_factory=list)
    rates: list[tuple[int, float]] = field(default_factory=list)
    streaks: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    firing: set[str] = field(default_factory=set)
    judged: int = 0
    looks_again: dict[str, int] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    decided: int = 0
    changed_at: int | None = None
    blocked_until: int = 0
    in_flight: list[InFlight] = field(default_factory=list)
    suggested: dict[str, Decision] = field(default_factory=dict)
    warm_up: WarmUp | None = None
    moved: list[Moved] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)
    trial: Trial | None = None
    harm: Harm | None = None
    said: dict[str, str] = field(default_factory=dict)

    def begin(self, header: RunStarted) -> None:
        """An attempt begins: rows beyond its checkpoint are superseded, decisions stay."""
        self.rewind((header.resumed_from or 0) + 1)
        self.attempt = header.attempt or self.attempt + 1
        self.target_iterations = header.target_iterations or self.target_iterations
        threshold = header.reference_threshold
        is_known = threshold is not None and math.isfinite(threshold)
        self.reference_threshold = threshold if is_known else None
        self.bounds = header.bounds
        is_adaptive = header.schedule == "adaptive"
        self.hand_over_to = header.hand_over_to if is_adaptive else None
        self.began_with = header.objective if is_adaptive else None
        self.in_force = InForce.at_start(header)
        self.set_rate(self.iteration + 1)

    def set_rate(self, iteration: int) -> None:
        """Another learning rate may be in force from `iteration` on."""
        rate = self.in_force.learning_rate
        if rate is not None and (not self.rates or self.rates[-1][1] != rate):
            self.rates.append((iteration, rate))

    def rate_at(self, checkpoint: int) -> float | None:
        """The learning rate that led to a checkpoint; to the first, the one that led away."""
        return next(
            (rate for since, rate in reversed(self.rates) if since <= max(checkpoint, 1)), None
        )

    def rewind(self, first: int) -> None:
        """Forget the iterations from `first` on; a verdict must stand again."""
        self.iteration = min(self.iteration, first - 1)
        # Iterations may be counted anew: nothing may wait for one that is far ahead then.
        self.revision_since = min(self.revision_since, first)
        self.changed_at = _at_most(first, self.changed_at)
        for flying in self.in_flight:
            flying.changed_before = _at_most(first, flying.changed_before)
        self.blocked_until = min(self.blocked_until, first - 1)
        if self.warm_up is not None:
            self.warm_up = replace(self.warm_up, since=min(self.warm_up.since, first))
        if self.trial is not None and self.trial.since is not None and self.trial.since >= first:
            self.trial = replace(self.trial, since=None)
        self.moved = [replace(m, iteration=min(m.iteration, first)) for m in self.moved]
        self.rows.rewind(first)
        self.gradient = Gradient()
        self.progress.rewind(first)
        del self.peaks[bisect_left(self.peaks, (first, -1.0)) :]
        self.held_out.rewind(first)
        self.skipped = [n for n in self.skipped if n < first]
        self.rates = [(n, rate) for n, rate in self.rates if n < first]
        self.no_verdict()
        self.looks_again = {}

    def no_verdict(self) -> None:
        """Verdicts in a row end here."""
        self.streaks, self.firing = defaultdict(int), set()

    def restart_window(self, iteration: int) -> None:
        """Other values are in force: their window holds no iteration of others."""
        self.revision_since = iteration
        self.rows.clear()
        self.gradient = Gradient()
        self.no_verdict()
        self.looks_again = {}

    def best_before(self, iteration: int) -> float | None:
        """The highest lower bound of correctness that was reached up to that iteration."""
        place = bisect_left(self.peaks, (iteration + 1, -1.0))
        return self.peaks[place - 1][1] if place else None


def _at_most(first: int, iteration: int | None) -> int | None:
    return None if iteration is None else min(iteration, first)
