"""What the loop does where writes wake it, and where they ought to and do not."""

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from followed import Follower, append, block
from scripted import make_run
from waiting import wait_until
from watchdog.events import FileSystemEvent

from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.wakes import Wakes


class Dropping(Wakes):
    """Drops every event while it is asked to, and keeps how long the loop was to wait last."""

    is_dropping = True
    asked_for = 0.0

    def on_modified(self, event: FileSystemEvent) -> None:
        if not Dropping.is_dropping:
            super().on_modified(event)

    def wait(self, signals: StopSignals, seconds: float, gathered: float = 0.0) -> set[str]:
        Dropping.asked_for = seconds
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
    wait_until(lambda: Dropping.asked_for > 0.5, 10, "a long wait")
    append(run.log, block(2))
    follower.find(run, 1, 2)
    wait_until(lambda: Dropping.asked_for <= 0.25, 10, "short waits")
    append(run.log, block(3))
    follower.find(run, 1, 2, 3)
    # Told again: nothing has to be looked for.
    Dropping.is_dropping = False
    append(run.log, block(4))
    follower.find(run, 1, 2, 3, 4)
    wait_until(lambda: Dropping.asked_for > 0.5, 10, "a long wait again")


def test_runs_are_looked_after_where_no_inotify_instance_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    # Watchdog takes one as soon as an observer is made.
    monkeypatch.setattr("maxrl_ops.wakes.Observer", none_left)
    with closing(Follower(tmp_path, watching=True)) as follower:
        run = make_run(follower.home.path, "one")
        append(run.log, block(1))
        follower.start()
        follower.find(run, 1)
        append(run.log, block(2))
        follower.find(run, 1, 2)
    assert "logs cannot be watched" in capsys.readouterr().err
