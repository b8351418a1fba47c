"""Supervisor and daemon as services: what they tell systemd, and how they end for it.

Their behaviour under a real systemd is in test_systemd_boot.py.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import FOREVER, Make
from waiting import wait_until

SAVES = (
    "terms = 0\n"
    "def save(*_):\n"
    "    global terms\n"
    "    terms += 1; print('leaving', flush=True)\n"
    "    time.sleep(0.3)\n"
    "    checkpoint(attempt); print('told', terms, flush=True); sys.exit(143)\n"
    "signal.signal(signal.SIGTERM, save)\n"
)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield str(tmp_path / "notify"), listening


def hear(listening: socket.socket, word: str) -> list[str]:
    """What is told up to `word`, and that."""
    heard: list[str] = []
    while not heard or not heard[-1].startswith(word):
        heard.append(listening.recv(4096).decode())
    return heard


def test_a_suspended_run_goes_on_with_its_next_supervisor(
    make: Make, manager: tuple[str, socket.socket]
) -> None:
    address, listening = manager
    running = make(
        "assert 'NOTIFY_SOCKET' not in os.environ\n"
        + SAVES
        + "if attempt == 2: print('resumed', flush=True); sys.exit(0)\n"
        + FOREVER
    )
    first = running.supervise(NOTIFY_SOCKET=address, WATCHDOG_USEC="300000")
    running.wait_for_training()
    heard = hear(listening, "READY=1") + hear(listening, "WATCHDOG=1")
    assert any(words.startswith("STATUS=Attempt 1 ") for words in heard)
    first.send_signal(signal.SIGUSR2)
    state = running.ended(0)
    assert (state.state, state.restarts, state.exits) == ("backing_off", 0, ())
    assert str(state.exit_reason).startswith("suspended: maxrl-ops resume")
    assert "told 1" in running.log()
    running.supervise()
    assert running.ended(0).state == "finished"
    assert "resumed" in running.log()


def test_a_stop_while_it_is_suspended_is_a_stop(make: Make) -> None:
    running = make(SAVES.replace("0.3", "1") + FOREVER)
    supervisor = running.supervise()
    running.wait_for_training()
    supervisor.send_signal(signal.SIGUSR2)
    wait_until(lambda: "leaving" in running.log(), 10, "a trainer that was told")
    supervisor.terminate()
    state = running.ended(0)
    assert (state.state, state.exit_reason) == ("stopped", "stopped as asked")
    # Told twice, it would have left without its checkpoint.
    assert "told 1" in running.log()


def test_a_run_that_backs_off_is_suspended_at_once(make: Make) -> None:
    running = make("print('training', flush=True); sys.exit(1)")
    supervisor = running.supervise(MAXRL_OPS_BACKOFF_SCALE="1000")
    running.wait_for("backing_off")
    supervisor.send_signal(signal.SIGUSR2)
    assert running.ended(0).state == "backing_off"
    assert len(running.pids()) == 1


def exec_as_service(module: str, *arguments: str) -> list[str]:
    """A command that is to its own eyes what systemd started."""
    code = (
        "import os, sys; os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid()); "
        f"os.execv(sys.executable, [sys.executable, '-P', '-m', '{module}', *sys.argv[1:]])"
    )
    return [sys.executable, "-c", code, *arguments]


@pytest.mark.parametrize(
    ("module", "arguments", "env"),
    [
        ("maxrl_ops.daemon", ["--listen", "nowhere"], {}),
        ("maxrl_ops.supervisor", ["{run}"], {"MAXRL_OPS_STOP_GRACE_SECONDS": "soon"}),
        ("maxrl_ops.supervisor", ["/no name"], {}),
    ],
)
def test_a_wrong_configuration_is_78_for_systemd_and_2_for_others(
    make: Make, tmp_path: Path, module: str, arguments: list[str], env: dict[str, str]
) -> None:
    running = make(FOREVER)
    given = [argument.format(run=running.run.path) for argument in arguments]
    commands = {
        78: exec_as_service(module, *given),
        2: [sys.executable, "-P", "-m", module, *given],
    }
    for code, command in commands.items():
        done = subprocess.run(
            command,
            env={**os.environ, "MAXRL_OPS_HOME": str(tmp_path / "home"), **env},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr


def test_a_daemon_of_systemds_starts_no_supervisor_in_its_own_unit(
    make: Make, tmp_path: Path
) -> None:
    """It would end with the daemon, and could reach no GPU."""
    running = make(FOREVER)
    supervisor = running.supervise()
    state = running.wait_for_training()
    supervisor.kill()
    supervisor.wait()
    here = {"MAXRL_OPS_HOME": str(tmp_path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
    command = exec_as_service("maxrl_ops.daemon")
    with subprocess.Popen(
        command, env={**os.environ, **here}, stderr=subprocess.PIPE, text=True
    ) as daemon:
        try:
            assert daemon.stderr is not None
            wanted = f"start maxrl-ops-run@{running.run.name}.service"
            said = next(line for line in daemon.stderr if "its supervisor is dead" in line)
            assert said.rstrip().endswith(f"its trainer lives: {wanted}")
        finally:
            daemon.kill()
    assert running.state() == state


def test_a_daemon_tells_systemd(tmp_path: Path, manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    home = {"MAXRL_OPS_HOME": str(tmp_path / "home"), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
    env = {**os.environ, **home, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
    command = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            hear(listening, "READY=1")
            # No run at all, and the loop is alive nevertheless.
            hear(listening, "STATUS=Looking after no run.")
            hear(listening, "WATCHDOG=1")
            hear(listening, "WATCHDOG=1")
            daemon.terminate()
            hear(listening, "STOPPING=1")
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
