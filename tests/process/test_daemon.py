"""The daemon as a process: killed, doubled, refused; what it serves over loopback."""

import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripted import ScriptedTrainer, make_run
from waiting import wait_until

from maxrl_ops import daemon_file
from maxrl_ops.daemon_file import DaemonFile
from maxrl_ops.journal import Journal
from maxrl_ops.settings import Home
from maxrl_ops.store import Store

# Of runs: what never goes down, a histogram's among them, and its series' value.
_COUNTERS = re.compile(r'^(maxrl_\w+_(?:total|count|sum|bucket)\{.*run="one".*\}) (\S+)$', re.M)
COMMAND = [sys.executable, "-P", "-m", "maxrl_ops.daemon"]


@dataclass
class Place:
    """A home, and the daemons that a test started for it."""

    home: Home
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
        here = {"MAXRL_OPS_HOME": str(self.home.path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
        return {**kept, **here}

    @property
    def log(self) -> Path:
        return self.home.path / "log"

    def start(self) -> "subprocess.Popen[bytes]":
        self.home.path.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(COMMAND, env=self.env, stderr=log, stdin=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def up(self) -> DaemonFile:
        """Wait until the daemon started last is up."""
        pid = self.started[-1].pid

        def found() -> DaemonFile | None:
            running = daemon_file.running(self.home)
            return running if running and running.process.pid == pid else None

        return wait_until(found, 20, f"daemon up: {self.words()}")

    def words(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def get(self, path: str) -> str:
        url = self.up().metrics.replace("/metrics", path)
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the daemon's own
            return str(answer.read().decode())

    def sample(self, name: str, **labels: str) -> float | None:
        """A value of /metrics."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for found in re.finditer(rf"^{name}(?:\{{(.*)\}})? (\S+)$", self.get("/metrics"), re.M):
            if wanted <= set((found[1] or "").split(",")):
                return float(found[2])
        return None

    def count(self) -> None:
        """Every counter of a run is there again, and none has gone down since the last time."""

        def found() -> dict[str, float]:
            text = self.get("/metrics")
            return {series: float(value) for series, value in _COUNTERS.findall(text)}

        now = wait_until(found, 20, "counters of a run")
        went_down = {
            key: (was, now.get(key))
            for key, was in self.counted.items()
            if now.get(key, -1.0) < was
        }
        assert not went_down
        self.counted = now

    def kill(self) -> None:
        self.started[-1].kill()
        self.started[-1].wait()

    def refused(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Exit code and words of a daemon that must not come up."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(Home(tmp_path / "home"))
    yield place
    for process in place.started:
        process.kill()
        process.wait()


def test_killed_at_twenty_moments_of_a_run(place: Place) -> None:
    rng = random.Random(3)
    run = make_run(place.home.path)
    trainer = ScriptedTrainer(run, iterations=400)
    trainer.begin()
    place.start()
    kills = sorted(rng.sample(range(5, 300), 20))
    crashes = {120: 2, 220: 3}

    def kill_once_half_is_read() -> None:
        # Not the clock: what has just been written may have been read already.
        began = run.log.stat().st_mtime
        figure = "maxrl_tailer_last_read_timestamp_seconds"
        wait_until(lambda: (place.sample(figure, run="one") or 0) >= began, 20, "half is read")
        place.count()
        place.kill()
        trainer.amid = None

    for iteration in range(1, 301):
        # Most often in the middle of what it reads all day.
        is_amid = iteration in kills and rng.random() < 0.6
        trainer.amid = kill_once_half_is_read if is_amid else None
        trainer.step()
        if iteration in crashes:
            trainer.begin(crashes[iteration], resumed_from=trainer.iteration - 7)
        if iteration in kills:
            if not is_amid and rng.random() < 0.5:
                place.count()
            place.kill()
            place.start()
            # Sometimes killed again while it comes up.
            if rng.random() < 0.3:
                place.kill()
                place.start()
            else:
                place.count()
        elif iteration % 3 == 0:
            # The trainer goes on as fast as the daemon reads: decisions are never stale.
            caught_up(place, trainer)
    last = trainer.iteration
    caught_up(place, trainer)
    place.count()
    assert current(place) == list(range(1, last + 1))
    published = sorted(path.name for path in run.control.iterdir())
    with Journal(place.home.history) as journal:
        entries = [entry for entry in journal.entries("one") if entry.outcome != "superseded"]
    # The threshold at once, since no sample lies above it; more samples once patience is over.
    decided = [(entry.rule, *entry.control, entry.outcome) for entry in entries]
    assert decided == [
        ("LOW", "correctness_threshold", "applied"),
        ("LOW", "n_samples", "applied"),
    ]
    assert published == ["000001.json", "000002.json"]
    labels = {"run": "one", "job_name": "rust"}
    wait_until(lambda: place.sample("maxrl_train_iteration", **labels) == last, 10, "metrics")
    counted = place.sample("maxrl_train_iterations_total", algorithm="MaxRL", **labels)
    assert counted == max(current(place))
    assert place.sample("maxrl_tailer_bytes_total", **labels) == run.log.stat().st_size
    applied = place.sample("maxrl_rule_decisions_total", rule="LOW", outcome="applied", **labels)
    assert applied == len(decided)
    assert "Traceback" not in place.words()


def caught_up(place: Place, trainer: ScriptedTrainer) -> None:
    last = [trainer.iteration]
    wait_until(lambda: current(place)[-1:] == last, 30, f"{last} is in the history")


def current(place: Place) -> list[int]:
    """The current rows, by iteration."""
    if not place.home.history.exists():
        return []
    with closing(sqlite3.connect(place.home.history, timeout=20)) as db:
        try:
            query = "SELECT iteration FROM iterations WHERE NOT superseded ORDER BY iteration"
            return [n for (n,) in db.execute(query)]
        except sqlite3.OperationalError:
            return []


@pytest.mark.needs("promtool")
def test_what_it_serves(place: Place) -> None:
    trainer = ScriptedTrainer(make_run(place.home.path))
    trainer.begin()
    trainer.step(3)
    place.start()
    wait_until(lambda: place.sample("maxrl_train_iteration") == 3, 10, "figures")
    assert place.get("/healthz") == "ok\n"
    assert place.get("/readyz") == "ok\n"
    assert place.sample("maxrl_train_reference_correctness_ratio") == 26 / 64
    assert place.sample("maxrl_train_correctness_ratio") == 0
    assert place.sample("maxrl_train_loss") is None
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=place.get("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        place.get("/etc/passwd")


def test_a_second_daemon_says_who_runs(place: Place) -> None:
    place.start()
    first = place.up()
    code, words = place.refused()
    assert code == 4
    assert f"pid {first.process.pid}" in words
    assert first.metrics in words


def test_it_ends_as_asked_and_another_may_follow(place: Place) -> None:
    process = place.start()
    place.up()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert not place.home.daemon_file.exists()
    place.start()
    place.up()


def test_a_port_in_use(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, words = place.refused("--listen", address)
        assert code == 4
        assert f"{address}: something else listens there" in words
        code, words = place.refused(MAXRL_OPS_LISTEN=address)
        assert code == 4


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", "127.0.0.1:99999", ":9478", "h:-1", "\u00e4" * 70 + ":1"]
)
def test_an_address_that_is_none(place: Place, address: str) -> None:
    code, words = place.refused("--listen", address)
    assert code == 2
    assert "is not allowed: " in words


def test_a_history_of_somebody_else(place: Place) -> None:
    place.home.path.mkdir()
    place.home.history.write_text("shopping list\n" * 100)
    code, words = place.refused()
    assert code == 2
    assert "history.db: file is not a database; move it away" in words


def test_a_history_of_a_newer_version(place: Place) -> None:
    place.home.path.mkdir()
    Store(place.home.history).close()
    with closing(sqlite3.connect(place.home.history)) as db:
        db.execute("PRAGMA user_version = 99")
    code, words = place.refused()
    assert code == 2
    assert "version 99" in words


def test_one_bad_run_does_not_stop_the_others(place: Place) -> None:
    (place.home.path / "runs" / "empty").mkdir(parents=True)
    broken = make_run(place.home.path, "broken")
    broken.spec.write_text("{")
    odd = make_run(place.home.path, "odd")
    odd.log.mkdir()
    trainer = ScriptedTrainer(make_run(place.home.path, "good"))
    trainer.begin()
    trainer.step(2)
    place.start()
    wait_until(lambda: place.sample("maxrl_train_iteration", run="good") == 2, 10, "figures")
    words = place.words()
    assert re.search(r"empty: \S+run\.json: there is no such file", words)
    assert re.search(r"broken: \S+run\.json: not JSON", words)
    assert re.search(r"odd: .*[Dd]irectory", words)
    assert "Traceback" not in words
    # What is mended is taken up again.
    odd.log.rmdir()
    ScriptedTrainer(odd).begin()
    wait_until(lambda: "odd: well again" in place.words(), 20, "mended")


def test_a_run_made_anew_under_an_old_name_is_another(place: Place) -> None:
    run = make_run(place.home.path)
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(5)
    place.start()
    wait_until(lambda: place.sample("maxrl_train_iteration") == 5, 10, "figures")
    run.path.rename(place.home.path / "away")
    again = make_run(place.home.path, created="2026-11-25")
    trainer = ScriptedTrainer(again)
    trainer.begin()
    trainer.step(2)
    wait_until(lambda: place.sample("maxrl_train_iteration") == 2, 10, "the new run's figures")


def test_daemon_json_is_for_the_group_only(place: Place) -> None:
    place.start()
    place.up()
    for file in (place.home.daemon_file, place.home.history, place.home.daemon_lock):
        assert file.stat().st_mode & 0o777 == 0o640
    told = json.loads(place.home.daemon_file.read_text())
    assert told["process"]["pid"] == place.started[-1].pid
