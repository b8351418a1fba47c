"""`set` and `switch`: what they publish, what they refuse, and how they tell the answer."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import refused
from scripted import INITIAL, ScriptedTrainer, make_run

from maxrl_ops import processes
from maxrl_ops.cli.app import run
from maxrl_ops.wire import control
from maxrl_ops.wire.control import Control, TrainingState
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import RunDir


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    return tmp_path


def live(home: Path, name: str = "one") -> RunDir:
    """A run that this very process watches over, as far as anybody can see."""
    directory = make_run(home, name)
    me = processes.identity_of(os.getpid())
    SupervisorState("running", "2026-11-24T00:00:00Z", supervisor=me, attempt=1).save(directory)
    return directory


@pytest.fixture
def trainer(home: Path) -> Iterator[ScriptedTrainer]:
    trainer = ScriptedTrainer(live(home))
    trainer.begin()
    trainer.step(2)
    return trainer


def published(directory: RunDir, revision: int = 1) -> Control:
    found = control.read(directory.control, revision)
    assert found is not None
    return found


def test_set_publishes_the_whole_state_and_who_asked(
    trainer: ScriptedTrainer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert run(["set", "n_samples=16", "learning-rate=1e-5", "--wait", "0"]) == 0
    wish = published(trainer.run)
    assert wish.state == replace(INITIAL, n_samples=16, learning_rate=1e-5)
    assert wish.author == f"uid:{os.getuid()}"
    assert wish.reason == "set n_samples=16 learning-rate=1e-5"
    assert (wish.revision, wish.base_revision, wish.lifecycle) == (1, 0, "run")
    assert "published and not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize(("uid", "sudo", "signed"), [(0, "1000", 1000), (0, "x", 0), (7, "1", 7)])
def test_who_called_sudo_has_asked(
    trainer: ScriptedTrainer, monkeypatch: pytest.MonkeyPatch, uid: int, sudo: str, signed: int
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setenv("SUDO_UID", sudo)
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    assert published(trainer.run).author == f"uid:{signed}"


def test_a_second_change_is_made_to_the_first(trainer: ScriptedTrainer) -> None:
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    assert run(["switch", "grpo", "--wait", "0"]) == 0
    assert published(trainer.run, 2).state == replace(INITIAL, n_samples=16, objective="grpo")
    assert published(trainer.run, 2).base_revision == 1


def test_what_was_rejected_is_not_wished_again(trainer: ScriptedTrainer) -> None:
    state = replace(INITIAL, correctness_threshold=3.0)
    control.publish(trainer.run.control, Control(1, 0, state, "uid:1", "hand", "2026"))
    trainer.step()
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    assert published(trainer.run, 2).state == replace(INITIAL, n_samples=16)


def test_a_change_during_a_resume_keeps_what_will_be_applied_again(
    trainer: ScriptedTrainer,
) -> None:
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    trainer.step(3)
    # Back to before the control: the header tells 8 samples, applied.jsonl knows better.
    trainer.begin(attempt=2, resumed_from=1)
    assert run(["set", "learning_rate=1e-5", "--wait", "0"]) == 0
    wish = published(trainer.run, 2).state
    assert wish == replace(INITIAL, n_samples=16, learning_rate=1e-5)


def test_the_answer_is_waited_for_and_said(
    trainer: ScriptedTrainer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The trainer comes to its next boundary while the command waits.
    monkeypatch.setattr("maxrl_ops.cli.change.time.sleep", lambda _: trainer.step())
    assert run(["set", "n_samples=16"]) == 0
    said = capsys.readouterr().out
    assert said == "one: control 1 applied at 3: n_samples 16 (was 8)\n"


def test_a_rejection_is_said_and_fails(
    trainer: ScriptedTrainer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.lowest = 99.0
    monkeypatch.setattr("maxrl_ops.cli.change.time.sleep", lambda _: trainer.step())
    said = refused(["set", "n_samples=16"], capsys, 1)
    assert said == "one rejected control 1: outside the task's bounds"


def test_what_is_so_already_is_not_published(
    trainer: ScriptedTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["set", "n_samples=8"]) == 0
    assert run(["switch", "maxrl"]) == 0
    assert capsys.readouterr().out == (
        "one: n_samples is 8 already.\none: objective is maxrl already.\n"
    )
    assert not list(trainer.run.control.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "n_samples"], 2, "'n_samples' is not KEY=VALUE"),
        (
            ["set", "n_sample=4"],
            2,
            "'n_sample' cannot be changed in a run (did you mean n_samples?)",
        ),
        (["set", "seed=4"], 2, "these can: objective, correctness_threshold"),
        (["set", "n_samples=1"], 2, "give a whole number from 2"),
        (["set", "n_samples=4", "n_samples=5"], 2, "given twice"),
        (["set", "correctness_threshold=99"], 2, "give 15 to 30"),
        (["set", "objective=best"], 2, "objective='best'"),
        (["switch", "ppo"], 2, "give grpo or maxrl"),
        (["set", "n_samples=4", "--run", "two"], 3, "there is no run 'two'"),
        (["set"], 2, "KEY=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    trainer: ScriptedTrainer,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert words in refused(arguments, capsys, code)
    assert not list(trainer.run.control.iterdir())


def test_several_active_runs_need_a_name(
    home: Path, trainer: ScriptedTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    live(home, "two")
    assert "one, two are active" in refused(["switch", "grpo"], capsys, 2)
    assert run(["switch", "grpo", "--run", "one", "--wait", "0"]) == 0


def test_a_run_that_is_over_cannot_be_changed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = make_run(home)
    SupervisorState("finished", "2026-11-24T00:00:00Z", attempt=1).save(over)
    assert "is over" in refused(["set", "n_samples=4", "--run", "one"], capsys, 2)
    assert "none is active" in refused(["set", "n_samples=4"], capsys, 2)


def test_a_log_that_does_not_tell_what_is_in_force(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = live(home)
    assert "does not tell its training state" in refused(["switch", "grpo"], capsys, 2)
    directory.log.write_text("Iteration 1/2\n  Loss: 3\n  [x]\n")
    assert "does not tell its training state" in refused(["switch", "grpo"], capsys, 2)


def test_a_control_of_garbage_does_not_stand_in_the_way(trainer: ScriptedTrainer) -> None:
    control.path_of(trainer.run.control, 1).write_text("{ half")
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    assert published(trainer.run, 2).state.n_samples == 16


def test_a_learning_rate_keeps_every_digit(home: Path) -> None:
    exact = TrainingState("maxrl", 20.000000000000004, 1 / 3, 8, 0.00012345678901234567)
    trainer = ScriptedTrainer(live(home), state=exact)
    trainer.begin()
    trainer.step()
    assert run(["set", "n_samples=16", "--wait", "0"]) == 0
    assert published(trainer.run).state == replace(exact, n_samples=16)
    raw = json.loads(control.path_of(trainer.run.control, 1).read_text())
    assert raw["learning_rate"] == exact.learning_rate
