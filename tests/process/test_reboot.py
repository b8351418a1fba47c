"""A reboot, seen from after it: state.json names processes of another boot of this machine."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from supervised import FOREVER, Make, Running
from waiting import wait_until

from maxrl_ops import daemon_file, processes
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec, SupervisorState

BEFORE = "00000000-0000-4000-8000-000000000000"
SCRIPT = (
    "(run / f'secret-{attempt}').write_text(os.environ.get('HF_TOKEN', 'none'))\n"
    "if attempt == 1: checkpoint(7)\n" + FOREVER
)


def of_before(identity: ProcessIdentity | None) -> ProcessIdentity | None:
    return None if identity is None else replace(identity, boot_id=BEFORE)


def reboot(running: Running) -> SupervisorState:
    """End all that lives, and let its record be of the boot before."""
    state = running.wait_for_training()
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(60)
    assert state.trainer is not None
    processes.signal_group(state.trainer, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(state.trainer), 60, "the trainer's end")
    state = running.state()
    state = replace(state, supervisor=of_before(state.supervisor), trainer=of_before(state.trainer))
    state.save(running.run)
    return state


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    home = {"MAXRL_OPS_HOME": str(tmp_path), "MAXRL_OPS_NO_DAEMON": "1"}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "maxrl_ops", *words],
            env={**os.environ, **home},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    yield run
    run("stop", "--all", "--timeout", "20")


def told(command: Command, name: str) -> dict[str, Any]:
    (run,) = json.loads(command("status", name, "--json").stdout)["runs"]
    assert isinstance(run, dict)
    return run


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    started = []

    def start() -> "subprocess.Popen[str]":
        listen = {"MAXRL_OPS_HOME": str(tmp_path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "maxrl_ops.daemon"],
                env={**os.environ, **listen},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shows(home: Path, state: str) -> bool:
    found = daemon_file.running(Home(home))
    if found is None:
        return False
    with urllib.request.urlopen(found.metrics, timeout=60) as answer:  # noqa: S310 - the daemon's
        return f'state="{state}"}} 1.0' in answer.read().decode()


def marked(running: Running, **wishes: object) -> None:
    replace(RunSpec.load(running.run), restart_on_boot=True, **wishes).save(running.run)  # type: ignore[arg-type]


def test_a_marked_run_comes_back_with_its_secrets(
    make: Make, tmp_path: Path, command: Command, daemon: Callable[[], "subprocess.Popen[str]"]
) -> None:
    running = make(SCRIPT)
    secrets = tmp_path / "secrets.env"
    secrets.write_text("# of the hub\nHF_TOKEN='hf_first'\n")
    secrets.chmod(0o600)
    marked(running, environment_file=str(secrets))
    running.supervise()
    reboot(running)
    secrets.write_text("HF_TOKEN=hf_second\n")
    process = daemon()
    wait_until(lambda: running.is_in("running") and running.state().attempt == 2, 20, "it is back")
    wait_until((running.run.path / "secret-2").exists, 60, "its second attempt")
    state = running.state()
    # A reboot is no failure of the run's.
    assert (state.restarts, state.failures, state.exits[0].reason) == (
        0, 0, "the machine was rebooted",
    )  # fmt: skip
    secrets_told = [(running.run.path / f"secret-{n}").read_text() for n in (1, 2)]
    assert secrets_told == ["hf_first", "hf_second"]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != secrets]
    assert not [p for p in kept if b"hf_" in p.read_bytes() and not p.name.startswith("secret-")]
    assert command("stop", running.run.name).returncode == 0
    process.terminate()
    assert "a reboot has cut it off: pid" in process.communicate(timeout=20)[1]


def test_any_other_is_interrupted_and_says_how_to_go_on(
    make: Make, tmp_path: Path, command: Command, daemon: Callable[[], "subprocess.Popen[str]"]
) -> None:
    running, name = make(SCRIPT), "run-0"
    running.supervise()
    before = reboot(running)
    daemon()
    wait_until(lambda: shows(tmp_path, "interrupted"), 20, "its state in the metrics")
    shown = told(command, name)
    assert (shown["state"], shown["exit_reason"]) == ("interrupted", "the machine was rebooted")
    assert shown["sentence"] == (
        "Interrupted by a reboot at iteration 0: maxrl-ops resume run-0 goes on."
    )
    assert running.state() == before
    done = command("resume", name)
    assert (done.returncode, done.stdout) == (
        0, "run-0 goes on: maxrl-ops status run-0 --watch\n",
    ), done.stderr  # fmt: skip
    wait_until(lambda: running.is_in("running") and running.state().attempt == 2, 20, "it goes on")
    twice = command("resume", name)
    assert (twice.returncode, twice.stderr.count("\n")) == (4, 1)
    command("stop", name)
    over = command("resume", name)
    assert (over.returncode, "start --from run-0" in over.stderr) == (2, True)


def test_of_another_machines_run_nobody_can_tell(
    make: Make, tmp_path: Path, command: Command, daemon: Callable[[], "subprocess.Popen[str]"]
) -> None:
    running = make(SCRIPT)
    marked(running)
    running.supervise()
    before = replace(reboot(running), host="elsewhere")
    before.save(running.run)
    daemon()
    wait_until(lambda: shows(tmp_path, "supervisor_gone"), 20, "its state in the metrics")
    assert told(command, "run-0")["state"] == "supervisor_gone"
    # Nor is it declared over here: it may go on there.
    assert command("stop", "run-0").returncode == 0
    assert running.state() == before


def test_a_shutdowns_term_suspends_a_marked_run_and_a_stop_ends_it(
    make: Make, command: Command
) -> None:
    running = make("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n" + FOREVER)
    marked(running)
    first = running.supervise()
    running.wait_for_training()
    # To everybody, as init does.
    trainer = running.state().trainer
    assert trainer is not None
    first.terminate()
    processes.send_signal(trainer, signal.SIGTERM)
    state = running.ended(0)
    assert (state.state, state.restarts) == ("backing_off", 0)
    shown = told(command, "run-0")
    assert (shown["state"], shown["restart_on_boot"]) == ("suspended", True)
    assert "maxrl-ops resume run-0 goes on" in shown["sentence"]
    stopped = command("stop", "run-0")
    assert "it is over now" in stopped.stdout
    assert running.state().state == "stopped"

    other = make(FOREVER)
    marked(other)
    other.supervise()
    other.wait_for_training()
    assert command("stop", "run-1").returncode == 0
    assert other.ended(0).state == "stopped"
