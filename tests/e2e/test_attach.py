"""Logs of other people's trainers, adopted by the installed command and read by a real daemon."""

import json
import os
import re
import signal
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

from conftest import Installation
from waiting import wait_until

from maxrl_ops.dialects import Past, load
from maxrl_ops.wire.record import IterationRecord

LOGS = Path(__file__).parents[1] / "golden" / "logs"
# Of each a figure that its log tells, by its name in status.
GOLDEN = ("trl", "verl", "nanochat_rl.8col", "prime_rl", "openrlhf", "jsonl", "guide")


def records_of(data: bytes, dialect: str) -> list[IterationRecord]:
    reader = load(dialect).open(Past())
    events = [*reader.feed(data), *reader.close()]
    return [event for event in events if isinstance(event, IterationRecord)]


def metrics(maxrl: Installation) -> str:
    url = json.loads((maxrl.home / "daemon.json").read_text())["metrics"]
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - the daemon's own
        return str(answer.read().decode())


def value(maxrl: Installation, name: str, run: str) -> float | None:
    found = re.search(rf'^{name}\{{.*run="{run}".*\}} (\S+)$', metrics(maxrl), re.M)
    return float(found[1]) if found else None


def stored(maxrl: Installation, run: str) -> list[int]:
    with closing(sqlite3.connect(maxrl.home / "history.db")) as db:
        query = "SELECT iteration FROM iterations WHERE run = ? AND NOT superseded ORDER BY seq"
        return [n for (n,) in db.execute(query, (run,))]


def test_golden_logs_are_attached_and_shown(maxrl: Installation, tmp_path: Path) -> None:
    for golden in GOLDEN:
        log = tmp_path / f"{golden}.log"
        log.write_bytes((LOGS / f"{golden}.log").read_bytes())
        said = maxrl.run("attach", "--log", str(log), "--name", golden, "--job", "theirs")
        assert f"dialect {golden.partition('.')[0]}" in said
    for golden in GOLDEN:
        dialect = golden.partition(".")[0]
        expected = records_of((LOGS / f"{golden}.log").read_bytes(), dialect)[-1]
        wait_until(
            lambda name=golden, last=expected: (
                value(maxrl, "maxrl_train_iteration", name) == last.iteration
            ),
            20,
            f"{golden} is in the metrics",
        )
    shown = {run["name"]: run for run in json.loads(maxrl.run("status", "--json"))["runs"]}
    for golden in GOLDEN:
        dialect, told = golden.partition(".")[0], shown[golden]
        last = records_of((LOGS / f"{golden}.log").read_bytes(), dialect)[-1]
        assert (told["dialect"], told["mode"], told["job_name"]) == (dialect, "observe", "theirs")
        assert told["log"] == str(tmp_path / f"{golden}.log")
        assert told["iteration"] == last.iteration
        assert told["correctness"] == last.correctness
        assert told["reward_mean"] == last.reward_mean
        assert told["state"] in ("running", "finished", "failed")
        # Behind a daemon that was killed nothing comes twice.
    before = {golden: stored(maxrl, golden) for golden in GOLDEN}
    os.kill(json.loads((maxrl.home / "daemon.json").read_text())["process"]["pid"], signal.SIGKILL)
    with (tmp_path / "trl.log").open("a") as log_file:
        log_file.write("{'loss': '0', 'grad_norm': '9.5', 'reward': '0.5', 'epoch': '99'}\n")
    with maxrl.start_process("daemon") as daemon:
        wait_until(
            lambda: len(stored(maxrl, "trl")) == len(before["trl"]) + 1, 30, "the new line is read"
        )
        for golden in set(GOLDEN) - {"trl"}:
            assert stored(maxrl, golden) == before[golden]
        assert value(maxrl, "maxrl_train_grad_norm", "trl") == 9.5
        assert maxrl.status("trl")["dialect"] == "trl"
        daemon.terminate()


def test_a_log_that_is_not_there_yet_is_waited_for_and_detached(
    maxrl: Installation, tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    said = maxrl.run("attach", "--log", str(log), "--dialect", "verl")
    assert "waited for" in said
    told = maxrl.status("train-1")
    assert told["state"] == "waiting"
    assert str(log) in told["sentence"]
    data = (LOGS / "verl.log").read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    part = next(end for end in ends if len(records_of(data[:end], "verl")) == 2)
    log.write_bytes(data[:part])
    wait_until(lambda: len(stored(maxrl, "train-1")) == 2, 20, "a part of it is read")
    alias = tmp_path / "alias.log"
    alias.symlink_to(log)
    code, words = maxrl.refused("attach", "--log", str(alias))
    assert (code, "attached already, as train-1" in words) == (4, True)
    for command in (("set", "n_samples=4", "--run", "train-1"), ("stop", "train-1")):
        code, words = maxrl.refused(*command)
        assert (code, "is attached: it is only looked at" in words) == (2, True)
    assert "step:" in maxrl.run("logs", "train-1")
    assert "mean reward" in maxrl.status("train-1")["sentence"]
    told = json.loads(maxrl.run("history", "train-1", "--json", "--since", "2"))
    assert [each["iteration"] for each in told] == [2]
    page = tmp_path / "report.html"
    maxrl.run("report", "train-1", "--to", str(page))
    assert "train-1" in page.read_text()
    maxrl.run("detach", "train-1")
    # The daemon looks at the state of each run every second.
    wait_until(lambda: 'state="detached"' in metrics(maxrl), 20, "it is seen to be detached")
    with log.open("ab") as file:
        file.write(data[part:])
    # The same log may be looked at again, from its beginning.
    assert "as train-2" in maxrl.run("attach", "--log", str(log))
    whole = len(records_of(data, "verl"))
    wait_until(lambda: len(stored(maxrl, "train-2")) == whole, 20, "the whole is read")
    assert len(stored(maxrl, "train-1")) == 2
    assert maxrl.status("train-1")["state"] == "detached"
    assert "detached already" in maxrl.run("detach", "train-1")


def test_what_cannot_be_attached_or_detached_is_said_in_a_line(maxrl: Installation) -> None:
    maxrl.run("start", "--name", "ours", "--", "sleep", "60", MAXRL_OPS_NO_DAEMON="1")
    ours = str(maxrl.home / "runs" / "ours" / "trainer.log")
    for arguments, expected, words in (
        (("attach", "--log", "/nowhere/at/all.log"), 3, "there is no directory /nowhere/at"),
        (("attach", "--log", "/"), 2, "is a directory"),
        (("attach", "--log", "/dev/null"), 2, "no regular file"),
        (("attach", "--log", "x.log", "--dialect", "velr"), 2, "did you mean verl?"),
        (("attach", "--log", "x.log", "--name", "a/b"), 2, "--name='a/b' is not allowed"),
        (("attach",), 2, "missing option '--log'"),
        (("attach", "--log", ours), 4, "looked at already, as the log of ours"),
        (("detach", "ours"), 2, "maxrl-ops stop ours"),
        (("detach", "nobody"), 3, "there is no run 'nobody'"),
    ):
        code, said = maxrl.refused(*arguments)
        assert (code, words in said) == (expected, True), said
