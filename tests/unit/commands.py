"""Runs `maxrl-ops` for tests, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from maxrl_ops.cli.app import run

TRAINER = """
import sys, time
print("RL Method: MaxRL\\nObjective: maxrl\\nTask: rust\\nModel: tiny [red]model[/red]")
print("Iterations: %d\\nCorrectness threshold: 20\\nAttempt: 1\\n" % int(sys.argv[1]))
print("Evaluation at 0: greedy 36.0%, pass@1 38.0% +- 2.1%, pass@8 71.0%, "
      "compile 60.0%, compiles but wrong 22.0%")
for n in range(1, int(sys.argv[1]) + 1):
    print("Iteration %d/%d" % (n, int(sys.argv[1])))
    print("  Correctness: 12/16 (75.0%)\\n  Loss: 4.2\\n  Time: 0.10s\\n  [Good - on track]")
print("Evaluation at %s: greedy 84.0%%, pass@1 86.0%% +- 2.0%%, pass@8 97.0%%, "
      "compile 96.0%%, compiles but wrong 10.0%%" % sys.argv[1], flush=True)
print("| \\x1b]0;retitled\\x07\\x1b[31m[bold]not markup[/bold]", flush=True)
if "forever" in sys.argv:
    time.sleep(600)
print("Run finished: %s iterations" % sys.argv[1], flush=True)
"""


@dataclass(frozen=True)
class Place:
    """A home of the test's own, and a trainer that needs no model."""

    home: Path
    env: Mapping[str, str]

    def command(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """`maxrl-ops` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "maxrl_ops", *arguments],
            env={**self.env, **env},
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def told(self, name: str) -> dict[str, Any]:
        """What `status --json` tells of a run."""
        done = self.command("status", name, "--json")
        assert done.returncode == 0, done.stderr
        (run,) = json.loads(done.stdout)["runs"]
        return cast("dict[str, Any]", run)

    def own_command(self, *arguments: str) -> tuple[str, ...]:
        """A command line for after `--` that writes the guide's format."""
        script = self.home.parent / "fake_trainer.py"
        script.write_text(TRAINER)
        return ("--", sys.executable, str(script), *arguments)


def clean_environment() -> dict[str, str]:
    """This process's environment without anything of ours; `start` brings no daemon up."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    return {**kept, "MAXRL_OPS_NO_DAEMON": "1"}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int) -> str:
    """Run a command line that must be refused: one line on stderr, nothing else; that line."""
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("maxrl-ops: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err.removeprefix("maxrl-ops: ").rstrip("\n")
