"""What a control leaves as it is where it is about something else."""

from dataclasses import replace
from pathlib import Path

import pytest
from scripted import INITIAL, make_run

from maxrl_ops import control_writer
from maxrl_ops.core.in_force import InForce
from maxrl_ops.wire import control
from maxrl_ops.wire.control import Applied, Control, append_applied
from maxrl_ops.wire.record import Change

KNOWN = InForce(**{key: getattr(INITIAL, key) for key in INITIAL.__slots__})


@pytest.mark.parametrize(
    ("asked", "while_pending", "once_answered"),
    [
        ("pause", "pause", "pause"),
        ("checkpoint", "checkpoint", "run"),
        ("stop", "stop", "run"),
        ("run", "run", "run"),
        # Where to is said nowhere but there.
        ("restart_from", "run", "run"),
    ],
)
def test_what_the_trainer_has_yet_to_obey_is_asked_for_again(
    tmp_path: Path, asked: str, while_pending: str, once_answered: str
) -> None:
    run = make_run(tmp_path)
    first = control_writer.change(run, KNOWN, 0, {"lifecycle": asked}, asked)
    second = control_writer.change(run, KNOWN, 0, {"n_samples": 16}, "set n_samples=16")
    assert (first.revision, second.revision, second.lifecycle) == (1, 2, while_pending)
    append_applied(run.applied, Applied(2, 7, second.state, lifecycle=asked))
    third = control_writer.change(run, KNOWN, 2, {"n_samples": 4}, "set n_samples=4")
    assert third.lifecycle == once_answered


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "many"])
def test_what_is_no_number_is_not_known(text: str) -> None:
    in_force = KNOWN.after([Change("learning_rate", text, "0.0003")])
    assert "learning_rate" not in in_force.known()
    assert in_force.whole() is None
    assert replace(KNOWN, learning_rate=float("nan")).whole() is None


def test_a_paused_run_stays_paused_behind_a_control_of_others(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    append_applied(run.applied, Applied(1, 7, INITIAL, lifecycle="pause"))
    control.publish(run.control, Control(1, 0, INITIAL, "uid:7", "pause", "2026", "pause"))
    changed = control_writer.change(run, KNOWN, 1, {"n_samples": 16}, "set n_samples=16")
    assert changed.lifecycle == "pause"
