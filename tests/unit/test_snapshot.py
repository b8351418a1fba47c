"""A run's log and state, folded into what `status` says of it."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.core.interruption import Boot, is_cut_off
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.sentence import duration
from maxrl_ops.core.snapshot import Observed, RunSnapshot, damaged, take
from maxrl_ops.wire.documents import Heartbeat, ProcessIdentity, RunSpec, SupervisorState
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
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

NOW = datetime(2026, 11, 22, 13, 30, 5, tzinfo=UTC)
SPEC = RunSpec("rust-1", "rust", {"use_maxrl": True}, (), "2026-11-22T13:00:00Z")
HEADER = RunStarted(
    Algorithm.MAXRL,
    objective="maxrl",
    task="rust",
    target_iterations=40,
    n_samples=8,
    correctness_threshold=20.0,
    weight_temperature=1.0,
    reference_threshold=20.0,
    attempt=1,
)
BEFORE = Evaluated(0, 0.36, {1: 0.38, 8: 0.71}, 0.021, compile_ratio=0.60, wrong_ratio=0.22)


def record(iteration: int, n_correct: int = 13, duration: float | None = 3.5) -> IterationRecord:
    ended = (NOW - timedelta(seconds=5)).isoformat()
    return IterationRecord(
        iteration, 40, n_correct, 16, 27.5, 4.2, "maxrl", 12, 16, duration=duration, at=ended
    )


def records(first: int, last: int) -> list[Event]:
    return [record(n) for n in range(first, last + 1)]


def snapshot_of(
    *events: Event,
    state: str = "running",
    alive: bool = True,
    trainer_alive: bool = True,
    heartbeat: Heartbeat | None = None,
    exit_reason: str | None = None,
    spec: RunSpec = SPEC,
) -> RunSnapshot:
    supervisor = SupervisorState(state, "2026-11-22T13:00:01Z", attempt=1, exit_reason=exit_reason)
    observed = Observed(NOW, supervisor_alive=alive, trainer_alive=trainer_alive)
    return take(spec, supervisor, heartbeat, RunHistory.of(events), observed)


# --- Folding ------------------------------------------------------------------------------------


def test_a_resume_supersedes_what_lies_beyond_its_checkpoint() -> None:
    evaluated = Evaluated(20, 0.5, {1: 0.5}, 0.02)
    late = Evaluated(30, 0.9, {1: 0.9}, 0.02)
    resumed = replace(HEADER, attempt=2, resumed_from=20)
    events = [HEADER, BEFORE, *records(1, 20), evaluated, CheckpointSaved(20, 0.3)]
    events += [*records(21, 30), late, UpdateSkipped(25, "loss nan"), resumed]

    history = RunHistory.of(events)

    assert [row.iteration for row in history.iterations] == list(range(1, 21))
    assert history.evaluations == [BEFORE, evaluated]
    assert (history.iteration, history.checkpoint, history.skipped_updates) == (20, 20, [])


def test_a_restart_without_a_checkpoint_supersedes_everything() -> None:
    history = RunHistory.of([HEADER, BEFORE, *records(1, 9), replace(HEADER, attempt=2)])

    assert history.iterations == []
    assert history.evaluations == []
    assert history.iteration == 0


@given(killed_at=st.integers(1, 30), checkpoint=st.integers(0, 30))
def test_killed_and_resumed_folds_to_the_same_as_never_killed(
    killed_at: int, checkpoint: int
) -> None:
    checkpoint = min(checkpoint, killed_at)
    never_killed = RunHistory.of([HEADER, *records(1, 30)])

    header = replace(HEADER, attempt=2, resumed_from=checkpoint or None)
    resumed = [HEADER, *records(1, killed_at), header, *records(checkpoint + 1, 30)]

    assert RunHistory.of(resumed).iterations == never_killed.iterations


def test_a_trainer_without_headers_that_starts_again_starts_at_its_first_iteration() -> None:
    history = RunHistory.of([*records(1, 9), record(1, n_correct=2)])
    assert [(row.iteration, row.n_correct) for row in history.iterations] == [(1, 2)]


def test_a_long_run_keeps_the_newest_rows_only() -> None:
    history = RunHistory.of(record(n) for n in range(1, 10_001))
    assert len(history.iterations) <= 4000
    assert history.iteration == 10_000


def test_controls_change_what_is_in_force() -> None:
    changes = (
        Change("correctness_threshold", "15.0", "20.0"),
        Change("objective", "grpo", "maxrl"),
        Change("n_samples", "twelve", "8"),
        Change("unheard_of", "1", "2"),
    )
    shown = snapshot_of(HEADER, ControlApplied(3, 51, changes), ControlRejected(4, "out of bounds"))

    assert (shown.threshold, shown.reference_threshold) == (15.0, 20.0)
    assert (shown.objective, shown.algorithm) == ("grpo", "GRPO")
    # A value nobody can read is unknown, not what it was before.
    assert shown.n_samples is None
    assert shown.acknowledged_revision == 4


def test_the_newest_answer_stays_the_newest() -> None:
    applied, rejected = ControlApplied(2, 51, ()), ControlRejected(3, "out of bounds")
    on_revision_2 = replace(record(52), control_revision=2)
    shown = snapshot_of(HEADER, applied, rejected, on_revision_2, applied)
    assert shown.acknowledged_revision == 3
    assert "The trainer rejected control 3: out of bounds." in shown.sentence
    # A trainer that answers in its blocks alone.
    later = snapshot_of(HEADER, rejected, replace(record(53), control_revision=4))
    assert (later.acknowledged_revision, later.rejection) == (4, None)


def test_foreign_lines_change_nothing() -> None:
    noisy = RunHistory.of([HEADER, Unparsed("x", "unknown line"), *records(1, 3)])
    assert noisy.unparsed_lines == 1
    assert noisy.iterations == RunHistory.of([HEADER, *records(1, 3)]).iterations


# --- Figures ------------------------------------------------------------------------------------

# As docs and dashboards have them: keys may be added behind, none may be renamed.
DESIGNED_KEYS = [
    *("name", "job_name", "state", "attempt", "mode", "algorithm", "objective", "iteration"),
    *("target_iterations", "eta_seconds", "correctness", "reference_correctness", "threshold"),
    *("reference_threshold", "weight_temperature", "n_samples", "loss", "correct_reward_mean"),
    *("control_revision", "acknowledged_revision", "held_out", "last_decision", "exit_reason"),
    *("sentence", "age_seconds"),
]


@pytest.mark.parametrize(
    "shown", [snapshot_of(HEADER, BEFORE, *records(1, 23)), damaged("x", "why")]
)
def test_json_has_every_designed_key_and_nothing_json_cannot_say(shown: RunSnapshot) -> None:
    printed = json.loads(json.dumps(shown.to_json(), allow_nan=False))

    assert list(printed)[: len(DESIGNED_KEYS)] == DESIGNED_KEYS
    assert list(printed["held_out"]) == ["pass_at_1", "se", "first_pass_at_1", "first_se"]


def test_what_is_not_finite_or_not_measured_is_missing() -> None:
    odd = IterationRecord(1, loss=math.nan, correct_reward_mean=math.inf)
    shown = snapshot_of(odd, Evaluated(1, 0.5, {1: 0.5}, math.nan))

    assert (shown.loss, shown.correct_reward_mean, shown.correctness) == (None, None, None)
    assert (shown.held_out.se, shown.target_iterations, shown.eta_seconds) == (None, None, None)
    json.dumps(shown.to_json(), allow_nan=False)


def test_the_eta_is_from_the_median_of_recent_iterations() -> None:
    # One slow iteration of 100 s among 23 of 3.5 s does not count: 17 left * 3.5 s = 59.5 s.
    slow = [record(n, duration=100.0 if n == 20 else 3.5) for n in range(1, 24)]
    assert snapshot_of(HEADER, *slow).eta_seconds == pytest.approx(59.5)


def test_without_durations_the_eta_is_from_the_times_between_iterations() -> None:
    rows = [
        IterationRecord(n, 10, at=(NOW + timedelta(seconds=2 * n)).isoformat()) for n in (1, 2, 3)
    ]
    assert snapshot_of(*rows).eta_seconds == pytest.approx(7 * 2.0)


def test_a_run_that_is_over_has_neither_eta_nor_phase() -> None:
    shown = snapshot_of(
        HEADER, *records(1, 9), state="stopped", heartbeat=Heartbeat("sample", 9, "never")
    )
    assert (shown.eta_seconds, shown.phase) == (None, None)


def test_phase_and_ages() -> None:
    heartbeat = Heartbeat("verify", 24, "2026-11-22T13:30:02Z")
    shown = snapshot_of(HEADER, *records(1, 23), heartbeat=heartbeat)

    assert shown.phase is not None
    assert (shown.phase.name, shown.phase.age_seconds) == ("verify", 3.0)
    assert shown.age_seconds == 5.0


def test_before_the_trainer_has_spoken_the_request_is_shown() -> None:
    spec = replace(SPEC, settings={"use_maxrl": False, "iterations": 7, "n_samples": 4})
    shown = snapshot_of(state="starting", spec=spec)

    assert (shown.algorithm, shown.objective, shown.task) == ("GRPO", "grpo", "rust")
    assert (shown.target_iterations, shown.n_samples, shown.iteration) == (7, 4, None)


# --- States and sentences -----------------------------------------------------------------------


def test_running() -> None:
    assert snapshot_of(HEADER, BEFORE, *records(1, 23)).sentence == (
        "MaxRL at iteration 23 of 40: correctness 81%, held-out pass@1 0.38 at the start; "
        "about 1 minute left."
    )


def test_finished() -> None:
    after = Evaluated(40, 0.88, {1: 0.861}, 0.02, compile_ratio=0.97, wrong_ratio=0.09)
    ended = RunEnded("finished", "40 iterations")
    shown = snapshot_of(HEADER, BEFORE, *records(1, 40), after, ended, state="finished")

    assert shown.sentence == (
        "MaxRL finished 40 iterations: held-out pass@1 0.38 -> 0.86 (+- 0.02)."
    )


def test_reward_hacking_is_said_first() -> None:
    # Compiling gained 38 points, pass@1 only 2.
    hacked = Evaluated(40, 0.4, {1: 0.40}, 0.02, compile_ratio=0.98, wrong_ratio=0.58)
    shown = snapshot_of(HEADER, BEFORE, *records(1, 40), hacked, state="finished")

    assert shown.sentence == (
        "58% of held-out samples compile but are wrong: compiling went from 60% to 98%, pass@1 "
        "only from 0.38 to 0.40; MaxRL finished 40 iterations: held-out pass@1 0.38 -> 0.40 "
        "(+- 0.02)."
    )


def test_honest_progress_is_not_called_hacking() -> None:
    # Compiling gained 30 points, pass@1 gained 28 of them.
    honest = Evaluated(40, 0.7, {1: 0.66}, 0.02, compile_ratio=0.90, wrong_ratio=0.26)
    shown = snapshot_of(HEADER, BEFORE, *records(1, 40), honest, state="finished")
    assert shown.sentence.startswith("MaxRL finished")


@pytest.mark.parametrize(
    ("trainer_alive", "said"),
    [
        (True, "The supervisor of this run is gone, its trainer goes on unwatched; MaxRL at"),
        (False, "The supervisor of this run is gone, and nothing trains; it was at iteration 9"),
    ],
)
def test_a_dead_supervisor_is_not_called_running(trainer_alive: bool, said: str) -> None:
    shown = snapshot_of(HEADER, *records(1, 9), alive=False, trainer_alive=trainer_alive)
    assert shown.state == "supervisor_gone"
    assert shown.sentence.startswith(said)


def test_an_ended_run_needs_no_living_supervisor() -> None:
    assert snapshot_of(HEADER, state="finished", alive=False).state == "finished"


@pytest.mark.parametrize(("age", "state"), [(2, "starting"), (3600, "supervisor_gone")])
def test_a_run_nobody_ever_supervised(age: int, state: str) -> None:
    created = (NOW - timedelta(seconds=age)).isoformat()
    shown = take(replace(SPEC, created=created), None, None, RunHistory(), Observed(NOW))
    assert shown.state == state


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("starting", "MaxRL is starting."),
        ("running", "MaxRL before its first iteration of 40: loading the model."),
        ("failed", "MaxRL failed before its first iteration: no CUDA device."),
        ("backing_off", "MaxRL crashed at iteration 0 of 40 and will be started again: no CUDA"),
        ("stopped", "MaxRL was stopped at iteration 0 of 40."),
        ("paused", "Paused; MaxRL at iteration 0 of 40."),
        ("unheard_of", "MaxRL at iteration 0 of 40 (unheard of)."),
    ],
)
def test_every_state_has_its_sentence(state: str, said: str) -> None:
    heartbeat = Heartbeat("load", 0, "2026-11-22T13:30:02Z")
    shown = snapshot_of(HEADER, state=state, heartbeat=heartbeat, exit_reason="no CUDA device.")
    assert shown.sentence.startswith(said)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "less than a minute"),
        (49, "less than a minute"),
        (59.5, "about 1 minute"),
        (150, "about 2 minutes"),
        (5000, "about 83 minutes"),
        (7000, "about 2 hours"),
        (200_000, "about 2 days"),
    ],
)
def test_durations_are_said_as_one_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("state", "suspended", "cut_off", "shown"),
    [
        ("running", False, True, "interrupted"),
        ("backing_off", True, True, "interrupted"),
        ("backing_off", True, False, "suspended"),
        ("running", False, False, "supervisor_gone"),
        ("finished", False, True, "finished"),
    ],
)
def test_a_run_that_nobody_watches_says_how_to_go_on(
    state: str, suspended: bool, cut_off: bool, shown: str
) -> None:
    supervisor = SupervisorState(state, "2026-11-22T13:00:01Z", attempt=1, suspended=suspended)
    history = RunHistory.of([HEADER, *records(1, 23), CheckpointSaved(20, 0.3)])
    told = take(SPEC, supervisor, None, history, Observed(NOW, is_cut_off=cut_off))
    assert told.state == shown
    if shown != "finished":
        assert told.is_over
        assert "maxrl-ops resume rust-1 goes on from checkpoint 20." in told.sentence
    marked = replace(SPEC, restart_on_boot=True)
    told = take(marked, supervisor, None, history, Observed(NOW, is_cut_off=cut_off))
    is_the_daemons = "the daemon starts it again from checkpoint 20" in told.sentence
    assert is_the_daemons == (shown == "interrupted")


@pytest.mark.parametrize(
    ("host", "boot", "state", "expected"),
    [
        ("here", "before", "running", True),
        ("here", "now", "running", False),
        ("there", "before", "running", False),
        (None, "before", "running", False),
        ("here", "before", "stopped", False),
    ],
)
def test_a_reboot_is_known_by_the_boot_of_this_machine(
    host: str | None, boot: str, state: str, expected: bool
) -> None:
    written = SupervisorState(state, "", ProcessIdentity(1, 2, boot), host=host)
    assert is_cut_off(written, Boot("here", "now")) is expected
