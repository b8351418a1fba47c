"""The trainer's side of control: what it takes over, when, and what it answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_trainer_parts import STATE, TASK

from maxrl_ops.wire.control import Control, TrainingState, path_of, publish, read, read_applied
from maxrl_ops.wire.record import ControlApplied, ControlRejected
from maxrl_ops.wire.rundir import RunDir
from trainer.control_port import ControlPort, Echo, HandOver, restart_asked


def wish(run: RunDir, revision: int, **changes: object) -> None:
    values = {
        "objective": "maxrl",
        "correctness_threshold": 20.0,
        "weight_temperature": 1.0,
        "n_samples": 4,
        "learning_rate": 3e-4,
        **changes,
    }
    state = TrainingState(**values)  # type: ignore[arg-type]
    publish(run.control, Control(revision, revision - 1, state, "uid:0", "test", "now"))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "control").mkdir()
    return RunDir(tmp_path)


def port(run: RunDir, resumed_from: int = 0) -> ControlPort:
    return ControlPort(run, TASK, STATE, resumed_from)


def test_a_control_is_recorded_then_used_then_echoed(run: RunDir) -> None:
    control = port(run)
    assert control.at_boundary(1) == []
    wish(run, 1, correctness_threshold=15.0, n_samples=8)
    [echo] = control.at_boundary(2)
    assert isinstance(echo, ControlApplied)
    assert (echo.revision, echo.iteration) == (1, 2)
    assert [(c.key, c.value, c.was) for c in echo.changes] == [
        ("correctness_threshold", "15.0", "20.0"),
        ("n_samples", "8", "4"),
    ]
    assert control.state.n_samples == 8
    assert read_applied(run.applied)[0].state == control.state
    assert control.at_boundary(3) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"correctness_threshold": 99.0}, "outside the task's bounds 15 to 30"),
        ({"objective": "nonsense"}, "not one of grpo, "),
        ({"n_samples": 0}, "n_samples='0'"),
        ({"learning_rate": -1.0}, "learning_rate='-1.0'"),
        ({"weight_temperature": 0.0}, "weight_temperature='0.0'"),
    ],
)
def test_a_control_out_of_bounds_is_rejected(
    run: RunDir, changes: dict[str, object], words: str
) -> None:
    control = port(run)
    wish(run, 1, **changes)
    [echo] = control.at_boundary(5)
    assert isinstance(echo, ControlRejected)
    assert words in echo.reason
    assert (control.state, control.revision) == (STATE, 0)
    assert control.at_boundary(6) == []


PLANNED = HandOver("maxrl", 5)


def hybrid(run: RunDir, resumed_from: int = 0) -> ControlPort:
    return ControlPort(run, TASK, replace(STATE, objective="grpo"), resumed_from, PLANNED)


def test_a_hybrid_hands_over_where_it_was_planned(run: RunDir) -> None:
    control = hybrid(run)
    assert control.at_boundary(5) == []
    [echo] = control.at_boundary(6)
    assert isinstance(echo, ControlApplied)
    assert [(c.key, c.value, c.was) for c in echo.changes] == [("objective", "maxrl", "grpo")]
    assert control.at_boundary(7) == []
    wish = read(run.control, 1)
    assert wish is not None
    assert (wish.author, wish.state.objective) == ("schedule:hybrid", "maxrl")
    # Resumed before or after it: replayed, or simply in force; never a second time.
    assert [type(e) for e in hybrid(run, resumed_from=5).at_boundary(6)] == [ControlApplied]
    assert hybrid(run, resumed_from=6).state.objective == "maxrl"
    assert len(list(run.control.iterdir())) == 1


def test_a_hand_over_whose_trainer_was_killed_is_applied_not_made_again(run: RunDir) -> None:
    hybrid(run).at_boundary(6)
    run.applied.unlink()
    assert [type(e) for e in hybrid(run).at_boundary(6)] == [ControlApplied]
    assert len(list(run.control.iterdir())) == 1


def test_a_hand_over_keeps_what_a_person_wished(run: RunDir) -> None:
    control = hybrid(run)
    wish(run, 1, objective="grpo", n_samples=16)
    [echo] = control.at_boundary(6)
    assert echo.revision == 2
    assert (control.state.objective, control.state.n_samples) == ("maxrl", 16)


def live(run: RunDir, revision: int, lifecycle: str, state: TrainingState = STATE) -> None:
    control = Control(revision, revision - 1, state, "uid:0", "test", "now", lifecycle)
    publish(run.control, control)


def lifecycles(echoes: list[Echo]) -> list[tuple[str, str]]:
    return [
        (change.value, change.was or "")
        for echo in echoes
        if isinstance(echo, ControlApplied)
        for change in echo.changes
        if change.key == "lifecycle"
    ]


def test_a_pause_lasts_until_somebody_ends_it(run: RunDir) -> None:
    control = port(run)
    live(run, 1, "pause")
    assert lifecycles(control.at_boundary(3)) == [("pause", "run")]
    assert (control.is_paused, control.wants_checkpoint) == (True, True)
    assert control.poll(3) == []
    wish(run, 2, n_samples=0)  # rejected: it ends nothing
    assert [type(e) for e in control.poll(3)] == [ControlRejected]
    assert control.is_paused

    # Killed while it waits: the resumed trainer waits on.
    again = port(run, resumed_from=2)
    assert [type(e) for e in again.at_boundary(3)] == [ControlApplied, ControlRejected]
    assert again.is_paused
    live(run, 3, "run", replace(STATE, n_samples=8))
    assert lifecycles(again.poll(3)) == [("run", "pause")]
    assert (again.is_paused, again.state.n_samples) == (False, 8)

    # Killed after that: the same once more, and no wait.
    last = port(run, resumed_from=2)
    assert lifecycles(last.at_boundary(3)) == [("pause", "run"), ("run", "pause")]
    assert not last.is_paused
    assert not port(run, resumed_from=3).is_paused


def test_a_checkpoint_is_asked_for_once(run: RunDir) -> None:
    control = port(run)
    live(run, 1, "checkpoint")
    assert lifecycles(control.at_boundary(3)) == [("checkpoint", "run")]
    assert control.wants_checkpoint
    assert not control.is_paused
    control.wants_checkpoint = False
    assert control.at_boundary(4) == []
    assert not control.wants_checkpoint
    assert not port(run, resumed_from=3).wants_checkpoint


def test_a_stop_ends_this_attempt_and_not_the_next(run: RunDir) -> None:
    live(run, 1, "stop")
    first = port(run)
    first.at_boundary(3)
    assert first.wants_stop
    again = port(run, resumed_from=2)
    again.at_boundary(3)
    assert not again.wants_stop


def go_back(run: RunDir, revision: int, restart_from: int, state: TrainingState) -> None:
    control = Control(
        revision,
        revision - 1,
        state,
        "rule:COLLAPSE",
        "test",
        "now",
        "restart_from",
        restart_from=restart_from,
    )
    publish(run.control, control)


def test_a_restart_ends_this_attempt_and_the_next_begins_with_it(run: RunDir) -> None:
    wish(run, 1, n_samples=8)
    first = port(run)
    first.at_boundary(3)
    wish(run, 2, n_samples=16)
    first.at_boundary(9)
    slower = replace(first.state, learning_rate=1e-4)
    go_back(run, 3, 5, slower)
    assert first.at_boundary(12) == []
    assert first.wants_restart is not None
    assert len(read_applied(run.applied)) == 2

    back = restart_asked(run, TASK, STATE)
    assert back is not None
    again = ControlPort(run, TASK, STATE, 5, going_back=back)
    # What held at the checkpoint; then the restart's own, whole: revision 2 is part of it.
    assert (again.state.n_samples, again.revision) == (8, 1)
    [echo] = again.at_boundary(6)
    assert isinstance(echo, ControlApplied)
    assert (echo.revision, echo.iteration) == (3, 6)
    assert {(c.key, c.value, c.was) for c in echo.changes} == {
        ("n_samples", "16", "8"),
        ("learning_rate", "0.0001", "0.0003"),
        ("lifecycle", "restart_from", "run"),
    }
    assert [again.at_boundary(n) for n in (7, 8, 9)] == [[], [], []]
    assert again.state == slower

    # Killed later: what it had applied before it went back is void, at iteration 9 too.
    assert restart_asked(run, TASK, STATE) is None
    last = port(run, resumed_from=5)
    assert (last.state.n_samples, last.at_boundary(6)) == (8, [echo])
    assert [last.at_boundary(n) for n in (7, 8, 9)] == [[], [], []]
    assert (last.state, port(run, resumed_from=7).state) == (slower, slower)


@pytest.mark.parametrize(
    ("restart_from", "changes"), [(-1, {}), (5, {"n_samples": 99_999}), (5, {"objective": "x"})]
)
def test_a_restart_that_cannot_be_is_rejected(
    run: RunDir, restart_from: int, changes: dict[str, Any]
) -> None:
    control = port(run)
    go_back(run, 1, restart_from, replace(STATE, **changes))
    assert restart_asked(run, TASK, STATE) is None
    [echo] = control.at_boundary(9)
    assert isinstance(echo, ControlRejected)
    assert (control.wants_restart, control.state) == (None, STATE)


def test_a_corrupt_control_is_skipped_and_the_one_below_it_used(run: RunDir) -> None:
    wish(run, 1, n_samples=8)
    path_of(run.control, 2).write_text("{")
    applied, rejected = port(run).at_boundary(1)
    assert isinstance(applied, ControlApplied)
    assert isinstance(rejected, ControlRejected)
    assert rejected.revision == 2


def test_a_resumed_run_replays_at_the_recorded_iterations(run: RunDir) -> None:
    wish(run, 1, n_samples=8)
    first = port(run)
    whole = {n: first.at_boundary(n) for n in (1, 2)}
    wish(run, 2, n_samples=99_999)
    whole[3] = first.at_boundary(3)
    wish(run, 3, n_samples=16)
    whole[4] = first.at_boundary(4)
    # Published while the trainer was down: it must not move the past.
    wish(run, 4, n_samples=32)

    again = port(run)
    assert {n: again.at_boundary(n) for n in (1, 2, 3, 4)} == whole
    assert again.state.n_samples == 16
    [late] = again.at_boundary(5)
    assert (late.revision, again.state.n_samples) == (4, 32)

    resumed = port(run, resumed_from=3)
    assert (resumed.state.n_samples, resumed.revision) == (8, 1)
    assert resumed.at_boundary(4) == whole[4]
