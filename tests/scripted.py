"""A run whose trainer is a script: it writes the log's real format and answers real controls."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from maxrl_ops.wire.control import Applied, TrainingState, append_applied, read_newest
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    ControlApplied,
    ControlRejected,
    Event,
    IterationRecord,
    RunStarted,
)
from maxrl_ops.wire.rundir import RunDir

INITIAL = TrainingState("maxrl", 30.0, 1.0, 8, 0.0003)


def header(
    state: TrainingState = INITIAL,
    attempt: int = 1,
    resumed_from: int | None = None,
    iterations: int = 160,
) -> RunStarted:
    return RunStarted(
        Algorithm.MAXRL,
        objective=state.objective,
        task="rust",
        target_iterations=iterations,
        n_samples=state.n_samples,
        correctness_threshold=state.correctness_threshold,
        weight_temperature=state.weight_temperature,
        learning_rate=state.learning_rate,
        reference_threshold=20.0,
        bounds=(15.0, 30.0),
        attempt=attempt,
        resumed_from=resumed_from,
    )


def record(
    iteration: int,
    correct: int = 26,
    total: int = 64,
    threshold: float = 30.0,
    iterations: int = 160,
) -> IterationRecord:
    """An iteration whose correct samples have a reward of 27, all others 0."""
    levels = (15.0, 20.0, 25.0, 30.0)
    return IterationRecord(
        iteration,
        iterations,
        n_correct=correct if threshold < 27 else 0,
        n_total=total,
        objective="maxrl",
        reference_correct=correct,
        reference_total=total,
        rewards_above={level: correct if level < 27 else 0 for level in levels},
        rewards_of=total,
        at=f"2026-11-24T{iteration // 3600:02d}:{iteration // 60 % 60:02d}:{iteration % 60:02d}Z",
        verdict="Low - see the tuning guide",
    )


@dataclass
class ScriptedTrainer:
    """Appends to a run's log what a trainer would, one iteration at a time."""

    run: RunDir
    correct: int = 26
    iterations: int = 160
    state: TrainingState = INITIAL
    iteration: int = 0
    answered: int = 0
    lowest: float = 15.0
    states: dict[int, TrainingState] = field(default_factory=dict)
    amid: Callable[[], None] | None = None
    """Called with half of what is to be written in the log."""

    def write(self, event: Event) -> None:
        text = render(event)
        with self.run.log.open("a") as file:
            if self.amid is not None:
                half = len(text) // 2
                file.write(text[:half])
                file.flush()
                self.amid()
                text = text[half:]
            file.write(text)

    def begin(self, attempt: int = 1, resumed_from: int | None = None) -> None:
        if resumed_from is not None:
            self.iteration, self.state = resumed_from, self.states.get(resumed_from, INITIAL)
        self.write(header(self.state, attempt, resumed_from, self.iterations))

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.iteration += 1
            self.answer()
            threshold = self.state.correctness_threshold
            self.write(record(self.iteration, self.correct, 64, threshold, self.iterations))
            self.states[self.iteration] = self.state

    def write_iteration_unanswered(self) -> None:
        """An iteration that had begun before the newest control was published."""
        self.iteration += 1
        threshold = self.state.correctness_threshold
        self.write(record(self.iteration, self.correct, 64, threshold, self.iterations))

    def write_foreign(self, text: str) -> None:
        with self.run.log.open("a") as file:
            file.write(text + "\n")

    def reject(self, revision: int, why: str) -> None:
        self.answered = revision
        self.write(ControlRejected(revision, why))

    def answer(self) -> None:
        newest = read_newest(self.run.control, above=self.answered).newest
        if newest is None:
            return
        self.answered = newest.revision
        wanted, before = newest.state, self.state
        if wanted.correctness_threshold < self.lowest:
            why = "outside the task's bounds"
            append_applied(
                self.run.applied, Applied(newest.revision, self.iteration, self.state, why)
            )
            self.write(ControlRejected(newest.revision, why))
            return
        append_applied(self.run.applied, Applied(newest.revision, self.iteration, wanted))
        keys = [key for key in wanted.__slots__ if getattr(wanted, key) != getattr(before, key)]
        changes = [Change(k, str(getattr(wanted, k)), str(getattr(before, k))) for k in keys]
        self.state = replace(wanted)
        self.write(ControlApplied(newest.revision, self.iteration, tuple(changes)))


def make_run(
    home: Path, name: str = "one", mode: str = "act", created: str = "2026-11-24"
) -> RunDir:
    run = RunDir(home / "runs" / name)
    run.control.mkdir(parents=True)
    RunSpec(name, "rust", {}, (), created, mode=mode).save(run)
    return run
