"""A home of the test's own, driven by the installed command alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from waiting import wait_until

ENDED = {"finished", "stopped", "failed"}


@dataclass(frozen=True)
class Installation:
    """The installed `maxrl-ops`, and a home that nobody else uses."""

    program: str
    home: Path
    env: dict[str, str]

    def start_process(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """The command, still running; its output is a pipe."""
        return subprocess.Popen(
            [self.program, *arguments],
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> str:
        """The command's output; it must succeed."""
        with self.start_process(*arguments, **env) as process:
            output = process.communicate(timeout=600)[0]
        assert process.returncode == 0, output
        return output

    def refused(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Exit code and the one line of a command that must fail."""
        with self.start_process(*arguments, **env) as process:
            output = process.communicate(timeout=120)[0]
        assert "Traceback" not in output
        assert len(output.strip().splitlines()) == 1, output
        return process.returncode, output

    def status(self, name: str) -> dict[str, Any]:
        """`status --json` of one run."""
        [run] = json.loads(self.run("status", name, "--json"))["runs"]
        return cast("dict[str, Any]", run)

    def log(self, name: str) -> str:
        """The run's log."""
        path = self.home / "runs" / name / "trainer.log"
        return path.read_text() if path.exists() else ""

    def trainer_pid(self, name: str) -> int | None:
        """The living trainer's pid, from state.json."""
        path = self.home / "runs" / name / "state.json"
        trainer = json.loads(path.read_text())["trainer"] if path.exists() else None
        return trainer and trainer["pid"]

    def wait_for(self, name: str, seen: Callable[[str], bool], seconds: float = 300) -> None:
        """Wait until the log satisfies `seen`."""
        wait_until(lambda: seen(self.log(name)), seconds, f"{name}: {self.log(name)[-500:]}")

    def wait_ended(self, name: str, seconds: float = 400) -> dict[str, Any]:
        """Wait until the run is over."""
        state = self.home / "runs" / name / "state.json"
        wait_until(lambda: json.loads(state.read_text())["state"] in ENDED, seconds, f"{name} ends")
        return self.status(name)


@pytest.fixture
def maxrl(tmp_path: Path) -> Iterator[Installation]:
    program = shutil.which("maxrl-ops", path=str(Path(sys.executable).parent))
    assert program is not None, "maxrl-ops is not installed"
    home = tmp_path / "home"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    env = {**kept, "MAXRL_OPS_HOME": str(home), "MAXRL_OPS_BACKOFF_SCALE": "0.1"}
    env["MAXRL_OPS_LISTEN"] = "127.0.0.1:0"
    installation = Installation(program, home, env)
    yield installation
    for words in (["stop", "--all"], ["daemon", "--stop"]):
        subprocess.run([program, *words], env=env, capture_output=True, check=False)


def kill(pid: int | None) -> None:
    """kill -9."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
