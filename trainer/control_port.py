"""The trainer's side of control: read at an iteration boundary, check, record, use, echo.

A resumed run replays applied.jsonl at the recorded iterations and reads control/ only beyond
them, so that killed-and-resumed equals never-killed.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from maxrl_ops.wire.control import (
    Applied,
    Control,
    RevisionTakenError,
    TrainingState,
    append_applied,
    publish,
    read,
    read_applied,
    read_newest,
    revisions,
)
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.logformat import number
from maxrl_ops.wire.record import Change, ControlApplied, ControlRejected
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import SETTINGS, SettingError, to_text
from trainer.objectives import OBJECTIVES
from trainer.tasks.base import Scale

Echo = ControlApplied | ControlRejected
# The planned switch is published once in a run, whoever is killed in between.
_HAND_OVER = "schedule:hybrid"
_FINDINGS = (
    "state", "revision", "is_paused", "wants_checkpoint", "wants_stop", "wants_restart",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HandOver:
    """A planned switch to `objective`, once `after` iterations are done."""

    objective: str
    after: int


class ControlPort:
    """What is in force, and what the control directory asks to change about it.

    Attributes:
        state: In force now.
        revision: The newest control that was applied; 0 before the first.
        is_paused: Whether the run is to wait until another control lets it go on.
        wants_checkpoint: Whether what came last asks for one; whoever saves it takes that back.
        wants_stop: Whether this attempt is to end at the boundary; a resumed one is not.
        wants_restart: The control by which this attempt is to end, so that another begins at an
            earlier checkpoint; None where there is none.
    """

    def __init__(
        self,
        run: RunDir,
        scale: Scale,
        initial: TrainingState,
        resumed_from: int,
        hand_over: HandOver | None = None,
        going_back: Control | None = None,
        fixed: Mapping[str, str] | None = None,
    ) -> None:
        """Take over what was applied up to `resumed_from`.

        `hand_over` is what a schedule plans; `going_back` the restart that this attempt answers;
        `fixed` names what this trainer cannot change, or do (restart_from), and why.
        """
        self._run, self._scale, self._hand_over = run, scale, hand_over
        self._fixed = fixed or {}
        self._recorded = read_applied(run.applied)
        self.state = initial
        self.revision = 0
        self.is_paused = self.wants_checkpoint = self.wants_stop = False
        self.wants_restart: Control | None = None
        self._seen = 0
        self._going_back = going_back
        if going_back is not None:
            # What was applied behind the checkpoint is void.
            self._recorded = [each for each in self._recorded if each.iteration <= resumed_from]
        for applied in self._recorded:
            if applied.iteration <= resumed_from:
                self._take_over(applied)
        self.wants_checkpoint = False

    @property
    def findings(self) -> Mapping[str, Any]:
        """What the looks into control/ have come to, for processes that do not look."""
        return {name: getattr(self, name) for name in _FINDINGS}

    def follow(self, findings: Mapping[str, Any]) -> None:
        """Take over what the port of another process has found."""
        for name in _FINDINGS:
            setattr(self, name, findings[name])

    def _take_over(self, applied: Applied) -> None:
        self._seen = max(self._seen, applied.revision)
        if applied.rejected is None:
            self.state, self.revision = applied.state, applied.revision
            self.is_paused = applied.lifecycle == "pause"
            # A paused run may be ended by anybody: it loses nothing.
            self.wants_checkpoint |= applied.lifecycle in {"pause", "checkpoint"}

    def at_boundary(self, iteration: int) -> list[Echo]:
        """Bring `state` to what holds from `iteration` on; what the log must say about it."""
        if self._going_back is not None:
            return [self._go_back(self._going_back, iteration), *self.poll(iteration)]
        replayed = [applied for applied in self._recorded if applied.iteration == iteration]
        is_past = not self._recorded or iteration > self._recorded[-1].iteration
        if is_past and self._hand_over is not None and iteration == self._hand_over.after + 1:
            self._plan(self._hand_over)
        echoes = [self._use(applied) for applied in ([] if is_past else replayed)]
        # A pause that nobody had ended yet goes on.
        return echoes + self.poll(iteration) if is_past or self.is_paused else echoes

    def _go_back(self, control: Control, iteration: int) -> Echo:
        """Apply the control that this attempt began with."""
        self._going_back = None
        applied = Applied(control.revision, iteration, control.state, None, control.lifecycle)
        append_applied(self._run.applied, applied)
        return self._use(applied)

    def poll(self, iteration: int) -> list[Echo]:
        """What control/ asks for beyond all that is known, in force from `iteration` on."""
        found = self._poll(iteration)
        self.wants_stop |= any(a.rejected is None and a.lifecycle == "stop" for a in found)
        return [self._use(applied) for applied in found]

    def _plan(self, hand_over: HandOver) -> None:
        """Publish the planned switch like any other wish, on top of what is wished by then."""
        while True:
            known = self._controls()
            if any(control.intent == _HAND_OVER for control in known):
                return
            newest = known[-1] if known else None
            is_pending = newest is not None and newest.revision > self._seen
            state = newest.state if newest is not None and is_pending else self.state
            base = max(revisions(self._run.control), default=0)
            wish = Control(
                revision=base + 1,
                base_revision=base,
                state=replace(state, objective=hand_over.objective),
                author="schedule:hybrid",
                reason=f"planned hand-over after {hand_over.after} iterations",
                time=utc_now(),
                # A pause that has yet to be applied must not be taken back.
                lifecycle=newest.lifecycle if newest is not None and is_pending else "run",
                intent=_HAND_OVER,
            )
            # Who was faster is read, and its wish kept.
            with suppress(RevisionTakenError):
                publish(self._run.control, wish)

    def _controls(self) -> list[Control]:
        """Those that can be read, lowest revision first."""
        found = (read(self._run.control, number) for number in revisions(self._run.control))
        return [control for control in found if control is not None]

    def _use(self, applied: Applied) -> Echo:
        before, was_paused = self.state, self.is_paused
        self._take_over(applied)
        if applied.rejected is not None:
            return ControlRejected(applied.revision, applied.rejected)
        changes = _changes(before, self.state)
        if applied.lifecycle != (was := "pause" if was_paused else "run"):
            changes = (*changes, Change("lifecycle", applied.lifecycle, was))
        return ControlApplied(applied.revision, applied.iteration, changes)

    def _poll(self, iteration: int) -> list[Applied]:
        """Look into control/, and record each finding before anything uses it."""
        found = read_newest(self._run.control, above=self._seen)
        rejections: Mapping[int, str] = {
            revision: f"unreadable, skipped: {why}" for revision, why in found.unreadable.items()
        }
        lifecycle = "pause" if self.is_paused else "run"
        findings = [
            Applied(revision, iteration, self.state, rejections[revision], lifecycle)
            for revision in sorted(rejections)
        ]
        if found.newest is not None:
            answer = self._judge(found.newest, iteration)
            if answer.rejected is None and answer.lifecycle == "restart_from":
                # The attempt that begins at the checkpoint answers it.
                self.wants_restart = found.newest
                return []
            findings.insert(0, answer)
        for applied in findings:
            append_applied(self._run.applied, applied)
        return findings

    def _judge(self, control: Control, iteration: int) -> Applied:
        why = _objection(control, self._scale, self.state) or self._cannot(control)
        if why is not None:
            lifecycle = "pause" if self.is_paused else "run"
            return Applied(control.revision, iteration, self.state, why, lifecycle)
        return Applied(control.revision, iteration, control.state, None, control.lifecycle)

    def _cannot(self, control: Control) -> str | None:
        for key, why in self._fixed.items():
            if key == "restart_from":
                if control.lifecycle == key:
                    return f"{key}: {why}"
            elif getattr(control.state, key) != getattr(self.state, key):
                return f"{key} {getattr(control.state, key)}: {why}"
        return None


def _objection(control: Control, scale: Scale, in_force: TrainingState) -> str | None:
    """Why `control` cannot be used, or None."""
    if control.restart_from is not None and control.restart_from < 0:
        return f"restart_from {control.restart_from}: there is nothing before iteration 0"
    wanted = control.state
    if wanted.objective not in OBJECTIVES:
        return f"objective {wanted.objective!r} is not one of {', '.join(OBJECTIVES)}"
    low, high = scale.threshold_bounds
    threshold = wanted.correctness_threshold
    if threshold != in_force.correctness_threshold and not low <= threshold <= high:
        return (
            f"correctness_threshold {number(threshold)} is outside the task's bounds "
            f"{number(low)} to {number(high)}"
        )
    for key in ("weight_temperature", "n_samples", "learning_rate"):
        try:
            SETTINGS[key].parse(to_text(getattr(wanted, key)), key)
        except SettingError as error:
            return str(error)
    return None


def restart_asked(run: RunDir, scale: Scale, initial: TrainingState) -> Control | None:
    """The newest control, where it asks for a restart from a checkpoint and has no answer yet."""
    answers = read_applied(run.applied)
    answered = max((applied.revision for applied in answers), default=0)
    newest = read_newest(run.control, above=answered).newest
    if newest is None or newest.lifecycle != "restart_from":
        return None
    in_force = answers[-1].state if answers else initial
    return newest if _objection(newest, scale, in_force) is None else None


def _changes(before: TrainingState, after: TrainingState) -> tuple[Change, ...]:
    pairs = ((f.name, getattr(after, f.name), getattr(before, f.name)) for f in fields(after))
    return tuple(Change(key, str(new), str(old)) for key, new, old in pairs if new != old)
