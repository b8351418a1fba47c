"""`prune`: old runs and checkpoints go, what somebody works with stays."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands import refused
from scripted import make_run

from maxrl_ops import locks, processes
from maxrl_ops.cli.app import run
from maxrl_ops.wire.checkpoints import Checkpoint, marker
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec, SupervisorState, utc_now
from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, RunDir

DAY = 86_400
NOBODY = ProcessIdentity(2**22 + 1, 1, "a boot long ago")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    return tmp_path


def finished(home: Path, name: str, days: float) -> RunDir:
    """A run that ended so long ago, with five checkpoints; the third is the best."""
    made = make_run(home, name)
    SupervisorState("finished", utc_now(), NOBODY, attempt=1).save(made)
    made.log.write_text("RL Method: MaxRL\n\n")
    for iteration in (10, 20, 30, 40, 50):
        path = made.checkpoints / f"{iteration:06d}"
        path.mkdir(parents=True)
        (path / "weights").write_bytes(b"w" * 1000)
        worth = Checkpoint(iteration, path, 0.9 if iteration == 30 else 0.5)
        (path / CHECKPOINT_MARKER).write_bytes(marker(worth, {"weights": 1000}))
    age(made, days)
    return made


def age(made: RunDir, days: float) -> None:
    then = time.time() - days * DAY
    for path in (*made.path.rglob("*"), made.path):
        os.utime(path, (then, then))


def left(made: RunDir) -> list[str]:
    return sorted(path.name for path in made.checkpoints.iterdir())


def test_old_runs_go_and_old_checkpoints_but_the_best_and_the_newest(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, idle, young = (finished(home, n, d) for n, d in (("old", 31), ("idle", 8), ("young", 6)))
    before = sorted(home.rglob("*"))
    assert run(["prune", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert sorted(home.rglob("*")) == before
    assert run(["prune", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == planned
    told = {(each["run"], each["checkpoint"]) for each in planned}
    assert told == {("old", None), ("idle", 10), ("idle", 20), ("idle", 40)}
    assert all(each["bytes"] > 1000 for each in planned)
    assert not old.path.exists()
    assert left(idle) == ["000030", "000050"]
    assert len(left(young)) == 5
    assert run(["prune"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"


def test_only_the_named_and_as_old_as_asked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = finished(home, "one", 3), finished(home, "other", 3)
    assert run(["prune", "one", "--runs-older-than", "48h"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("removed run one: 0.0 MiB, untouched for 3 days\n")
    assert not one.path.exists()
    assert len(left(other)) == 5


def test_what_somebody_works_with_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = processes.identity_of(os.getpid())
    trained, locked, resumed = (finished(home, n, 99) for n in ("trained", "locked", "resumed"))
    SupervisorState("running", utc_now(), ours, ours, attempt=1).save(trained)
    age(trained, 99)
    # Its state.json says that it is over, or nothing at all: a lock is the truth.
    held = [locks.acquire(locked.lock), locks.acquire(resumed.supervisor_lock)]
    resumed.state.write_text("{")
    attached = make_run(home, "attached")
    log = home / "foreign.log"
    log.write_text("x")
    replace(RunSpec.load(attached), log=str(log)).save(attached)
    for made in (locked, resumed, attached):
        age(made, 99)
    for arguments in (["prune", "--dry-run"], ["prune"]):
        assert run(arguments) == 0
        assert capsys.readouterr().out == "There is nothing to remove.\n"
    assert all(len(left(made)) == 5 for made in (trained, locked, resumed))
    for descriptor in held:
        os.close(descriptor)
    age(locked, 99)
    assert run(["prune", "locked"]) == 0
    assert not locked.path.exists()
    assert log.read_text() == "x"


def test_no_link_is_followed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, data = finished(home, "one", 40), home / "data"
    data.mkdir()
    (data / "precious").write_text("x")
    (made.path / "link").symlink_to(data)
    age(made, 40)
    os.utime(data, (0, 0))
    assert run(["prune"]) == 0
    assert not made.path.exists()
    assert (data / "precious").read_text() == "x"


def test_what_a_killed_prune_left_goes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(home, "one", 40).path.rename(home / "runs" / ".pruned-one")
    assert run(["prune"]) == 0
    assert list((home / "runs").iterdir()) == []


def test_a_wrong_age_and_a_wrong_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(["prune", "--runs-older-than", "old"], capsys, 2)
    assert error.startswith("--runs-older-than='old' is not allowed: give an age such as 90s")
    refused(["prune", "nobody"], capsys, 3)
