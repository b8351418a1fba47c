"""`--actuate restart`: controls reach a trainer that cannot read them, each exactly once."""

import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import pytest
from supervised import PREAMBLE, Make, Running
from waiting import wait_until

from maxrl_ops.core import autopilot
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.wire.control import (
    Applied,
    Control,
    TrainingState,
    append_applied,
    publish,
    read_applied,
)
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import ControlApplied, ControlRejected, Event, RunStarted, Unparsed
from maxrl_ops.wire.rundir import RunDir

STATE = TrainingState("maxrl", 20.0, 1.0, 4, 3e-5)
SETTINGS = {
    "use_maxrl": True,
    "correctness_threshold": 20.0,
    "weight_temperature": 1.0,
    "n_samples": 4,
    "learning_rate": 3e-5,
}
# A trainer in the guide's format that goes on from what --resume names, and says what it was told.
TRAINER = (
    PREAMBLE
    + """
import json
with (run / "told").open("a") as told:
    env = {k: os.environ[k] for k in os.environ if k.startswith(("USE_MAXRL", "MAXRL_"))}
    told.write(json.dumps({"args": sys.argv[1:], "env": env}) + "\\n")
done = int(Path(sys.argv[sys.argv.index("--resume") + 1]).name) if "--resume" in sys.argv else 0
def save(*_):
    with (run / "terms").open("a") as terms: terms.write(f"{attempt}\\n")
    is_saved = (run / "no save").exists() or (run / "checkpoints" / f"{done:06d}").exists()
    if not is_saved: checkpoint(done)
    if (run / "slow").exists(): time.sleep(600)
    os._exit(0)
signal.signal(signal.SIGTERM, save)
while True:
    block = f"Iteration {done + 1}/500\\n  Correctness: 12/16 (75.0%)\\n  [Good - on track]\\n"
    os.write(1, block.encode())
    done += 1
    if (run / "crash").exists(): (run / "crash").unlink(); os._exit(1)
    time.sleep(0.02)
"""
)


@pytest.fixture
def running(make: Make) -> Running:
    made = make("")
    script = made.run.path / "script.py"
    script.write_text(TRAINER)
    command = (
        sys.executable, str(script), "--resume", "{checkpoint}", "--n", "{n_samples}",
        "--as={objective}:{threshold}:{weight_temperature}:{learning_rate}", "{{kept}}",
    )  # fmt: skip
    replace(RunSpec.load(made.run), command=command, settings=SETTINGS, actuate="restart").save(
        made.run
    )
    return made


def ask(running: Running, revision: int, state: TrainingState, lifecycle: str = "run") -> None:
    now = "2026-11-25T12:00:00Z"
    publish(
        running.run.control,
        Control(revision, revision - 1, state, "uid:1", "by hand", now, lifecycle, f"i{revision}"),
    )


def told(running: Running) -> list[dict[str, Any]]:
    """What each attempt was started with."""
    path = running.run.path / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(run: RunDir) -> list[Event]:
    parser = Parser()
    return parser.feed(run.log.read_bytes()) + parser.close()


def answers(running: Running) -> list[Event]:
    return [e for e in events(running.run) if isinstance(e, ControlApplied | ControlRejected)]


def until_answered(running: Running, revision: int) -> None:
    wait_until(
        lambda: any(getattr(each, "revision", 0) == revision for each in answers(running)),
        20,
        f"the answer to control {revision}",
    )


def begin(running: Running, **env: str) -> None:
    running.supervise(**env)
    wait_until(lambda: "Iteration 2" in running.log(), 20, "iterations")


def end(running: Running) -> None:
    running.supervisors[-1].terminate()
    running.ended(0)


def test_a_control_ends_the_trainer_and_starts_it_with_other_flags(running: Running) -> None:
    begin(running)
    ask(running, 1, replace(STATE, objective="grpo", n_samples=8, learning_rate=1e-5))
    until_answered(running, 1)
    wait_until(lambda: len(told(running)) == 2, 20, "the second attempt")
    state = running.wait_for("running")
    assert (state.attempt, state.restarts, state.failures) == (2, 0, 0)
    assert state.exits[0].reason == "to start again, as revision 1 asks"
    first, second = told(running)
    assert first["args"] == ["--n", "4", "--as=maxrl:20.0:1.0:3e-05", "{kept}"]
    saved = max((running.run.checkpoints).iterdir())
    assert second["args"] == [
        "--resume", str(saved), "--n", "8", "--as=grpo:20.0:1.0:1e-05", "{kept}",
    ]  # fmt: skip
    env = second["env"]
    assert {key: env[key] for key in env if key in {"USE_MAXRL", "MAXRL_OBJECTIVE"}} == {
        "USE_MAXRL": "false", "MAXRL_OBJECTIVE": "grpo",
    }  # fmt: skip
    assert (env["MAXRL_N_SAMPLES"], env["MAXRL_CORRECTNESS_THRESHOLD"]) == ("8", "20.0")
    (answer,) = answers(running)
    assert isinstance(answer, ControlApplied)
    assert answer.iteration == int(saved.name) + 1
    assert [(c.key, c.value, c.was) for c in answer.changes] == [
        ("objective", "grpo", "maxrl"),
        ("n_samples", "8", "4"),
        ("learning_rate", "1e-05", "3e-05"),
    ]  # fmt: skip
    headers = [each for each in events(running.run) if isinstance(each, RunStarted)]
    assert [(h.n_samples, h.attempt, h.resumed_from) for h in headers] == [
        (4, 1, None), (4, 2, answer.iteration - 1),
    ]  # fmt: skip
    end(running)
    # It ended twice, and was told to once each time.
    assert (running.run.path / "terms").read_text() == "1\n2\n"


def test_a_command_that_exits_with_0_by_itself_has_finished(make: Make) -> None:
    running = make("sys.exit(0)")
    replace(RunSpec.load(running.run), settings=SETTINGS, actuate="restart").save(running.run)
    running.supervise()
    assert running.ended(0).state == "finished"


def test_a_stop_on_the_way_is_a_stop(running: Running) -> None:
    begin(running)
    (running.run.path / "slow").touch()
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until((running.run.path / "terms").exists, 20, "the trainer to be told")
    running.supervisors[-1].terminate()
    running.wait_for("stopping")
    os.kill(running.pids()[0], signal.SIGKILL)
    assert running.ended(0).state == "stopped"
    assert (running.run.path / "terms").read_text() == "1\n"
    assert answers(running) == []


def test_the_autopilot_judges_it_from_the_first_iteration_that_comes_again(
    running: Running,
) -> None:
    begin(running)
    # Two iterations beyond the only checkpoint are trained again.
    checkpoint = running.run.checkpoints / "000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "COMPLETE").touch()
    (running.run.path / "no save").touch()
    wait_until(lambda: "Iteration 4/" in running.log(), 20, "more iterations")
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until(lambda: running.log().count("Iteration 3/") == 2, 20, "the third again")
    end(running)
    state, history = autopilot.State(), RunHistory()
    for event in events(running.run):
        state, _ = autopilot.reduce(state, event, Policy())
        history.append(event)
    assert state.trial is not None
    assert (state.trial.revision, state.trial.since, state.attempt) == (1, 2, 2)
    assert state.in_force == history.in_force
    assert history.in_force.whole() == replace(STATE, n_samples=8)


def test_a_crash_afterwards_applies_nothing_again(running: Running) -> None:
    begin(running)
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until(lambda: len(told(running)) == 2, 20, "the second attempt")
    (running.run.path / "crash").touch()
    wait_until(lambda: len(told(running)) == 3, 20, "the third attempt")
    assert told(running)[2]["args"][2:4] == ["--n", "8"]
    assert running.wait_for("running").restarts == 1
    end(running)
    assert len(answers(running)) == 1


def test_a_log_begun_anew_tells_what_is_in_force(running: Running) -> None:
    begin(running)
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until(lambda: len(told(running)) == 2, 20, "the second attempt")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    running.run.log.rename(running.run.path / "trainer.log.1")
    running.supervise()
    (running.run.path / "crash").touch()
    wait_until(lambda: "Iteration" in running.log(), 20, "the third attempt")
    end(running)
    (header,) = [each for each in events(running.run) if isinstance(each, RunStarted)]
    assert (header.n_samples, header.attempt, answers(running)) == (8, 3, [])


def test_what_cannot_be_is_rejected_and_nothing_ended(running: Running) -> None:
    begin(running)
    ask(running, 1, STATE, "pause")
    until_answered(running, 1)
    ask(running, 2, replace(STATE, n_samples=1))
    until_answered(running, 2)
    (running.run.control / "000003.json").write_text("{")
    until_answered(running, 3)
    ask(running, 4, STATE)
    until_answered(running, 4)
    reasons = [each.reason for each in answers(running) if isinstance(each, ControlRejected)]
    assert reasons[0].startswith("pause: this trainer cannot be told while it runs")
    assert reasons[1].startswith("n_samples='1' is not allowed")
    assert reasons[2].startswith("unreadable, skipped: not JSON")
    # What is so already needs no other attempt.
    assert answers(running)[-1] == ControlApplied(4, 1, ())
    assert len(running.pids()) == 1
    end(running)
    # No block was torn by what the supervisor said between them.
    assert not [each for each in events(running.run) if isinstance(each, Unparsed)]


@pytest.mark.parametrize("saw_the_end", [False, True])
def test_killed_while_the_trainer_ends(running: Running, saw_the_end: bool) -> None:
    begin(running)
    (running.run.path / "slow").touch()
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until((running.run.path / "terms").exists, 20, "the trainer to be told")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    if saw_the_end:
        os.kill(running.pids()[0], signal.SIGKILL)
    # An adopted trainer that does not end is killed when its time is up.
    (running.run.path / "slow").unlink()
    state = running.state()
    assert state.exit_reason == "to start again, as revision 1 asks"
    replace(state, tuning={}).save(running.run)
    running.supervise(MAXRL_OPS_STOP_GRACE_SECONDS="0.5")
    wait_until(lambda: len(told(running)) == 2, 20, "the second attempt")
    assert running.wait_for("running").restarts == 0
    assert (running.run.path / "terms").read_text() == "1\n"
    end(running)
    assert len(answers(running)) == 1


@pytest.mark.parametrize("point", ["recorded", "told"])
def test_killed_while_it_applies(running: Running, point: str) -> None:
    """Between the record, the log and the start: told exactly once, and started with it."""
    begin(running)
    (running.run.path / "slow").touch()
    ask(running, 1, replace(STATE, n_samples=8))
    wait_until((running.run.path / "terms").exists, 20, "the trainer to be told")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    os.kill(running.pids()[0], signal.SIGKILL)
    (running.run.path / "slow").unlink()
    # What a supervisor leaves that is killed there.
    state = running.state()
    replace(state, state="backing_off", trainer=None).save(running.run)
    saved = int(max(running.run.checkpoints.iterdir()).name)
    applied = Applied(1, saved + 1, replace(STATE, n_samples=8))
    append_applied(running.run.applied, applied)
    if point == "told":
        with running.run.log.open("a") as log:
            log.write(f"Control 1 applied at {saved + 1}: n_samples 8 (was 4)\n")
    running.supervise()
    wait_until(lambda: len(told(running)) == 2, 20, "the second attempt")
    assert running.wait_for("running").restarts == 0
    assert told(running)[1]["args"][2:4] == ["--n", "8"]
    end(running)
    assert len(answers(running)) == 1
    assert [each.revision for each in read_applied(running.run.applied)] == [0, 1]
