"""The daemon's loop over all runs: what is wrong with one of them, or with where they lie."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted import ScriptedTrainer, make_run

from maxrl_ops import daemon, processes, run_watch, seen_run
from maxrl_ops.daemon import Daemon
from maxrl_ops.exporter import Exporter
from maxrl_ops.journal import JournalReader
from maxrl_ops.policy_file import PolicyFile
from maxrl_ops.run_reader import AllRuns
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import Heartbeat, ProcessIdentity, RunSpec, SupervisorState, utc_now
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, RunDir

NOBODY = ProcessIdentity(2**22 + 1, 1, "a boot long ago")


class Loop:
    """A daemon whose loop turns as often as asked, in a time of its own."""

    def __init__(self, home: Home) -> None:
        self.home, self.exporter = home, Exporter()
        self.store = Store(home.history)
        self.daemon = Daemon(home, self.store, self.exporter, PolicyFile())
        self.later = 0.0

    def turn(self) -> None:
        """Until nothing happens, after a time in which everything is looked at again."""
        self.later += 6.0
        while self.daemon.turn():
            pass

    def values(self, name: str) -> dict[str, float]:
        """A metric's series, by the value of their last label."""
        families = text_string_to_metric_families(self.exporter.text().decode())
        samples = (sample for family in families for sample in family.samples)
        return {list(s.labels.values())[-1]: s.value for s in samples if s.name == name}

    def told_state(self, name: str) -> str:
        """What `status` calls the run."""
        shown = AllRuns(JournalReader(self.home.history)).look(self.home.runs())
        return next(run.state for run in shown if run.name == name)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    loop = Loop(Home(tmp_path))
    real = daemon.time.monotonic
    monkeypatch.setattr(daemon.time, "monotonic", lambda: real() + loop.later)
    yield loop
    loop.store.close()


def begun(home: Path, name: str = "one", steps: int = 3) -> tuple[RunDir, ScriptedTrainer]:
    run = make_run(home, name)
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(steps)
    return run, trainer


# --- What a run is doing --------------------------------------------------------------------------


def ours() -> ProcessIdentity:
    identity = processes.identity_of(os.getpid())
    assert identity is not None
    return identity


def killed(run: RunDir) -> None:
    SupervisorState("running", utc_now(), NOBODY, NOBODY, attempt=1).save(run)


def paused(run: RunDir) -> None:
    SupervisorState("running", utc_now(), ours(), ours(), attempt=1).save(run)
    Heartbeat("pause", 3, utc_now()).save(run)


def finished(run: RunDir) -> None:
    SupervisorState("finished", utc_now(), NOBODY, attempt=1).save(run)


@pytest.mark.parametrize(
    ("become", "state"),
    [(killed, "supervisor_gone"), (paused, "paused"), (finished, "finished")],
)
def test_metrics_and_status_call_a_run_the_same(
    loop: Loop, become: Callable[[RunDir], None], state: str
) -> None:
    run, _ = begun(loop.home.path)
    become(run)
    loop.turn()
    assert loop.values("maxrl_job_state") == {state: 1}
    assert loop.values("maxrl_ops_runs") == {state: 1}
    assert loop.told_state("one") == state


def test_the_newest_complete_checkpoint_has_a_time(loop: Loop) -> None:
    run, _ = begun(loop.home.path)
    loop.turn()
    figure = "maxrl_job_last_checkpoint_timestamp_seconds"
    assert loop.values(figure) == {}
    for iteration, at in ((20, 2e9), (10, 1e9)):
        marker = run.checkpoints / f"{iteration:06d}" / CHECKPOINT_MARKER
        marker.parent.mkdir(parents=True)
        marker.touch()
        os.utime(marker, (at, at))
    # Not complete, or gone while we look.
    (run.checkpoints / "000030").mkdir()
    (run.checkpoints / "000040").mkdir()
    (run.checkpoints / "000040" / CHECKPOINT_MARKER).symlink_to("nowhere")
    loop.turn()
    assert loop.values(figure) == {"one": 2e9}


def test_the_series_of_a_run_whose_supervisor_is_gone_end_and_begin_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer = begun(loop.home.path)
    killed(run)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 3}
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr(daemon.time, "time", lambda: now + 86_401)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {}
    assert loop.values("maxrl_ops_runs") == {"supervisor_gone": 1}
    # Revived after all.
    SupervisorState("running", utc_now(), ours(), ours(), attempt=2).save(run)
    trainer.begin(2, resumed_from=3)
    trainer.step()
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 4}


def test_the_series_of_the_only_run_end_with_its_directory(loop: Loop) -> None:
    run, _ = begun(loop.home.path)
    finished(run)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 3}
    shutil.rmtree(run.path)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {}
    assert loop.values("maxrl_ops_runs") == {}


def test_the_series_of_a_failed_run_end_once_somebody_has_seen_it(loop: Loop) -> None:
    run, _ = begun(loop.home.path)
    SupervisorState("failed", utc_now(), attempt=1, exit_reason="exit code 1").save(run)
    for _ in range(2):
        loop.turn()
        assert loop.values("maxrl_job_state") == {"failed": 1}
    run.acknowledged.touch()
    loop.turn()
    assert loop.values("maxrl_job_state") == {}
    assert loop.values("maxrl_ops_runs") == {"failed": 1}


def test_the_series_of_a_run_that_an_old_one_has_replaced_end(loop: Loop) -> None:
    run, _ = begun(loop.home.path)
    finished(run)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 3}
    # As a backup is put back: other files under the old name, with the times of then.
    for path in (run.spec, run.state, run.log):
        os.utime(path, (0, 0))
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {}


def test_another_run_in_the_place_of_one_long_over_is_seen(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = begun(loop.home.path)
    finished(run)
    monkeypatch.setitem(seen_run.GRACE_SECONDS, "finished", -1.0)
    loop.turn()
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {}
    # Between two looks, and with the inode that has just become free.
    run.log.unlink()
    run.state.unlink()
    spec, inode = RunSpec.load(run), run.spec.stat().st_ino
    run.spec.write_text(json.dumps(asdict(replace(spec, created="2026-11-25"))))
    assert run.spec.stat().st_ino == inode
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(2)
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 2}


def watched(loop: Loop) -> set[str]:
    """The runs that cost memory beside their series."""
    return {name for name, seen in loop.daemon._roll.runs.items() if seen.watch is not None}


def long_ago(run: RunDir, seconds: float) -> None:
    """Nothing of it was written since."""
    at = datetime.now(UTC).timestamp() - seconds
    for path in (run.spec, run.state, run.log, run.control, run.path):
        os.utime(path, (at, at))


def test_of_a_run_that_is_over_only_its_series_are_kept_until_something_is_written(
    loop: Loop,
) -> None:
    run, trainer = begun(loop.home.path)
    finished(run)
    long_ago(run, 60)
    for _ in range(3):
        loop.turn()
    assert watched(loop) == set()
    assert loop.values("maxrl_train_iteration") == {"one": 3}
    # Its log grows all the same: somebody trains it by hand.
    trainer.step()
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 4}
    long_ago(run, 50)
    for _ in range(3):
        loop.turn()
    assert watched(loop) == set()
    SupervisorState("running", utc_now(), ours(), ours(), attempt=2).save(run)
    trainer.begin(2, resumed_from=4)
    trainer.step()
    loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 5}
    assert loop.values("maxrl_job_state") == {"running": 1}
    assert watched(loop) == {"one"}


def test_old_runs_by_the_hundred_are_taken_in_after_one_that_goes_on_and_then_forgotten(
    loop: Loop,
) -> None:
    for number in range(120):
        old, _ = begun(loop.home.path, f"old-{number}")
        finished(old)
        long_ago(old, 200_000)
    run, _ = begun(loop.home.path)
    SupervisorState("running", utc_now(), ours(), ours(), attempt=1).save(run)
    assert loop.daemon.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 3}
    # A piece of them in each turn, and none for longer than that.
    assert loop.values("maxrl_ops_runs") == {"running": 1, "finished": 49}
    assert watched(loop) == {"one"}
    loop.turn()
    assert loop.values("maxrl_ops_runs") == {"running": 1, "finished": 120}
    assert watched(loop) == {"one"}
    for number in range(120):
        stored = loop.store.events(loop.store.run(f"old-{number}", "2026-11-24", "rust"))
        assert sum(isinstance(event, IterationRecord) for event in stored) == 3
    # One of them goes on after all, and one is removed.
    SupervisorState("running", utc_now(), ours(), ours(), attempt=2).save(old)
    shutil.rmtree(loop.home.run("old-7").path)
    loop.turn()
    assert loop.values("maxrl_ops_runs") == {"running": 2, "finished": 118}
    assert watched(loop) == {"one", old.name}


def test_a_copy_of_a_run_is_damaged_and_the_run_itself_goes_on(
    loop: Loop, capfd: pytest.CaptureFixture[str]
) -> None:
    run, trainer = begun(loop.home.path)
    shutil.copytree(run.path, run.path.with_name("one.bak"))
    for _ in range(3):
        trainer.step()
        loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 6}
    assert loop.told_state("one.bak") == "damaged"
    assert capfd.readouterr().err.count("one.bak: ") == 1
    with closing(sqlite3.connect(loop.home.history)) as db:
        query = "SELECT iteration FROM iterations ORDER BY iteration"
        assert [n for (n,) in db.execute(query)] == [1, 2, 3, 4, 5, 6]


# --- What goes wrong ------------------------------------------------------------------------------


def test_a_bug_that_one_run_wakes_is_told_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    begun(loop.home.path)
    begun(loop.home.path, "other")
    real = run_watch.RunWatch.tick

    def tick(watch: run_watch.RunWatch, *, is_over: bool, is_frozen: bool) -> bool:
        if watch.run.name == "one":
            raise ZeroDivisionError("a bug")
        return real(watch, is_over=is_over, is_frozen=is_frozen)

    monkeypatch.setattr(run_watch.RunWatch, "tick", tick)
    for _ in range(5):
        loop.turn()
    words = capfd.readouterr().err
    assert words.count("Traceback") == 1
    assert words.count("one: internal error (ZeroDivisionError), see the lines above") == 1
    assert loop.values("maxrl_train_iteration") == {"other": 3}


def test_a_disk_that_is_full_amid_a_commit_of_many_runs_costs_none_of_them_a_line(
    loop: Loop, capfd: pytest.CaptureFixture[str]
) -> None:
    written = [begun(loop.home.path, name) for name in ("one", "two", "three")]
    loop.turn()
    for _, trainer in written[:2]:
        trainer.step(4)
    # The third's lines take more than there is: SQLite ends the others' transaction with its own.
    written[2][1].step(2000)
    limit = "PRAGMA max_page_count = "
    pages = loop.store._db.execute("PRAGMA page_count").fetchone()[0]
    loop.store._db.execute(limit + str(pages + 4))
    loop.turn()
    told = capfd.readouterr().err
    assert "three: " in told
    assert "disk is full" in told
    loop.store._db.execute(limit + str(pages + 10_000))
    loop.turn()
    loop.turn()
    for name, iterations in (("one", 7), ("two", 7), ("three", 2003)):
        number = loop.store.run(name, "2026-11-24", "rust")
        stored = [e for e in loop.store.events(number) if isinstance(e, IterationRecord)]
        assert [event.iteration for event in stored] == list(range(1, iterations + 1))
    lines = loop.values("maxrl_tailer_lines_total")
    assert lines["one"] == lines["two"] < lines["three"]


def test_a_history_that_another_process_locks_is_told_until_it_is_free(loop: Loop) -> None:
    _, trainer = begun(loop.home.path)
    loop.turn()
    loop.store._db.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(loop.home.history, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        trainer.step()
        loop.turn()
        assert loop.daemon.unread_problem == (
            f"one: {loop.home.history}: database is locked; see that it can be written"
        )
        unread = re.compile("^maxrl_ops_runs_unread 1.0$", re.M)
        assert unread.search(loop.exporter.text().decode())
        other.execute("ROLLBACK")
    loop.turn()
    assert loop.daemon.unread_problem is None
    assert not unread.search(loop.exporter.text().decode())
    assert loop.values("maxrl_train_iteration") == {"one": 4}


def test_runs_that_cannot_be_listed_are_told_once_and_known_ones_go_on(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, trainer = begun(loop.home.path)
    loop.turn()

    def refused(_: Home) -> list[RunDir]:
        raise PermissionError(13, "Permission denied", "/there/runs")

    with monkeypatch.context() as patched:
        patched.setattr(Home, "runs", refused)
        for _ in range(3):
            trainer.step()
            loop.turn()
    assert capfd.readouterr().err.count("/there/runs: Permission denied: looking after") == 1
    assert loop.values("maxrl_train_iteration") == {"one": 6}


def test_a_file_in_the_place_of_the_runs(loop: Loop, capfd: pytest.CaptureFixture[str]) -> None:
    loop.home.runs_dir.write_text("")
    loop.turn()
    loop.turn()
    assert capfd.readouterr().err.count("runs: Not a directory") == 1


def missing(run: RunDir) -> None:
    run.control.rmdir()


def a_file(run: RunDir) -> None:
    run.control.rmdir()
    run.control.write_text("")


def without_room(_: RunDir) -> None:
    """As on a full disk: see the patch."""


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing, "No such file or directory"),
        (a_file, "Not a directory"),
        (without_room, "No space left on device"),
    ],
)
def test_where_control_cannot_be_written_the_log_is_read_on_and_the_decision_kept(
    loop: Loop,
    spoil: Callable[[RunDir], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run, trainer = begun(loop.home.path, steps=23)
    loop.turn()
    spoil(run)

    def full(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        if spoil is without_room:
            patched.setattr("maxrl_ops.wire.control.write_all", full)
        for _ in range(6):
            trainer.write_iteration_unanswered()
            loop.turn()
    assert loop.values("maxrl_train_iteration") == {"one": 29}
    words = capfd.readouterr().err
    assert len(re.findall(rf"one: controls have to wait: \S+: {reason}", words)) == 1
    assert words.count("one: ") == 1
    # Mended: what was decided then is too old by now, and made again on the newest.
    if run.control.is_file():
        run.control.unlink()
    run.control.mkdir(exist_ok=True)
    for _ in range(40):
        trainer.step()
        loop.turn()
    assert "one: controls need not wait any more" in capfd.readouterr().err
    assert [path.name for path in run.control.iterdir()] == ["000001.json"]
    assert loop.values("maxrl_job_acknowledged_revision") == {"one": 1}
