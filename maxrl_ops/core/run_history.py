"""A run's log folded into what a person asks about: the current rows, and what is in force."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from maxrl_ops.core.in_force import InForce
from maxrl_ops.wire.record import (
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

# Enough for sparklines and medians; a run of ten million iterations must not fill the memory.
_MOST_KEPT = 2000


@dataclass(slots=True)
class RunHistory:
    """The current rows of a run: what a resume superseded is gone.

    Attributes:
        started: The newest attempt's header.
        iterations: Records, oldest first; bounded, the newest are kept.
        evaluations: Held-out evaluations, oldest first.
        checkpoint: Iteration of the newest complete checkpoint that the log tells of.
        ended: The newest attempt's last word, None while it runs.
        in_force: Objective, threshold and the like, after the controls applied so far.
        acknowledged_revision: The newest control that the trainer applied or rejected.
        rejection: The answer to the newest control, where it was rejected.
        skipped_updates: Updates of the current rows left out as not finite.
        unparsed_lines: Lines that are not ours.
        most_kept: How many of the newest iterations are kept at least.
    """

    started: RunStarted | None = None
    iterations: list[IterationRecord] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    checkpoint: int | None = None
    ended: RunEnded | None = None
    in_force: InForce = field(default_factory=InForce)
    acknowledged_revision: int | None = None
    rejection: ControlRejected | None = None
    skipped_updates: list[int] = field(default_factory=list)
    unparsed_lines: int = 0
    most_kept: int = _MOST_KEPT

    @classmethod
    def of(cls, events: Iterable[Event]) -> "RunHistory":
        """Fold events at once."""
        history = cls()
        for event in events:
            history.append(event)
        return history

    @property
    def newest(self) -> IterationRecord | None:
        """The last current record."""
        return self.iterations[-1] if self.iterations else None

    @property
    def iteration(self) -> int:
        """How many iterations are done; also known right after a resume, before the first row."""
        resumed_from = (self.started.resumed_from if self.started else None) or 0
        return max(resumed_from, self.newest.iteration if self.newest else 0)

    def append(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case RunStarted():
                self._start(event)
            case IterationRecord():
                self.extend((event,))
            case Evaluated():
                self._drop_evaluations_from(event.iteration)
                self.evaluations.append(event)
            case CheckpointSaved(iteration):
                self.checkpoint = iteration
            case ControlApplied(revision, _, changes):
                self.in_force = self.in_force.after(changes)
                self._acknowledge(revision)
            case ControlRejected(revision):
                self._acknowledge(revision, event)
            case UpdateSkipped(iteration):
                self.skipped_updates.append(iteration)
            case RunEnded():
                self.ended = event
            case Unparsed():
                self.unparsed_lines += 1

    def _start(self, header: RunStarted) -> None:
        """Begin an attempt: from a checkpoint, or from nothing, which supersedes everything."""
        self.started, self.ended = header, None
        self.in_force = InForce.at_start(header)
        # -1: without a checkpoint even the evaluation before training is made again.
        kept = -1 if header.resumed_from is None else header.resumed_from
        self._drop_iterations_from(kept + 1)
        self._drop_evaluations_from(kept + 1)
        self.skipped_updates = [n for n in self.skipped_updates if n <= kept]
        self.checkpoint = header.resumed_from

    def extend(self, records: Sequence[IterationRecord]) -> None:
        """Fold in iterations, each beyond the one before."""
        # A trainer without headers that starts again says no more than `Iteration 1` again: neither
        # its rows nor its last word are of now.
        self.ended = None
        self._drop_iterations_from(records[0].iteration)
        self._drop_evaluations_from(records[0].iteration)
        self.iterations += records
        if len(self.iterations) > 2 * self.most_kept:
            del self.iterations[: -self.most_kept]
        objectives = (r.objective for r in reversed(records) if r.objective is not None)
        objective = next(objectives, None)
        if objective != self.in_force.objective and objective is not None:
            self.in_force = replace(self.in_force, objective=objective)
        revision = max(record.control_revision or 0 for record in records)
        if revision > (self.acknowledged_revision or 0):
            self._acknowledge(revision)

    def _acknowledge(self, revision: int, rejection: ControlRejected | None = None) -> None:
        """An answer; to an older control it is a replay, which takes nothing back."""
        if revision >= (self.acknowledged_revision or 0):
            self.acknowledged_revision, self.rejection = revision, rejection

    def _drop_iterations_from(self, first: int) -> None:
        while self.iterations and self.iterations[-1].iteration >= first:
            self.iterations.pop()

    def _drop_evaluations_from(self, first: int) -> None:
        while self.evaluations and self.evaluations[-1].iteration >= first:
            self.evaluations.pop()
