"""SIGKILL at every point of what becomes of a change: nothing done twice, nothing forgotten."""

import subprocess
import sys
from pathlib import Path

from scripted import ScriptedTrainer, make_run
from test_daemon import Place, current
from waiting import wait_until

from maxrl_ops.journal import Journal
from maxrl_ops.settings import Home

# The daemon itself, but for this: at each point, the first time that it comes there, it is killed.
PROGRAM = """
import os, runpy, signal, sys
from pathlib import Path
from maxrl_ops import store
from maxrl_ops.core.decision import Decision, Judged, Published
from maxrl_ops.wire import control
from maxrl_ops.wire.record import ControlApplied
marks = Path(os.environ["KILL_MARKS"])
def die(point):
    try:
        (marks / point.replace("/", "-")).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
def of_take(taken):
    for each in taken:
        told = [getattr(each, "event", None), *getattr(each, "outputs", ())]
        for what in told:
            if isinstance(what, Decision): yield f"decided {what.rung}"
            if isinstance(what, Published): yield f"recorded {what.revision}"
            if isinstance(what, ControlApplied): yield f"applied {what.revision}"
            if isinstance(what, Judged): yield f"judged {what.revision}"
real_take, real_publish, real_settle = store.Store.take, control.publish, store.Store.settle
pending = []
def take(self, run, taken, *more):
    points = list(of_take(taken))
    for point in points: die(f"{point}, before it is taken")
    real_take(self, run, taken, *more)
    for point in points: die(f"{point}, after it is taken")
    pending.extend(points)
def settle(self):
    real_settle(self)
    while pending: die(f"{pending.pop(0)}, after it is committed")
def publish(directory, wish):
    die(f"published {wish.revision}, before")
    real_publish(directory, wish)
    die(f"published {wish.revision}, after")
store.Store.take, store.Store.settle, control.publish = take, settle, publish
runpy.run_module("maxrl_ops.daemon", run_name="__main__", alter_sys=True)
"""
# By then the change was judged, put back, and that was answered.
LAST = 72


class Fated(Place):
    """A home whose daemon is started again as often as it is killed."""

    marks: Path

    def start(self) -> "subprocess.Popen[bytes]":
        env = {**self.env, "KILL_MARKS": str(self.marks)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM], env=env, stderr=log, stdin=subprocess.DEVNULL
            )
        self.started.append(process)
        return process

    def has_read(self, trainer: ScriptedTrainer) -> bool:
        if self.started[-1].poll() is not None:
            self.start()
        return current(self)[-1:] == [trainer.iteration] and self.is_at_rest(trainer)

    def is_at_rest(self, trainer: ScriptedTrainer) -> bool:
        """Nothing of what was decided is still to be published."""
        with Journal(self.home.history) as journal:
            entries = journal.entries("one")
        return all(entry.outcome != "intended" for entry in entries)


def test_killed_at_every_point_of_a_change_that_did_harm(tmp_path: Path) -> None:
    place = Fated(Home(tmp_path / "home"))
    place.home.path.mkdir()
    place.marks = tmp_path / "marks"
    place.marks.mkdir()
    run = make_run(place.home.path)
    trainer = ScriptedTrainer(run, iterations=200)
    trainer.begin()
    place.start()
    try:
        for _ in range(LAST):
            trainer.step()
            # The lower threshold does harm, though it is no collapse.
            trainer.correct = 17 if trainer.state.correctness_threshold == 25 else 26
            wait_until(lambda: place.has_read(trainer), 30, f"{trainer.iteration} is read")
    finally:
        for process in place.started:
            process.kill()
            process.wait()
    with Journal(place.home.history) as journal:
        entries = journal.entries("one")
    told = [(e.revision, e.rule, dict(e.control), e.outcome, e.judged) for e in entries]
    assert told == [
        (1, "LOW", {"correctness_threshold": 25.0}, "applied", "harmed"),
        (2, "LOW", {"correctness_threshold": 30.0}, "applied", None),
    ]
    assert [path.name for path in sorted(run.control.iterdir())] == ["000001.json", "000002.json"]
    assert current(place) == list(range(1, LAST + 1))
    points = {path.name for path in place.marks.iterdir()}
    assert len(place.started) == len(points) + 1 > 16
    for what in ("decided threshold", "decided put_back", "recorded 1", "recorded 2"):
        assert any(point.startswith(what) for point in points), what
    for what in ("applied 1", "applied 2", "judged 1", "published 1", "published 2"):
        assert any(point.startswith(what) for point in points), what
    assert "Traceback" not in place.words()
