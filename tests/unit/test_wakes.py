"""What the loop does where writes wake it, and where they ought to and do not."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from followed import Asked, Follower, append, block
from scripted import make_run
from waiting import wait_until

from maxrl_ops.inotify import Inotify
from maxrl_ops.stop_signals import StopSignals
from maxrl_ops.wakes import Wakes


class Dropping(Wakes):
    """Drops every event while it is asked to, and keeps how long the loop was to wait last."""

    is_dropping = True
    asked_for = 0.0

    def _woken(self) -> set[str]:
        woken = super()._woken()
        return set() if Dropping.is_dropping else woken

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


# --- What is watched ------------------------------------------------------------------------------


@pytest.fixture
def wakes() -> Iterator[Wakes]:
    with closing(Wakes()) as wakes:
        assert wakes.is_watching
        yield wakes


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    with closing(Asked()) as signals:
        yield signals


def test_only_what_is_followed_wakes(wakes: Wakes, signals: StopSignals, tmp_path: Path) -> None:
    logs = {name: make_run(tmp_path, name).log for name in ("one", "two")}
    # As an attached log may lie: behind a link, with others beside it.
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    logs["theirs"] = tmp_path / "link" / "train.log"
    wakes.follow(logs)
    for name in ("one", "theirs"):
        append(logs[name], b"a line\n")
    assert wakes.wait(signals, 60) | wakes.wait(signals, 0) == {"one", "theirs"}
    logs["one"].with_name("samples.jsonl").write_text("{}")
    (tmp_path / "real" / "another.log").write_text("not theirs")
    assert wakes.wait(signals, 0.05) == set()
    # Over: nobody watches it any more.
    ended = logs.pop("two")
    wakes.follow(logs)
    append(ended, b"a line\n")
    assert wakes.wait(signals, 0.05) == set()
    wakes.watch(wanted=False)
    assert not wakes.is_watching
    append(logs["one"], b"a line\n")
    assert wakes.wait(signals, 0.05) == set()


def test_a_directory_that_is_made_anew_is_watched_again(
    wakes: Wakes, signals: StopSignals, tmp_path: Path
) -> None:
    logs = {"one": make_run(tmp_path, "one").log}
    wakes.follow(logs)
    shutil.rmtree(logs["one"].parent)
    assert wakes.wait(signals, 0.05) == set()
    wakes.follow(logs)
    logs["one"].parent.mkdir()
    wakes.follow(logs)
    append(logs["one"], b"a line\n")
    assert wakes.wait(signals, 60) == {"one"}


def test_where_events_are_lost_every_log_may_have_been_written(
    wakes: Wakes, signals: StopSignals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = {name: make_run(tmp_path, name).log for name in ("one", "two")}
    wakes.follow(logs)
    append(logs["one"], b"a line\n")
    monkeypatch.setattr(Inotify, "read", lambda _: None)
    assert wakes.wait(signals, 60) == {"one", "two"}


def test_without_a_watch_left_it_is_said_once(
    wakes: Wakes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "add", refused)
    for _ in range(2):
        wakes.follow({name: tmp_path / name / "trainer.log" for name in ("one", "two")})
    assert capfd.readouterr().err.count("some logs cannot be watched") == 1
