"""A daemon and runs of other versions: the files of the first version, and of a later one."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripted import header, record
from waiting import wait_until

from maxrl_ops import daemon_file, locks, processes
from maxrl_ops.daemon_file import DaemonFile
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire import control
from maxrl_ops.wire.documents import (
    Detached,
    Exit,
    Heartbeat,
    ProcessIdentity,
    RunSpec,
    SupervisorState,
    utc_now,
)
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.rundir import RunDir

# As the first version wrote them: without mode, stalls, and an exit's last lines.
FIRST_SPEC: dict[str, Any] = {
    "name": "old",
    "job_name": "rust",
    "settings": {"use_maxrl": True},
    "command": [],
    "created": "2026-11-22T10:00:00Z",
    "provenance": {"maxrl_ops": "0.0.1"},
}
FIRST_EXIT = {"attempt": 1, "at": "2026-11-22T11:00:00Z", "code": 1, "signal": None, "reason": "x"}
FIRST_STATE: dict[str, Any] = {
    "state": "running",
    "since": "2026-11-22T11:00:00Z",
    "supervisor": None,
    "trainer": None,
    "attempt": 2,
    "restarts": 1,
    "exits": [FIRST_EXIT],
    "exit_reason": None,
}
# What a version after this one may have added, wherever there is an object.
LATER: dict[str, Any] = {"of_a_later_version": {"nodes": [1, 2]}}
TRAINER = "import time; print('training', flush=True); time.sleep(600)"


def write(home: Home, spec: dict[str, Any], state: dict[str, Any], log: str = "") -> RunDir:
    run = home.run(spec["name"])
    run.control.mkdir(parents=True)
    run.spec.write_text(json.dumps(spec))
    run.state.write_text(json.dumps(state))
    events = (header(), *(record(n) for n in (1, 2, 3)))
    run.log.write_text("".join(render(event) for event in events) + log)
    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    monkeypatch.setenv("MAXRL_OPS_LISTEN", "127.0.0.1:0")
    return Home(tmp_path)


@pytest.fixture
def daemon(home: Home) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "maxrl_ops.daemon"], stderr=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()


def metrics(home: Home) -> str:
    found: DaemonFile = wait_until(lambda: daemon_file.running(home), 20, "a daemon")
    with urllib.request.urlopen(found.metrics, timeout=10) as answer:  # noqa: S310 - the daemon's
        return str(answer.read().decode())


def told(name: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "maxrl_ops", "status", name, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    (run,) = json.loads(done.stdout)["runs"]
    assert isinstance(run, dict)
    return run


@pytest.mark.parametrize("more", [{}, LATER], ids=["first", "later"])
def test_a_run_of_another_version_whose_supervisor_dies(
    home: Home, daemon: "subprocess.Popen[bytes]", more: dict[str, Any]
) -> None:
    """Its trainer, which still runs the other code, is adopted by a supervisor of today."""
    run = write(home, FIRST_SPEC | more, FIRST_STATE)
    lock = locks.acquire(run.lock)
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER],
        env={**os.environ, "MAXRL_RUN_DIR": str(run.path)},
        pass_fds=(lock,),
        start_new_session=True,
    )
    os.close(lock)
    identity = processes.identity_of(trainer.pid)
    assert identity is not None
    living = {key: getattr(identity, key) for key in ("pid", "start_time", "boot_id")}
    state = FIRST_STATE | {"trainer": living | more, "exits": [FIRST_EXIT | more]} | more
    run.state.write_text(json.dumps(state))
    try:
        wait_until(lambda: SupervisorState.load(run).supervisor, 30, "a new supervisor")
        state = SupervisorState.load(run)
        assert (state.trainer, state.attempt, state.stalls) == (identity, 2, 0)
        assert state.exits[0].reason == "x"
        shown = told("old")
        assert (shown["iteration"], shown["mode"], shown["attempt"]) == (3, "act", 2)
        wait_until(
            lambda: 'maxrl_train_iterations_total{algorithm="MaxRL",job_name="rust",run="old"} 3.0'
            in metrics(home),
            20, "its series",
        )  # fmt: skip
    finally:
        trainer.send_signal(signal.SIGTERM)
        trainer.wait()
        supervisor = SupervisorState.load(run).supervisor
        if supervisor is not None:
            processes.send_signal(supervisor, signal.SIGTERM)
            wait_until(lambda: not processes.is_alive(supervisor), 20, "its end")


def test_a_run_of_a_later_version(home: Home, daemon: "subprocess.Popen[bytes]") -> None:
    """What is new in its files is passed over; where it cannot be, that run alone is damaged."""
    later = FIRST_SPEC | {"name": "later", "mode": "act", "priority": 3}
    state = FIRST_STATE | {"state": "hibernating", "nodes": [1, 2]}
    write(home, later, state, log="Gradient census: 12\n")
    write(home, later | {"name": "unknown", "settings": {"quantum": 1}}, FIRST_STATE)
    shown = told("later")
    assert shown["iteration"] == 3
    assert told("unknown")["state"] == "damaged"
    wait_until(lambda: 'iteration{job_name="rust",run="later"} 3.0' in metrics(home), 20, "series")
    assert daemon.poll() is None


# Maps of names that are a person's or a setting's, not the format's.
_MAPS = {"settings", "provenance", "tuning"}


def with_more(document: Any) -> Any:
    """The document with unknown keys in each of its objects."""
    if isinstance(document, list):
        return [with_more(each) for each in document]
    if not isinstance(document, dict):
        return document
    kept = {k: v if k in _MAPS else with_more(v) for k, v in document.items()}
    return kept | LATER


def rewrite(path: Path) -> None:
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join(json.dumps(with_more(json.loads(line))) for line in lines) + "\n")


def test_keys_of_a_later_version_are_passed_over_in_every_file(home: Home) -> None:
    run, me = home.run("one"), ProcessIdentity(1, 2, "boot")
    run.control.mkdir(parents=True)
    exits = (Exit(1, utc_now(), 1, None, "x", ("a line",)),)
    here = {"tuning": {"stop_grace": 1.0}, "host": "here", "suspended": True, "longest": 2.5}
    RunSpec("one", "rust", {"seed": 3}, (), utc_now(), {"host": "h"}).save(run)
    SupervisorState("running", utc_now(), me, me, 2, 1, exits, "y", **here).save(run)  # type: ignore[arg-type]
    Heartbeat("sample", 7, utc_now()).save(run)
    Detached(utc_now(), 3, 4).save(run)
    DaemonFile(me, "http://x/metrics", utc_now(), "9.9").save(home)
    state = control.TrainingState("maxrl", 20.0, 1.0, 8, 1e-5)
    control.publish(run.control, control.Control(1, 0, state, "uid:0", "why", utc_now()))
    for iteration in (1, 2):
        control.append_applied(run.applied, control.Applied(iteration, iteration, state))

    def read() -> tuple[object, ...]:
        return (
            *(kind.load(run) for kind in (RunSpec, SupervisorState, Heartbeat, Detached)),
            DaemonFile.load(home),
            control.read_newest(run.control),
            control.read_applied(run.applied),
        )

    before = read()
    for path in (run.spec, run.state, run.heartbeat, run.detached, home.daemon_file):
        rewrite(path)
    rewrite(control.path_of(run.control, 1))
    rewrite(run.applied)
    assert "of_a_later_version" in run.applied.read_text()
    assert read() == before


def test_a_history_of_a_later_version_is_refused_in_one_line_and_left_alone(home: Home) -> None:
    Store(home.history).close()
    with closing(sqlite3.connect(home.history)) as db:
        db.execute("PRAGMA user_version = 1000")
    before = home.history.read_bytes()
    words = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is of version 1000, this maxrl-ops knows" in done.stderr
    assert home.history.read_bytes() == before
