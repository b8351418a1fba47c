"""A run killed at random points, again and again, tells what one never killed tells."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from maxrl_ops.wire.control import Control, TrainingState, publish
from maxrl_ops.wire.rundir import RunDir

pytestmark = pytest.mark.slow

# A share of the torture in every run of the suite; `make torture` sets the whole.
# Each of the two scenarios takes half.
KILLS = -(-int(os.environ.get("TORTURE_KILLS", "4")) // 2)
SETTINGS = {
    "MAXRL_TASK": "arithmetic",
    "MAXRL_SCHEDULE": "hybrid",
    "MAXRL_HAND_OVER_AFTER": "6",
    "MAXRL_ITERATIONS": "24",
    "MAXRL_PROMPTS_PER_ITERATION": "4",
    "MAXRL_PROMPT_SAMPLING": "difficulty",
    "MAXRL_REPLAY": "4",
    "MAXRL_UPDATES_PER_BATCH": "2",
    "MAXRL_KL_COEFFICIENT": "0.01",
    "MAXRL_CHECKPOINT_EVERY": "2",
    "MAXRL_EVALUATE_EVERY": "8",
    "MAXRL_EVALUATION_PROMPTS": "6",
    "MAXRL_SEED": "5",
    # Two threads race for whatever is not summed in a fixed order.
    "OMP_NUM_THREADS": "2",
}
# Each start is that of three processes: none but in `make torture`.
KILLS_OF_RANKS = int(os.environ.get("TORTURE_KILLS", "4")) // 10
Command = tuple[str, ...]
ALONE: Command = (sys.executable, "-P", "-m", "trainer")
IN_TWO: Command = (
    str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2",
    "-m", "trainer",
)  # fmt: skip
WISH = TrainingState("grpo", 15.0, 2.0, 6, 1e-4)


def trainer(run: RunDir, command: Command) -> "subprocess.Popen[bytes]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    return subprocess.Popen(
        command,
        env={**kept, **SETTINGS, "MAXRL_RUN_DIR": str(run.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def told(run: RunDir) -> list[str]:
    """All that the log tells, without times; what was told again counts once, if it is the same."""
    log = re.sub(r"^  (Time|At): .*\n|saved in .*", "", run.log.read_text(), flags=re.M)
    texts = {found[0] for found in re.finditer(r"^\S.*\n(?:  .*\n)*", log, re.M)}
    # The header of a resumed attempt tells what is in force by then, as it should. A block that a
    # kill cut off was told again.
    kinds = ("Iteration ", "Evaluation ", "Control ", "Checkpoint ", "Update ", "Run finished")
    whole = re.compile(r"(?!Iteration )|(?s:.*)\n  \[.*\]\n\Z")
    return sorted(text for text in texts if text.startswith(kinds) and whole.match(text))


def run_whole(run: RunDir, *, wish_at: int | None, command: Command = ALONE) -> None:
    """Never killed; somebody wishes for something else, before it trains or while it does."""
    run.control.mkdir(parents=True)
    if wish_at is None:
        publish(run.control, wish(1))
    with trainer(run, command) as process:
        if wish_at is not None:
            wait_until(lambda: f"Iteration {wish_at}/" in read(run), 120, f"iteration {wish_at}")
            publish(run.control, wish(2))
        assert process.wait(timeout=120) == 0


def wish(revision: int) -> Control:
    return Control(revision, revision - 1, WISH, "uid:0", "torture", "2026-11-24T00:00:00Z")


def read(run: RunDir) -> str:
    return run.log.read_text() if run.log.exists() else ""


def run_killed(run: RunDir, rng: random.Random, kills: int, command: Command) -> int:
    """Kill it at random moments of its work until `kills` are done; how many were."""
    done = 0
    while True:
        size = len(read(run))
        process = trainer(run, command)
        # From the first word of this attempt on: how many more bytes it may write.
        allowed = rng.randrange(1, 6000) if done < kills else sys.maxsize

        def is_enough(process=process, size=size, allowed=allowed) -> bool:  # type: ignore[no-untyped-def]
            return process.poll() is not None or len(read(run)) >= size + allowed

        wait_until(is_enough, 180, "the trainer goes on")
        if process.poll() is not None:
            assert process.returncode == 0, read(run)[-500:]
            return done
        if command == ALONE:
            process.send_signal(signal.SIGKILL)
        else:
            os.kill(rng.choice(ranks_of(process.pid)), signal.SIGKILL)
        process.wait()
        done += 1


def ranks_of(torchrun: int) -> list[int]:
    """The processes that it started."""
    paths = Path(f"/proc/{torchrun}/task").glob("*/children")
    return sorted(int(word) for path in paths for word in path.read_text().split())


Record = Callable[[str, object], None]


def compare(
    record: Record,
    tmp_path: Path,
    whole: RunDir,
    given: tuple[Path, ...],
    wanted: int = KILLS,
    command: Command = ALONE,
) -> None:
    """Kill runs that begin with `given` as often as wanted; each tells what `whole` told."""
    seed = int(os.environ.get("TORTURE_SEED", "1"))
    rng, expected = random.Random(seed), told(whole)
    kills, round_ = 0, 0
    while kills < wanted:
        round_ += 1
        run = RunDir(tmp_path / f"killed-{round_}")
        for path in given:
            copy = run.path / path.relative_to(whole.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        kills += run_killed(run, rng, wanted - kills, command)
        assert told(run) == expected, f"seed {seed}, round {round_}"
        shutil.rmtree(run.path)
    for name, value in {"kills": kills, "runs": round_, "texts": len(expected)}.items():
        record(name, value)


def test_killed_at_random_points_it_replays_what_was_applied(
    tmp_path: Path, record_property: Record
) -> None:
    """The same wishes at the same iterations, which only applied.jsonl tells."""
    whole = RunDir(tmp_path / "whole")
    run_whole(whole, wish_at=12)
    log = read(whole)
    assert "\nControl 1 applied at 7: objective maxrl (was grpo)\n" in log
    assert re.search(r"^Control 2 applied at 1[3-9]: objective grpo", log, re.M)
    compare(record_property, tmp_path, whole, (*whole.control.iterdir(), whole.applied))


def test_killed_at_random_points_it_publishes_and_applies_once(
    tmp_path: Path, record_property: Record
) -> None:
    """The wish is there from the start, and the planned switch is the trainer's own."""
    whole = RunDir(tmp_path / "whole")
    run_whole(whole, wish_at=None)
    log = read(whole)
    assert "\nControl 1 applied at 1: correctness_threshold 15" in log
    assert "\nControl 2 applied at 7: objective maxrl (was grpo)\n" in log
    compare(record_property, tmp_path, whole, (whole.control / "000001.json",))


@pytest.mark.skipif(KILLS_OF_RANKS == 0, reason="make torture does")
def test_two_processes_of_which_one_is_killed_tell_the_same_too(
    tmp_path: Path, record_property: Record
) -> None:
    whole = RunDir(tmp_path / "whole")
    run_whole(whole, wish_at=None, command=IN_TWO)
    given = (whole.control / "000001.json",)
    compare(record_property, tmp_path, whole, given, KILLS_OF_RANKS, IN_TWO)
