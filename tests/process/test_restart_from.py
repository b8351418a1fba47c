"""A control that asks to go back to a checkpoint: done once, whoever dies meanwhile."""

import os
import re
import signal
from dataclasses import replace

import pytest
from supervised import FOREVER, Make, Running
from waiting import wait_until

from maxrl_ops import processes
from maxrl_ops.run_reader import LogReader
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.control import (
    Applied,
    Control,
    TrainingState,
    append_applied,
    publish,
    read_applied,
)
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import Value

STATE = TrainingState("maxrl", 20.0, 1.0, 4, 3e-5)
THREE = "if attempt == 1: [checkpoint(n) for n in (1, 2, 3)]\n"


def go_back(run: RunDir, revision: int, to: int) -> None:
    wish(run, revision, "restart_from", STATE, to)


def wish(
    run: RunDir, revision: int, lifecycle: str, state: TrainingState, to: int | None = None
) -> None:
    now, intent = "2026-11-25T12:00:00Z", f"intent-{revision}"
    publish(
        run.control,
        Control(
            revision, revision - 1, state, "rule:COLLAPSE", "it fell", now, lifecycle, intent, to
        ),
    )


def saved(run: RunDir) -> list[int]:
    return [each.iteration for each in checkpoints.complete(run)]


def second_attempt(running: Running) -> None:
    wait_until(lambda: len(running.pids()) == 2, 20, "the second attempt")
    running.wait_for("running")


def test_it_starts_again_from_there_and_that_is_no_failure(make: Make) -> None:
    running = make(THREE + FOREVER)
    running.supervise(MAXRL_OPS_BACKOFF_SCALE="1000")
    running.wait_for_training()
    append_applied(running.run.applied, Applied(1, 2, STATE))
    append_applied(running.run.applied, Applied(2, 3, STATE))
    go_back(running.run, 3, 2)
    second_attempt(running)
    state = running.state()
    assert (state.attempt, state.restarts, state.restarting) == (2, 0, None)
    assert (state.exits[0].signal, state.exits[0].reason) == (
        "SIGTERM", "ended to go back to checkpoint 2, as revision 3 asks",
    )  # fmt: skip
    assert saved(running.run) == [1, 2]
    # What was applied beyond it holds no more.
    assert read_applied(running.run.applied) == [
        Applied(1, 2, STATE), Applied(3, 3, STATE, None, "restart_from"),
    ]  # fmt: skip
    running.supervisors[-1].terminate()
    assert running.ended(0).state == "stopped"


def test_it_is_done_once(make: Make) -> None:
    """A crash after it, and a revived supervisor, find it answered."""
    running = make(THREE + "if attempt == 2: checkpoint(3)\n" + FOREVER)
    running.supervise()
    running.wait_for_training()
    go_back(running.run, 1, 2)
    second_attempt(running)
    os.kill(running.pids()[1], signal.SIGKILL)
    wait_until(lambda: len(running.pids()) == 3, 20, "the third attempt")
    running.wait_for("running")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    running.supervise()
    wait_until(
        lambda: (s := running.state().supervisor) and s.pid == running.supervisors[-1].pid,
        20,
        "the next supervisor",
    )
    running.supervisors[-1].terminate()
    state = running.ended(0)
    assert (state.attempt, state.restarts) == (3, 1)
    assert saved(running.run) == [1, 2, 3]
    assert len(read_applied(running.run.applied)) == 1


def test_it_survives_its_supervisor_and_a_trainer_that_ignores_it(make: Make) -> None:
    running = make(
        THREE + "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))\n" + FOREVER
    )
    running.supervise()
    running.wait_for_training()
    go_back(running.run, 1, 1)
    wait_until(lambda: "told" in running.log(), 20, "the trainer is told")
    assert running.state().restarting == "ended to go back to checkpoint 1, as revision 1 asks"
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    # What the first supervisor was given is forgotten by who revives it: see supervision.md.
    running.supervise(MAXRL_OPS_STOP_GRACE_SECONDS="0.5")
    second_attempt(running)
    assert saved(running.run) == [1]
    assert running.log().count("told") == 1
    running.supervisors[-1].kill()


def test_between_two_attempts_it_is_done_before_the_next(make: Make) -> None:
    running = make(THREE + "if attempt == 1: sys.exit(1)\n" + FOREVER)
    running.supervise(MAXRL_OPS_BACKOFF_SCALE="1")
    running.wait_for("backing_off")
    go_back(running.run, 1, 0)
    second_attempt(running)
    assert saved(running.run) == []
    assert read_applied(running.run.applied) == [Applied(1, 1, STATE, None, "restart_from")]
    running.supervisors[-1].terminate()
    running.ended(0)


def test_a_stop_is_a_stop(make: Make) -> None:
    running = make(
        THREE
        + "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))\n"
        + "print('training', flush=True)\n"
        + "while not (run / 'enough').exists(): time.sleep(0.02)\nsys.exit(143)"
    )
    running.supervise()
    running.wait_for_training()
    go_back(running.run, 1, 1)
    wait_until(lambda: "told" in running.log(), 20, "the trainer is told")
    running.supervisors[-1].terminate()
    running.wait_for("stopping")
    (running.run.path / "enough").touch()
    assert running.ended(0).state == "stopped"
    assert running.log().count("told") == 1


def test_a_checkpoint_that_is_gone_is_the_trainers_to_reject(make: Make) -> None:
    running = make(THREE + FOREVER)
    running.supervise()
    trainer = running.wait_for_training().trainer
    go_back(running.run, 1, 7)
    # A later wish that can be done is proof that the first was looked at.
    go_back(running.run, 2, 3)
    second_attempt(running)
    assert trainer is not None
    assert not processes.is_alive(trainer)
    assert [applied.revision for applied in read_applied(running.run.applied)] == [2]
    running.supervisors[-1].terminate()
    running.ended(0)


SETTINGS: dict[str, Value] = {
    "task": "arithmetic",
    "iterations": 4000,
    "prompts_per_iteration": 2,
    "n_samples": 4,
    "checkpoint_every": 2,
    "evaluate_every": 0,
    "evaluation_prompts": 2,
    "seed": 5,
    "learning_rate": 0.0003,
}


@pytest.mark.slow
def test_a_real_trainer_goes_back(make: Make) -> None:
    running = make("", command=(), **SETTINGS)
    running.supervise()
    wait_until(lambda: "\nIteration 7/" in running.log(), 120, "iteration 7")
    wish(running.run, 1, "pause", replace(STATE, learning_rate=0.0003))
    wait_until(lambda: "lifecycle pause" in running.log(), 60, "the pause")
    # The newest but one, which saving another checkpoint on the way out would drop.
    at = saved(running.run)[0]
    go_back(running.run, 2, at)
    wait_until(lambda: f"\nControl 2 applied at {at + 1}: " in running.log(), 120, "the answer")
    [answer] = re.findall(r"^Control 2 .*", running.log(), re.M)
    assert "learning_rate 3e-05 (was 0.0003)" in answer
    wait_until(lambda: running.log().count(f"\nIteration {at + 1}/") == 2, 60, "training anew")
    go_back(running.run, 3, 1)
    wait_until(lambda: "\nControl 3 rejected: " in running.log(), 60, "the rejection")
    assert "lifecycle restart_from: checkpoint 1 is gone" in running.log()
    running.supervisors[-1].terminate()
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("stopped", 2, 0)
    reader = LogReader(running.run)
    reader.read()
    reader.close()
    rows = reader.history.iterations
    assert [row.iteration for row in rows] == list(range(1, rows[-1].iteration + 1))
    assert [row.learning_rate for row in rows] == [
        0.0003 if row.iteration <= at else 3e-5 for row in rows
    ]
