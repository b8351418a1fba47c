"""The main job, as a user runs it: the installed command, real training, real rustc."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import Installation, kill

pytestmark = pytest.mark.slow

# A training small enough for a test, on the task that needs no toolchain.
ARITHMETIC = ("--task", "arithmetic", "--evaluation-prompts", "24")


def evaluations(log: str) -> list[tuple[int, float, float]]:
    """(iteration, pass@1, standard error) of each evaluation in the log, in percent."""
    found = re.findall(r"^Evaluation at (\d+): .*pass@1 ([\d.]+)% \+- ([\d.]+)%", log, re.M)
    return [(int(n), float(p), float(se)) for n, p, se in found]


def untimed(log: str) -> str:
    """The log without what may differ between two runs of the same work."""
    return re.sub(
        r"^  (Time|At): .*\n|saved in .*|^(Attempt|Resumed from): .*\n", "", log, flags=re.M
    )


def blocks(log: str) -> dict[int, str]:
    """The last block of each iteration, untimed."""
    found = re.findall(r"^(Iteration (\d+)/\d+\n(?:  .*\n)+)", untimed(log), re.M)
    return {int(number): block for block, number in found}


@pytest.mark.needs("rustc", "bwrap", "cc")
def test_rust_is_learned_though_trainer_and_command_are_killed(maxrl: Installation) -> None:
    with maxrl.start_process("start", "--use-maxrl", "--follow", "--name", "one") as follower:
        maxrl.wait_for("one", lambda log: "Iteration 7/40" in log)
        follower.kill()
    kill(maxrl.trainer_pid("one"))
    told = maxrl.wait_ended("one")

    log = maxrl.log("one")
    assert told["state"] == "finished"
    assert (told["algorithm"], told["objective"], told["attempt"]) == ("MaxRL", "maxrl", 2)
    assert told["iteration"] == told["target_iterations"] == 40
    assert "Resumed from: 5" in log
    (_, first, first_se), *_, (_, last, last_se) = evaluations(log)
    assert last - first > 2 * (first_se**2 + last_se**2) ** 0.5
    held_out = told["held_out"]
    assert [round(100 * held_out[k], 1) for k in ("first_pass_at_1", "pass_at_1")] == [first, last]
    assert "finished" in told["sentence"]


def test_what_follow_prints_without_a_terminal(maxrl: Installation) -> None:
    output = maxrl.run("start", "--use-maxrl", "--follow", *ARITHMETIC, "--iterations", "2")
    assert "\x1b" not in output
    for word in ("pass@1", "finished"):
        assert word in output


def test_use_maxrl_false_trains_with_grpo(maxrl: Installation) -> None:
    maxrl.run("start", "--name", "g", *ARITHMETIC, "--iterations", "2", USE_MAXRL="false")
    told = maxrl.wait_ended("g")
    assert (told["algorithm"], told["objective"]) == ("GRPO", "grpo")
    assert "GRPO" in told["sentence"]
    assert maxrl.log("g").startswith("RL Method: GRPO\n")


def test_killed_and_resumed_is_the_same_run(maxrl: Installation) -> None:
    job = (*ARITHMETIC, "--iterations", "14", "--evaluate-every", "7", "--seed", "3")
    maxrl.run("start", "--name", "killed", *job)
    maxrl.wait_for("killed", lambda log: "Iteration 8/14" in log)
    kill(maxrl.trainer_pid("killed"))
    maxrl.run("start", "--name", "whole", *job)
    assert maxrl.wait_ended("killed")["restarts"] == 1
    assert maxrl.wait_ended("whole")["restarts"] == 0
    assert blocks(maxrl.log("killed")) == blocks(maxrl.log("whole"))
    assert evaluations(maxrl.log("killed"))[-1] == evaluations(maxrl.log("whole"))[-1]


def test_a_stopped_run_keeps_its_checkpoint_and_another_goes_on_from_it(
    maxrl: Installation,
) -> None:
    maxrl.run("start", "--name", "first", *ARITHMETIC, "--iterations", "100000")
    maxrl.wait_for("first", lambda log: "Iteration 2/" in log)
    maxrl.run("stop", "first")
    told = maxrl.status("first")
    assert told["state"] == "stopped"
    iteration = told["iteration"]
    checkpoint = maxrl.home / "runs" / "first" / "checkpoints" / f"{iteration:06d}"
    assert (checkpoint / "COMPLETE").exists()

    maxrl.run("start", "--name", "next", "--from", "first", "--iterations", "2")
    assert maxrl.wait_ended("next")["state"] == "finished"
    assert str(checkpoint / "model") in maxrl.log("next")


def test_a_corrupt_control_file_is_skipped_and_said(maxrl: Installation) -> None:
    maxrl.run("start", "--name", "c", *ARITHMETIC, "--iterations", "100000")
    maxrl.wait_for("c", lambda log: "Iteration 1/" in log)
    (maxrl.home / "runs" / "c" / "control" / "000001.json").write_text("{ half")
    maxrl.wait_for("c", lambda log: "Control 1 rejected: unreadable, skipped: not JSON" in log)
    maxrl.run("stop", "c")


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (("--device", "cuda:77"), {}, 2, "cuda:77"),
        (("--checkpoint", "/no/such/model"), {}, 3, "/no/such/model"),
        ((), {"MAXRL_N_SAMPLES": "none"}, 2, "MAXRL_N_SAMPLES='none'"),
        (("--reward", "guide"), {}, 2, "tested"),
        (("--name", "a/b"), {}, 2, "a/b"),
    ],
)
def test_wrong_input_is_one_line(
    maxrl: Installation, arguments: tuple[str, ...], env: dict[str, str], code: int, words: str
) -> None:
    refused, line = maxrl.refused("start", "--task", "arithmetic", *arguments, **env)
    assert refused == code, line
    assert words in line


def test_a_checkpoint_that_is_no_model_is_one_line(maxrl: Installation) -> None:
    fake = maxrl.home.parent / "fake"
    fake.mkdir()
    (fake / "config.json").write_text("{}")
    (fake / "tokenizer.json").write_text("not a tokenizer")
    code, line = maxrl.refused("start", "--task", "arithmetic", "--checkpoint", str(fake))
    assert code == 3, line
    assert str(fake) in line


def train_alone(maxrl: Installation, run: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """The trainer by itself, as a tool of one's own would start it."""
    small = {"MAXRL_TASK": "arithmetic", "MAXRL_EVALUATION_PROMPTS": "6"}
    return subprocess.run(
        [maxrl.program.replace("maxrl-ops", "python"), "-P", "-m", "trainer"],
        env={**maxrl.env, "MAXRL_RUN_DIR": str(run), **small, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_trainer_works_alone(maxrl: Installation) -> None:
    run = maxrl.home.parent / "alone"
    done = train_alone(maxrl, run, MAXRL_ITERATIONS="1")
    assert done.returncode == 0, done.stderr
    log = (run / "trainer.log").read_text()
    assert log.endswith("Run finished: 1 iterations\n")
    assert done.stdout == log


def test_an_incomplete_checkpoint_is_skipped_and_said(maxrl: Installation) -> None:
    run = maxrl.home.parent / "alone"
    settings = {"MAXRL_CHECKPOINT_EVERY": "2", "MAXRL_EVALUATE_EVERY": "0"}
    assert train_alone(maxrl, run, MAXRL_ITERATIONS="4", **settings).returncode == 0
    optimizer = run / "checkpoints/000004/optimizer.pt"
    whole = optimizer.stat().st_size
    optimizer.write_bytes(optimizer.read_bytes()[:-1])
    assert train_alone(maxrl, run, MAXRL_ITERATIONS="5", **settings).returncode == 0
    log = (run / "trainer.log").read_text().partition("Run finished: 4 iterations\n")[2]
    assert "| checkpoint 000004 is incomplete, and skipped\n" in log
    assert "\nResumed from: 2\n" in log
    assert re.findall(r"^Iteration (\d+)/", log, re.M) == ["3", "4", "5"]
    assert "\nCheckpoint 4: saved" in log
    assert optimizer.stat().st_size == whole


def test_the_directory_of_another_run_is_refused(maxrl: Installation) -> None:
    run = maxrl.home.parent / "alone"
    settings = {"MAXRL_EVALUATE_EVERY": "0", "MAXRL_SEED": "3"}
    assert train_alone(maxrl, run, MAXRL_ITERATIONS="1", **settings).returncode == 0
    done = train_alone(maxrl, run, MAXRL_ITERATIONS="2", MAXRL_SEED="4")
    assert done.returncode == 4
    assert "holds a run with task arithmetic, reward tested, seed 3, and this one" in done.stdout

    # Killed between saving a checkpoint and saying so: it is said by the next attempt.
    log = run / "trainer.log"
    told = re.sub(r"^Checkpoint 1: .*\n", "", log.read_text(), flags=re.M)
    log.write_text(told)
    assert train_alone(maxrl, run, MAXRL_ITERATIONS="2", **settings).returncode == 0
    assert log.read_text().removeprefix(told).count("\nCheckpoint 1: saved in ") == 1


def test_what_the_trainer_cannot_do_with_a_model_is_one_line(maxrl: Installation) -> None:
    run = maxrl.home.parent / "alone"
    done = train_alone(maxrl, run, MAXRL_CHAT_TEMPLATE="always")
    assert done.returncode == 2
    assert "Run failed: chat_template=always: the checkpoint's tokenizer has no" in done.stdout
