"""What the loop does where writes wake it, and where they ought to and do not."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from followed import Follower, append, block
from scripted import make_run
from waiting import wait_until
from watchdog.events import FileSystemEvent

from maxrl_ops import pace, wakes
from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.wakes import Wakes


class Dropping(Wakes):
    """Drops every event while it is asked to; keeps how the loop waited last."""

    is_dropping = True
    asked_for = 0.0
    has_watched = False

    def on_modified(self, event: FileSystemEvent) -> None:
        if not Dropping.is_dropping:
            super().on_modified(event)

    def wait(self, signals: StopSignals, seconds: float, gathered: float = 0.0) -> set[str]:
        Dropping.asked_for, Dropping.has_watched = seconds, self.is_watching
        return super().wait(signals, seconds, gathered)


@pytest.fixture
def follower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follower]:
    monkeypatch.setattr(Dropping, "is_dropping", True)
    monkeypatch.setattr(Dropping, "asked_for", 0.0)
    with closing(Follower(tmp_path, watching=True, wakes=Dropping)) as follower:
        yield follower


def test_a_write_that_wakes_nobody_is_found_and_the_log_looked_at_often_from_then_on(
    follower: Follower,
) -> None:
    run = make_run(follower.home.path, "one")
    append(run.log, block(1))
    follower.start()
    follower.find(run, 1)
    # All is read, and should more come, that is told.
    wait_until(lambda: Dropping.asked_for > 0.5, 60, "a long wait")
    append(run.log, block(2))
    follower.find(run, 1, 2)
    wait_until(lambda: Dropping.asked_for <= 0.25, 60, "short waits")
    append(run.log, block(3))
    follower.find(run, 1, 2, 3)
    # Told again: nothing has to be looked for.
    Dropping.is_dropping = False
    append(run.log, block(4))
    follower.find(run, 1, 2, 3, 4)
    wait_until(lambda: Dropping.asked_for > 0.5, 60, "a long wait again")


def test_where_very_many_write_nothing_is_watched_until_they_are_fewer(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "CROWD", 2)
    Dropping.is_dropping = False
    runs = [make_run(follower.home.path, name) for name in ("one", "two", "three")]
    for run in runs:
        append(run.log, block(1))
    follower.start()
    wait_until(lambda: Dropping.asked_for <= 0.25 and not Dropping.has_watched, 60, "a crowd")
    for number in (2, 3):
        for run in runs:
            append(run.log, block(number))
    for run in runs:
        follower.find(run, 1, 2, 3)
    for run in runs[1:]:
        shutil.rmtree(run.path)
    wait_until(lambda: Dropping.has_watched, 60, "few runs")
    append(runs[0].log, block(4))
    follower.find(runs[0], 1, 2, 3, 4)
    wait_until(lambda: Dropping.asked_for > 0.5, 60, "a long wait again")


def test_where_the_user_has_no_inotify_left_logs_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def exhausted() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(wakes, "Observer", exhausted)
    with closing(Follower(tmp_path, watching=True)) as follower:
        run = make_run(tmp_path, "one")
        append(run.log, block(1))
        follower.start()
        follower.find(run, 1)
        append(run.log, block(2))
        follower.find(run, 1, 2)
    assert "logs cannot be watched" in capfd.readouterr().err
