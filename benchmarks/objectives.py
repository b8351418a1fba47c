"""`python -m benchmarks.objectives`: does every objective train the Rust task above its start?

Each run is what `maxrl-ops start` makes of the shipped model and the task's own profile; nothing is
told but the objective, or the schedule. Two runs at a time, a thread each.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from maxrl_ops.wire.settings import OBJECTIVE_NAMES

_RESULTS = Path(__file__).parent / "results"
_AT_ONCE = 2
_JOBS: Mapping[str, tuple[str, ...]] = {
    **{name: ("--objective", name) for name in OBJECTIVE_NAMES},
    "hybrid": ("--algorithm", "hybrid"),
    # The rule that hands over leaves a run alone that is about to end.
    "adaptive": ("--algorithm", "adaptive", "--iterations", "160"),
}


def main() -> None:
    """Train, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(_JOBS), choices=list(_JOBS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        try:
            ended = _train(home, given.only, given.seed)
            rows = [_row(name, ended[name], home) for name in given.only]
        finally:
            _maxrl(home, "stop", "--all", check=False)
            _maxrl(home, "daemon", "--stop", check=False)
    text = "\n".join(
        [
            "# Every objective on the Rust task",
            "",
            f"{machine.describe()}; seed {given.seed}, one thread a run",
            "",
            "| run | iterations | pass@1 at the start | at the end | hand-over |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "objectives.md").write_text(text)
    print(text)


def _train(home: Path, names: list[str], seed: int) -> dict[str, dict[str, Any]]:
    """The last status of each run."""
    waiting, ended = list(names), dict[str, dict[str, Any]]()
    while len(ended) < len(names):
        shown = json.loads(_maxrl(home, "status", "--json"))["runs"]
        for run in shown:
            if run["state"] in {"finished", "failed", "stopped"}:
                ended.setdefault(run["name"], run)
        while waiting and len(shown) - len(ended) < _AT_ONCE:
            name = waiting.pop(0)
            seeded = ("--seed", str(seed), "--name", name)
            _maxrl(home, "start", "--task", "rust", *seeded, *_JOBS[name])
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


if __name__ == "__main__":
    main()
