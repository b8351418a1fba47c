"""`export model`: the best checkpoint, whole or not at all."""

import os
from pathlib import Path

import pytest
from commands import refused
from scripted import make_run

from maxrl_ops.cli.app import run
from maxrl_ops.wire.checkpoints import Checkpoint, marker
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Evaluated
from maxrl_ops.wire.rundir import RunDir


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    return make_run(tmp_path / "home")


def checkpoint(directory: RunDir, iteration: int, pass_at_1: float | None) -> None:
    model = directory.checkpoints / f"{iteration:06d}" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(str(iteration))
    there = Checkpoint(iteration, model.parent, pass_at_1)
    complete = marker(there, {"model/config.json": len(str(iteration))})
    (model.parent / "COMPLETE").write_bytes(complete)


def test_the_best_is_written(
    one: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for iteration, pass_at_1 in ((20, 0.8), (40, 0.9), (60, 0.7), (61, None)):
        checkpoint(one, iteration, pass_at_1)
    # Nobody writes to it: whoever read it as a file would wait for ever.
    odd = one.checkpoints / "000080"
    odd.mkdir()
    os.mkfifo(odd / "COMPLETE")
    target = tmp_path / "best"
    assert run(["export", "model", "one", "--to", str(target)]) == 0
    assert (target / "config.json").read_text() == "40"
    assert capsys.readouterr().out == (
        f"{target}: the model of one at iteration 40, held-out pass@1 0.90\n"
    )
    assert not list(tmp_path.glob(".best*"))
    assert "exists already" in refused(["export", "model", "one", "--to", str(target)], capsys, 4)


def test_a_best_that_is_worse_than_the_start_is_said(
    one: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for iteration, pass_at_1 in ((20, 0.41), (40, 0.35)):
        checkpoint(one, iteration, pass_at_1)
    expected = {0.41: "0.41", 0.55: "0.41, which is worse than the 0.55 that it began with"}
    for first, words in expected.items():
        one.log.write_text(render(Evaluated(0, first, {1: first}, 0.02)))
        assert run(["export", "model", "one", "--to", str(tmp_path / str(first))]) == 0
        assert capsys.readouterr().out.endswith(f"at iteration 20, held-out pass@1 {words}\n")


def test_without_an_evaluation_the_newest_is_written(
    one: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(one, 5, None)
    checkpoint(one, 10, None)
    assert run(["export", "model", "one", "--to", str(tmp_path / "newest")]) == 0
    assert "at iteration 10, not evaluated" in capsys.readouterr().out


def test_what_cannot_be_written(
    one: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["--to", str(tmp_path / "x")]
    assert "no complete checkpoint" in refused(["export", "model", "one", *to], capsys, 3)
    assert "there is no run 'two'" in refused(["export", "model", "two", *to], capsys, 3)
    checkpoint(one, 5, 0.5)
    nowhere = ["--to", str(tmp_path / "no" / "x")]
    assert "there is no directory" in refused(["export", "model", "one", *nowhere], capsys, 2)
    (one.checkpoints / "000005" / "model" / "config.json").unlink()
    assert "no complete checkpoint" in refused(["export", "model", "one", *to], capsys, 3)
    assert not (tmp_path / "x").exists()
