"""A run killed at random points, again and again, tells what one never killed tells."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from maxrl_ops.wire.control import Control, TrainingState, publish
from maxrl_ops.wire.rundir import RunDir

pytestmark = pytest.mark.slow

# A share of the torture in every run of the suite; `make torture` sets the whole.
KILLS = int(os.environ.get("TORTURE_KILLS", "3"))
SETTINGS = {
    "MAXRL_TASK": "arithmetic",
    "MAXRL_SCHEDULE": "hybrid",
    "MAXRL_HAND_OVER_AFTER": "6",
    "MAXRL_ITERATIONS": "24",
    "MAXRL_PROMPTS_PER_ITERATION": "4",
    "MAXRL_PROMPT_SAMPLING": "difficulty",
    "MAXRL_UPDATES_PER_BATCH": "2",
    "MAXRL_CHECKPOINT_EVERY": "2",
    "MAXRL_EVALUATE_EVERY": "8",
    "MAXRL_EVALUATION_PROMPTS": "6",
    "MAXRL_SEED": "5",
    "OMP_NUM_THREADS": "1",
}
WISH = TrainingState("maxrl", 15.0, 2.0, 6, 1e-4)


def trainer(run: RunDir) -> "subprocess.Popen[bytes]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer"],
        env={**kept, **SETTINGS, "MAXRL_RUN_DIR": str(run.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def told(run: RunDir) -> list[str]:
    """Each thing the log tells, as told last, without times and attempts."""
    log = re.sub(
        r"^  (Time|At): .*\n|saved in .*|^(Attempt|Resumed from): .*\n",
        "",
        run.log.read_text(),
        flags=re.M,
    )
    last: dict[str, str] = {}
    for found in re.finditer(r"^(\S.*)\n((?:  .*\n)*)", log, re.M):
        named = re.match(r"(Evaluation at|Control|Iteration|Checkpoint) \d+", found[1])
        last[named[0] if named else found[1]] = found[0]
    # The header of a resumed attempt tells what is in force by then, as it should.
    kinds = ("Iteration ", "Evaluation ", "Control ", "Run finished")
    return sorted(text for name, text in last.items() if name.startswith(kinds))


def run_whole(run: RunDir) -> None:
    """Never killed; somebody wishes for something else while it trains."""
    run.control.mkdir(parents=True)
    with trainer(run) as process:
        wait_until(lambda: "Iteration 12/" in read(run), 120, "iteration 12")
        publish(run.control, Control(2, 1, WISH, "uid:0", "torture", "2026-11-24T00:00:00Z"))
        assert process.wait(timeout=120) == 0


def read(run: RunDir) -> str:
    return run.log.read_text() if run.log.exists() else ""


def run_killed(run: RunDir, rng: random.Random, kills: int) -> int:
    """Kill it at random moments of its work until `kills` are done; how many were."""
    done = 0
    while True:
        size = len(read(run))
        process = trainer(run)
        # From the first word of this attempt on: how many more bytes it may write.
        allowed = rng.randrange(1, 6000) if done < kills else sys.maxsize

        def is_enough(process=process, size=size, allowed=allowed) -> bool:  # type: ignore[no-untyped-def]
            return process.poll() is not None or len(read(run)) >= size + allowed

        wait_until(is_enough, 180, "the trainer goes on")
        if process.poll() is not None:
            assert process.returncode == 0, read(run)[-500:]
            return done
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1


def test_killed_at_random_points_it_is_the_same_run(tmp_path: Path) -> None:
    seed = int(os.environ.get("TORTURE_SEED", "1"))
    rng = random.Random(seed)
    whole = RunDir(tmp_path / "whole")
    run_whole(whole)
    expected = told(whole)
    assert any(line.startswith("Control 1 applied at 7: objective maxrl") for line in expected)
    assert any(line.startswith("Control 2 applied at") for line in expected)
    kills, round_ = 0, 0
    while kills < KILLS:
        round_ += 1
        # The same wishes at the same iterations, which only applied.jsonl tells.
        run = RunDir(tmp_path / f"killed-{round_}")
        shutil.copytree(whole.control, run.control)
        shutil.copy(whole.applied, run.applied)
        kills += run_killed(run, rng, KILLS - kills)
        assert told(run) == expected, f"seed {seed}, round {round_}"
        shutil.rmtree(run.path)
