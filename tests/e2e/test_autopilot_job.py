"""The second half of the main job: the daemon watches, decides, and the trainer obeys."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import Installation, kill
from test_main_job import ARITHMETIC, evaluations, untimed
from waiting import wait_until

pytestmark = pytest.mark.slow


def metrics(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - the daemon's own
        return str(answer.read().decode())


def value(text: str, name: str) -> float | None:
    found = re.search(rf"^{name}\{{.*\}} (\S+)$", text, re.M)
    return float(found[1]) if found else None


@pytest.mark.needs("promtool")
def test_metrics_are_the_logs_newest_block(maxrl: Installation) -> None:
    # Large iterations: the log is at rest for a while after each.
    size = ("--prompts-per-iteration", "100", "--n-samples", "16")
    maxrl.run("start", "--name", "m", *ARITHMETIC, "--iterations", "100000", *size)
    maxrl.wait_for("m", lambda log: "Iteration 2/" in log)
    url = json.loads(maxrl.run("status", "--json"))["daemon"]["metrics"]
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics(url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

    def agree() -> bool:
        blocks = re.findall(
            r"^Iteration (\d+)/.*\n  Correctness: (\d+)/(\d+) ", maxrl.log("m"), re.M
        )
        shown = metrics(url)
        iteration, correct, total = map(int, blocks[-1])
        return (
            value(shown, "maxrl_train_iteration") == iteration
            and value(shown, "maxrl_train_correctness_ratio") == correct / total
        )

    wait_until(agree, 30, "metrics equal the newest block")
    maxrl.run("stop", "m")


def test_a_run_that_learns_nothing_is_rescued(maxrl: Installation) -> None:
    job = (*ARITHMETIC[:2], "--correctness-threshold", "30", "--iterations", "120", "--seed", "1")
    job = (*job, "--evaluate-every", "0", "--checkpoint-every", "100")
    # Side by side on few cores: more threads than cores would wait for each other.
    maxrl.run("start", "--name", "rescued", *job, OMP_NUM_THREADS="1")
    maxrl.run("start", "--name", "twin", "--mode", "observe", *job, OMP_NUM_THREADS="1")
    rescued, twin = maxrl.wait_ended("rescued"), maxrl.wait_ended("twin")

    control = json.loads((maxrl.home / "runs/rescued/control/000001.json").read_text())
    assert control["correctness_threshold"] < 30
    assert control["author"] == "rule:LOW"
    log = maxrl.log("rescued")
    echo = re.search(
        r"^Control 1 applied at (\d+): correctness_threshold (\S+) \(was 30", log, re.M
    )
    assert echo is not None
    [decision] = json.loads(maxrl.run("decisions", "rescued", "--json"))
    assert (decision["rule"], decision["revision"], decision["outcome"]) == ("LOW", 1, "applied")
    assert decision["evidence"]["upper"] < 0.5
    assert decision["effective"]["correctness_threshold"] == control["correctness_threshold"]
    # How many iterations lie between depends on the machine: the daemon looks by the clock.
    assert int(echo[1]) > decision["iteration"] >= 20
    assert rescued["last_decision"]
    assert rescued["last_decision"] in rescued["sentence"]

    [observed] = json.loads(maxrl.run("decisions", "twin", "--json"))
    assert observed["outcome"] == "observed"
    assert not list((maxrl.home / "runs/twin/control").iterdir())
    (_, last, last_se), (_, twins, twins_se) = (
        evaluations(maxrl.log(name))[-1] for name in ("rescued", "twin")
    )
    assert last - twins > 2 * (last_se**2 + twins_se**2) ** 0.5
    assert twin["held_out"]["pass_at_1"] == pytest.approx(twins / 100)


def test_a_persons_changes_are_applied_echoed_and_journaled(maxrl: Installation) -> None:
    maxrl.run("start", "--name", "p", *ARITHMETIC, "--iterations", "100000")
    maxrl.wait_for("p", lambda log: "Iteration 1/" in log)
    assert "objective grpo (was maxrl)" in maxrl.run("switch", "grpo")
    assert "n_samples 16 (was 8)" in maxrl.run("set", "n_samples=16")
    log = maxrl.log("p")
    assert re.search(r"^Control 1 applied at \d+: objective grpo \(was maxrl\)$", log, re.M)
    assert re.search(r"^Control 2 applied at \d+: n_samples 16 \(was 8\)$", log, re.M)
    maxrl.wait_for("p", lambda log: "Control: revision 2" in log)

    def journaled() -> list[tuple[str, str]]:
        told = json.loads(maxrl.run("decisions", "p", "--json"))
        return [(entry["by"], entry["outcome"]) for entry in told]

    by = f"uid:{os.getuid()}"
    wait_until(lambda: journaled() == [(by, "applied")] * 2, 20, "both are journaled")
    told = maxrl.status("p")
    assert (told["algorithm"], told["n_samples"]) == ("GRPO", 16)
    assert (told["control_revision"], told["acknowledged_revision"]) == (2, 2)

    # By hand, past every check of ours: the trainer refuses, and everybody says so.
    control = maxrl.home / "runs/p/control"
    wanted = json.loads((control / "000002.json").read_text())
    wanted |= {"revision": 3, "base_revision": 2, "correctness_threshold": 99.0, "intent": "hand"}
    (control / "000003.json").write_text(json.dumps(wanted))
    maxrl.wait_for("p", lambda log: "Control 3 rejected: correctness_threshold 99" in log)
    wait_until(lambda: journaled()[2:] == [(by, "rejected")], 20, "the rejection is journaled")
    assert "99" in maxrl.status("p")["sentence"]
    maxrl.run("stop", "p")


def test_a_run_is_paused_changed_and_continued(maxrl: Installation) -> None:
    job = ("--checkpoint-every", "100000", "--evaluate-every", "0")
    maxrl.run("start", "--name", "w", *ARITHMETIC[:2], "--iterations", "100000", *job)
    maxrl.wait_for("w", lambda log: "Iteration 2/" in log)
    assert "lifecycle checkpoint (was run)" in maxrl.run("checkpoint", "w")
    maxrl.wait_for("w", lambda log: re.search(r"^Checkpoint \d+: saved", log, re.M))
    assert "lifecycle pause (was run)" in maxrl.run("pause")
    wait_until(lambda: maxrl.status("w")["state"] == "paused", 20, "it is paused")
    log = maxrl.log("w")
    done = int(re.findall(r"^Iteration (\d+)/", log, re.M)[-1])
    assert f"\nCheckpoint {done}: saved" in log
    assert f"applied at {done + 1}: lifecycle pause" in log

    # Whoever changes something else does not end the pause, and neither does a kill.
    assert "n_samples 16 (was 8)" in maxrl.run("set", "n_samples=16")
    assert maxrl.status("w")["sentence"].startswith("Paused; MaxRL at iteration")
    kill(maxrl.trainer_pid("w"))
    maxrl.wait_for("w", lambda log: "\nAttempt: 2\n" in log)
    wait_until(lambda: maxrl.status("w")["state"] == "paused", 60, "it is paused again")
    assert "Iteration" not in maxrl.log("w").partition("\nAttempt: 2\n")[2]
    assert "w: lifecycle is pause already." in maxrl.run("pause", "w")
    assert "lifecycle run (was pause)" in maxrl.run("continue", "w")
    maxrl.wait_for("w", lambda log: f"\nIteration {done + 1}/" in log)
    # By hand, in the order in which they were made.
    told = [entry["control"] for entry in json.loads(maxrl.run("decisions", "w", "--json"))]
    assert [each.get("lifecycle") for each in told] == ["checkpoint", "pause", None, "run"]
    maxrl.run("stop", "w")


def test_a_hybrid_hands_over_and_keeps_that_checkpoint(maxrl: Installation) -> None:
    job = ("--algorithm", "hybrid", "--hand-over-after", "3", "--checkpoint-every", "1")
    maxrl.run("start", "--name", "h", *ARITHMETIC, "--iterations", "8", *job)
    told = maxrl.wait_ended("h")
    assert (told["algorithm"], told["objective"]) == ("MaxRL", "maxrl")
    log = maxrl.log("h")
    assert log.startswith("RL Method: GRPO\n")
    assert "\nControl 1 applied at 4: objective maxrl (was grpo)\n" in log
    kept = {path.name for path in (maxrl.home / "runs/h/checkpoints").iterdir()}
    assert kept == {"000003", "000007", "000008"}

    def journaled() -> list[tuple[str, str]]:
        entries = json.loads(maxrl.run("decisions", "h", "--json"))
        return [(entry["by"], entry["outcome"]) for entry in entries]

    wait_until(lambda: journaled() == [("schedule:hybrid", "applied")], 20, "it is journaled")


def test_killed_between_two_revisions_it_is_the_same_run(maxrl: Installation) -> None:
    job = (*ARITHMETIC, "--iterations", "16", "--evaluate-every", "8", "--seed", "3")
    maxrl.run("start", "--name", "whole", *job)
    maxrl.wait_for("whole", lambda log: "Iteration 2/16" in log)
    maxrl.run("set", "n_samples=4", "--run", "whole")
    maxrl.wait_for("whole", lambda log: "Iteration 8/16" in log)
    maxrl.run("switch", "grpo", "--run", "whole")
    assert maxrl.wait_ended("whole")["restarts"] == 0

    # The same wishes at the same iterations, which only applied.jsonl tells; and a kill between.
    whole, killed = (maxrl.home / "runs" / name for name in ("whole", "killed"))
    shutil.copytree(whole / "control", killed / "control")
    shutil.copy(whole / "applied.jsonl", killed)
    spec = json.loads((whole / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps(spec | {"name": "killed"}))
    supervise = [sys.executable, "-P", "-m", "maxrl_ops.supervisor", str(killed)]
    with subprocess.Popen(supervise, env=maxrl.env, stderr=subprocess.DEVNULL):
        maxrl.wait_for("killed", lambda log: "Iteration 7/16" in log)
        kill(maxrl.trainer_pid("killed"))
    assert maxrl.status("killed")["restarts"] == 1
    assert last_words(maxrl.log("killed")) == last_words(maxrl.log("whole"))


def last_words(log: str) -> dict[str, str]:
    """The last block, and echo, of each iteration, untimed."""
    found = re.findall(
        r"^((?:Iteration \d+|Control \d+|Evaluation at \d+).*)\n((?:  .*\n)*)", untimed(log), re.M
    )
    return dict(found)
