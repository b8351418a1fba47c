"""A sweep whose conductor is killed at any instant, again and again: each run is made once."""

import os
import random
import subprocess
import sys
from pathlib import Path

from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import RunDir

KILLS = int(os.environ.get("TORTURE_KILLS", "4"))

TRAINER = """
import os, time
print("RL Method: MaxRL\\nIterations: 1\\nAttempt: 1\\n", flush=True)
time.sleep(0.2)
print("Iteration 1/1\\n  Correctness: 1/2 (50.0%)\\n  [Fair - keep watching]")
print("Run finished: 1 iterations", flush=True)
"""


def test_whatever_kills_it_no_run_begins_twice(tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("TORTURE_SEED", "1")))
    home = tmp_path / "home"
    (tmp_path / "own_trainer.py").write_text(TRAINER)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    seeds = max(4, KILLS)
    words = ("sweep", "n_samples=4,8", "--seeds", str(seeds), "--name", "s", "--at-once", "2")

    def sweep() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "maxrl_ops", *words, "--", sys.executable, "own_trainer.py"],
            env={**kept, "MAXRL_OPS_HOME": str(home), "MAXRL_OPS_NO_DAEMON": "1"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    for _ in range(KILLS):
        with sweep() as conductor:
            try:
                conductor.wait(timeout=rng.uniform(0.3, 1.5))
            except subprocess.TimeoutExpired:
                conductor.kill()
    with sweep() as conductor:
        assert conductor.wait(timeout=120) == 0

    runs = [RunDir(path) for path in (home / "runs").iterdir()]
    assert len(runs) == 2 * seeds
    for run in runs:
        state = SupervisorState.load(run)
        assert (state.state, state.attempt, state.restarts) == ("finished", 1, 0), run.name
        assert run.log.read_text().count("RL Method") == 1, run.name
