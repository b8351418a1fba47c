"""The native engine in two processes: one log, one answer to a control, one end."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from conftest import Installation
from test_main_job import ARITHMETIC, blocks, evaluations

pytestmark = pytest.mark.slow
# Each costs the start of three processes; `make torture` does some.
KILLS = int(os.environ.get("TORTURE_KILLS", "0")) // 10
BIN = Path(sys.executable).parent
TORCHRUN = f"{BIN / 'torchrun'} --standalone --nproc-per-node 2"
JOB = (
    *ARITHMETIC, "--use-maxrl", "--prompts-per-iteration", "3", "--n-samples", "8",
    "--evaluate-every", "0", "--evaluation-prompts", "9", "--checkpoint-every", "5",
)  # fmt: skip


def rank_pid(run: Path, rank: int) -> int:
    """The pid of one of the run's processes."""
    wanted = {f"MAXRL_RUN_DIR={run}".encode(), f"RANK={rank}".encode()}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process of {run} has rank {rank}")


def kill_a_rank(maxrl: Installation, rank: int) -> None:
    """One of the two dies: the attempt ends, and another goes on from the newest checkpoint."""
    before = maxrl.log("two").count("Resumed from: ")
    os.kill(rank_pid(maxrl.home / "runs/two", rank), signal.SIGKILL)
    maxrl.wait_for("two", lambda log: log.count("Resumed from: ") > before)
    *_, attempt = maxrl.log("two").split("Resumed from: ")
    there = int(attempt.split()[0]) + 3
    maxrl.wait_for("two", lambda log: f"Iteration {there}/" in log.rpartition("Resumed from")[2])


def test_two_processes_train_as_one_run(maxrl: Installation) -> None:
    maxrl.run("start", "--name", "two", *JOB, "--iterations", "4000", "--launch", TORCHRUN)
    maxrl.wait_for("two", lambda log: "Checkpoint 5: saved" in log)
    maxrl.run("set", "--run", "two", "correctness_threshold=15", "n_samples=4")
    maxrl.wait_for("two", lambda log: "\nControl 1 applied at " in log)

    for kill in range(KILLS):
        kill_a_rank(maxrl, kill % 2)

    maxrl.run("stop", "two")
    status, log = maxrl.status("two"), maxrl.log("two")
    assert (status["state"], status["attempt"], status["n_samples"]) == ("stopped", 1 + KILLS, 4)
    # The stop was answered at one boundary of both, with a checkpoint.
    assert f"Checkpoint {status['iteration']}: saved" in log
    assert f"Run stopped: after iteration {status['iteration']}\n" in log
    # A resumed attempt applies it at the same iteration again.
    [applied] = set(re.findall(r"^Control 1 applied at (\d+): ", log, re.M))
    told = blocks(log)
    # 3 groups over 2 processes: the figures are of all of them.
    for iteration, block in told.items():
        groups = 24 if iteration < int(applied) else 12
        assert f"/{groups} (" in block
        assert sum(map(int, re.findall(r"(\d+) (?:all wrong|all correct|mixed)", block))) == 3
    samples = (maxrl.home / "runs/two/samples.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["iteration"] == 2 for line in samples) == 24
    assert [n for n, _, _ in evaluations(log)] == [0]
    assert "Processes: 2" in log
