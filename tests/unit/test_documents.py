"""run.json, state.json and the like, when they are not what they should be."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import make_run

from maxrl_ops.run_controls import newest_iteration
from maxrl_ops.run_reader import LogReader
from maxrl_ops.tailer import Cursor, Tailer
from maxrl_ops.wire import control
from maxrl_ops.wire.documents import Exit, Heartbeat, ProcessIdentity, RunSpec, SupervisorState
from maxrl_ops.wire.rundir import DocumentError, RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_copy_of_a_run_is_not_that_run(run: RunDir) -> None:
    copy = RunDir(run.path.with_name("one.bak"))
    shutil.copytree(run.path, copy.path)
    with pytest.raises(DocumentError, match=r"is of the run 'one', not of 'one\.bak': rename"):
        RunSpec.load(copy)
    assert RunSpec.load(run).name == "one"


@pytest.mark.parametrize(
    "wrong",
    [
        {"provenance": []},
        {"provenance": "text"},
        {"settings": []},
        {"command": 7},
        {"name": ["one"]},
    ],
)
def test_a_run_json_of_a_wrong_kind_is_said(run: RunDir, wrong: dict[str, object]) -> None:
    change(run.spec, **wrong)
    with pytest.raises(DocumentError, match=r"run\.json"):
        RunSpec.load(run)


def test_a_state_reads_back(run: RunDir) -> None:
    state = SupervisorState(
        "backing_off",
        "2026-11-24T00:00:00Z",
        supervisor=ProcessIdentity(7, 8, "boot"),
        attempt=2,
        restarts=1,
        exits=(Exit(1, "2026-11-24T00:00:00Z", None, "SIGKILL", "killed"),),
        exit_reason="killed",
    )
    state.save(run)
    assert SupervisorState.load(run) == state


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempt": 1e999},
        {"restarts": None},
        {"supervisor": {"pid": "x", "start_time": 1, "boot_id": "b"}},
        {"trainer": []},
        {"exits": 7},
        {"exits": [7]},
        {"exits": [{"attempt": 1, "at": "", "code": "x", "signal": None, "reason": ""}]},
    ],
)
def test_a_state_json_of_a_wrong_kind_is_said(run: RunDir, wrong: dict[str, object]) -> None:
    SupervisorState("running", "2026-11-24T00:00:00Z").save(run)
    change(run.state, **wrong)
    with pytest.raises(DocumentError, match=r"state\.json"):
        SupervisorState.load(run)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("run.json", RunSpec.load),
        ("state.json", SupervisorState.load),
        ("heartbeat.json", Heartbeat.load),
        ("applied.jsonl", lambda run: control.read_applied(run.applied)),
        ("control/000001.json", lambda run: control.load(run.control, 1)),
        ("trainer.log", lambda run: Tailer(run.log, Cursor()).read()),
        ("trainer.log", lambda run: LogReader(run).read()),
        ("trainer.log", lambda run: newest_iteration(run.log)),
    ],
)
def test_a_fifo_is_refused_where_it_would_be_waited_for(
    run: RunDir, name: str, read: Callable[[RunDir], object]
) -> None:
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(OSError, match="not a regular file"):
        read(run)
