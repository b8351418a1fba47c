"""Runs of the Rust task from the shipped model: how far each comes, as rows of a table."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_HEAD = (
    "| run | iterations | pass@1 at the start | at the end | hand-over |",
    "|---|---|---|---|---|",
)

# What `maxrl-ops start` is told, by the name of the run.
Jobs = Mapping[str, Sequence[str]]


def table(jobs: Jobs, seed: int, at_once: int) -> list[str]:
    """Train them, `at_once` at a time with a thread each, in a home of their own."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        try:
            ended = _train(home, jobs, seed, at_once)
            return [*_HEAD, *(_row(name, ended[name], home) for name in jobs)]
        finally:
            _maxrl(home, "stop", "--all", check=False)
            _maxrl(home, "daemon", "--stop", check=False)


def _train(home: Path, jobs: Jobs, seed: int, at_once: int) -> dict[str, dict[str, Any]]:
    """The last status of each run."""
    waiting, ended = list(jobs), dict[str, dict[str, Any]]()
    while len(ended) < len(jobs):
        shown = json.loads(_maxrl(home, "status", "--json"))["runs"]
        for run in shown:
            if run["state"] in {"finished", "failed", "stopped"}:
                ended.setdefault(run["name"], run)
        while waiting and len(shown) - len(ended) < at_once:
            name = waiting.pop(0)
            seeded = ("--seed", str(seed), "--name", name)
            _maxrl(home, "start", "--task", "rust", *seeded, *jobs[name])
            shown.append({"name": name})
        time.sleep(1)
    return ended


def _row(name: str, run: Mapping[str, Any], home: Path) -> str:
    held = run["held_out"]
    log = (home / "runs" / name / "trainer.log").read_text()
    switched = re.search(r"^Control \d+ applied at (\d+): objective \w+ \(was grpo\)", log, re.M)
    first, last = (
        f"{held[value]:.1%} +- {held[error]:.1%}"
        for value, error in (("first_pass_at_1", "first_se"), ("pass_at_1", "se"))
    )
    over = f"at {switched[1]}" if switched else ""
    return f"| {name} | {run['iteration']} | {first} | {last} | {over} |"


def _maxrl(home: Path, *arguments: str, check: bool = True) -> str:
    env = {
        **os.environ,
        "MAXRL_OPS_HOME": str(home),
        "MAXRL_OPS_LISTEN": "127.0.0.1:0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", "-m", "maxrl_ops", *arguments]
    return subprocess.run(command, env=env, check=check, capture_output=True, text=True).stdout
