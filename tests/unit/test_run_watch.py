"""One run under the daemon's eyes, killed at every point of what it does."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import INITIAL, ScriptedTrainer, make_run

from maxrl_ops import control_writer, run_controls, run_watch
from maxrl_ops.core.entry import Entry
from maxrl_ops.core.in_force import InForce
from maxrl_ops.core.policy import Policy
from maxrl_ops.journal import Journal
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire import control
from maxrl_ops.wire.control import Control, path_of
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir


class Killed(BaseException):
    """Stands for kill -9: nothing between catches it."""


class Watcher:
    """A daemon's view of one run: it can be killed and started again."""

    def __init__(self, run: RunDir, path: Path) -> None:
        self.run, self.path = run, path
        self.start()

    def start(self) -> None:
        self.store = Store(self.path)
        self.watch = RunWatch(self.run, RunSpec.load(self.run), self.store, Policy())
        while self.watch.is_catching_up:
            self.watch.tick(is_over=False)

    def kill(self) -> None:
        self.store.close()

    def restart(self) -> None:
        self.kill()
        self.start()

    def tick(self, *, is_over: bool = False) -> None:
        while self.watch.tick(is_over=is_over):
            pass

    def entries(self) -> list[Entry]:
        with Journal(self.path) as journal:
            return journal.entries(self.run.name)

    def counts(self, *outcomes: tuple[str, str]) -> list[int]:
        counted = self.store.outcomes(self.watch.id)
        return [counted.get(outcome, 0) for outcome in outcomes]

    def offset(self) -> int:
        return self.store.place(self.watch.id)[0].offset

    def current(self) -> list[int]:
        with closing(sqlite3.connect(self.path)) as db:
            query = "SELECT iteration FROM iterations WHERE NOT superseded ORDER BY iteration"
            return [n for (n,) in db.execute(query)]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


@pytest.fixture
def watcher(run: RunDir, tmp_path: Path) -> Iterator[Watcher]:
    watcher = Watcher(run, tmp_path / "history.db")
    yield watcher
    watcher.kill()


def test_low_is_decided_published_answered_and_journaled(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    for _ in range(60):
        trainer.step()
        watcher.tick()
    published = json.loads(path_of(run.control, 1).read_text())
    assert published["author"] == "rule:LOW"
    assert published["base_revision"] == 0
    assert published["correctness_threshold"] == 25
    assert {k: published[k] for k in ("objective", "n_samples", "learning_rate")} == {
        "objective": "maxrl",
        "n_samples": 8,
        "learning_rate": 0.0003,
    }
    (entry,) = watcher.entries()
    assert (entry.revision, entry.iteration, entry.outcome) == (1, 24, "applied")
    assert entry.answered_at == 25
    assert entry.effective is not None
    assert entry.effective["correctness_threshold"] == 25
    assert watcher.current() == list(range(1, 61))


@pytest.mark.parametrize("mode", ["observe", "suggest"])
def test_who_may_not_act_only_writes_down(tmp_path: Path, mode: str) -> None:
    run = make_run(tmp_path, mode=mode)
    watcher = Watcher(run, tmp_path / "history.db")
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(60)
    watcher.tick()
    watcher.kill()
    assert not list(run.control.iterdir())
    (entry,) = watcher.entries()
    assert entry.outcome == {"observe": "observed", "suggest": "suggested"}[mode]


# --- Killed ---------------------------------------------------------------------------------------


class Assassin:
    """Kills at the nth call of the functions it has laid hands on, before or after the deed."""

    def __init__(self, at: int, *, before: bool) -> None:
        self.left, self.before, self.has_struck = at, before, False

    def around(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            strikes = self.left == 0
            if strikes and self.before:
                self.has_struck = True
                raise Killed
            result = deed(*arguments, **named)
            if strikes:
                self.has_struck = True
                raise Killed
            return result

        return done


def story(
    run: RunDir, watcher: Watcher, assassin: Assassin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 iterations seen one by one, with the assassin about from iteration 20 on."""
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(20)
    watcher.tick()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "take", assassin.around(Store.take))
        patched.setattr(run_controls.control, "publish", assassin.around(control.publish))
        for _ in range(10):
            trainer.step()
            try:
                watcher.tick()
            except Killed:
                watcher.restart()
    trainer.step(30)
    watcher.tick()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 16))
def test_killed_anywhere_nothing_is_lost_and_nothing_done_twice(
    run: RunDir, watcher: Watcher, at: int, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assassin = Assassin(at, before=before)
    story(run, watcher, assassin, monkeypatch)
    assert assassin.has_struck or at > 12
    assert [path.name for path in run.control.iterdir()] == ["000001.json"]
    (entry,) = watcher.entries()
    assert (entry.revision, entry.iteration, entry.outcome) == (1, 24, "applied")
    assert watcher.current() == list(range(1, 61))


def test_a_lost_history_is_made_anew_and_nothing_is_decided_again(
    run: RunDir, watcher: Watcher, tmp_path: Path
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    for _ in range(40):
        trainer.step()
        watcher.tick()
    before = watcher.entries()
    watcher.kill()
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    watcher.start()
    watcher.tick()
    trainer.step(40)
    watcher.tick()
    assert [path.name for path in run.control.iterdir()] == ["000001.json"]
    (entry,) = watcher.entries()
    # It has been judged meanwhile.
    assert entry.judged == "inconclusive"
    unjudged = replace(entry, time=None, judged=None, judgement=None)
    assert unjudged == replace(before[0], time=None)
    assert watcher.current() == list(range(1, 81))


def test_counters_go_on_after_a_restart(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.write_foreign("some\nwords of a library")
    trainer.step(5)
    watcher.tick()
    before = watcher.watch
    watcher.restart()
    after = watcher.watch
    assert after.tally == before.tally
    assert after.tally.bytes == run.log.stat().st_size
    assert after.tally.lines == len(run.log.read_bytes().splitlines())
    assert after.tally.unparsed == {"unknown line": 2}
    assert after.totals == before.totals
    assert after.state == before.state


def test_a_long_history_is_taken_up_in_slices(
    run: RunDir, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    for _ in range(40):
        trainer.step()
        watcher.tick()
    before = watcher.watch
    monkeypatch.setattr(run_watch, "_SLICE", 7)
    watch = RunWatch(run, RunSpec.load(run), watcher.store, Policy())
    ticks = 0
    while watch.is_catching_up:
        assert watch.tick(is_over=False)
        ticks += 1
    # The header, 40 iterations, and of one decision: itself, published, answered.
    assert ticks == -(-44 // 7)
    assert (watch.state, watch.totals) == (before.state, before.totals)
    assert watch.history == before.history
    assert not watch.tick(is_over=False)


def test_a_last_line_that_is_torn_is_done_with_once_the_run_is_over(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(3)
    with run.log.open("a") as file:
        file.write("Iteration 4/1")
    watcher.tick()
    size = run.log.stat().st_size
    assert watcher.offset() < size
    watcher.tick(is_over=True)
    assert watcher.offset() == size
    assert not watcher.watch.tick(is_over=True)


def test_a_log_that_was_emptied_counts_as_a_rotation_once(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(3)
    watcher.tick()
    run.log.write_bytes(b"")
    watcher.tick()
    watcher.restart()
    watcher.tick()
    trainer.step()
    watcher.tick()
    watcher.restart()
    watcher.tick()
    assert watcher.watch.tally.rotations == 1
    assert watcher.current() == [1, 2, 3, 4]


def test_what_is_in_no_event_yet_is_not_counted_twice(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.write_foreign("some\nwords of a library")
    trainer.step(3)
    whole = run.log.read_bytes()
    run.log.write_bytes(b"")
    counted = []
    for cut in range(0, len(whole), 11):
        run.log.write_bytes(whole[:cut])
        watcher.tick()
        watcher.restart()
        counted.append((watcher.watch.tally.bytes, watcher.watch.tally.lines))
    run.log.write_bytes(whole)
    watcher.tick()
    assert counted == sorted(counted)
    assert watcher.watch.tally.bytes == len(whole)
    assert watcher.watch.tally.lines == whole.count(b"\n")


def test_a_block_that_is_cut_is_taken_in_once_it_is_whole(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(3)
    whole = run.log.read_bytes()
    cuts = range(0, len(whole), 7)
    for cut in cuts:
        run.log.write_bytes(whole[:cut])
        watcher.tick()
        if cut % 5 == 0:
            watcher.restart()
    run.log.write_bytes(whole)
    watcher.tick()
    assert watcher.current() == [1, 2, 3]


# --- Late, and not alone --------------------------------------------------------------------------


def change(run: RunDir, **changes: object) -> Control:
    in_force = InForce(**{key: getattr(INITIAL, key) for key in INITIAL.__slots__})
    return control_writer.change(run, in_force, 0, changes, "by a test")


def test_of_two_changes_within_an_iteration_both_have_an_outcome(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(3)
    watcher.tick()
    change(run, n_samples=16)
    change(run, weight_temperature=2.0)
    trainer.step()
    watcher.tick()
    told = [(entry.revision, entry.outcome, entry.control) for entry in watcher.entries()]
    assert told == [
        (1, "superseded", {"n_samples": 16}),
        (2, "applied", {"weight_temperature": 2.0}),
    ]
    assert (trainer.state.n_samples, trainer.state.weight_temperature) == (16, 2.0)


def test_a_trainer_that_never_looks_is_asked_once_and_said_to_be_silent(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    for n in range(60):
        if n == 20:
            change(run, n_samples=16)
        trainer.write_iteration_unanswered()
        watcher.tick()
    (theirs,) = watcher.entries()
    assert (theirs.by, theirs.outcome) == (control_writer.operator(), "unconfirmed")
    # The log had come to 21 when it was found.
    assert theirs.answered_at == 21 + Policy().limits.unconfirmed_after + 1
    outcomes = ("operator", "unconfirmed"), ("operator", "applied")
    watcher.restart()
    assert watcher.counts(*outcomes) == [1, 0]
    trainer.step()
    watcher.tick()
    assert watcher.counts(*outcomes) == [1, 1]


def test_who_replays_its_record_does_not_answer_yet(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(17)
    change(run, n_samples=16)
    trainer.step(3)
    watcher.tick()
    trainer.begin(attempt=2, resumed_from=5)
    change(run, weight_temperature=2.0)
    for _ in range(12):
        trainer.write_iteration_unanswered()
        watcher.tick()
    assert watcher.entries()[-1].outcome == "published"
    # It replayed iteration 18, and reads control/ again from 19 on.
    for _ in range(4):
        trainer.write_iteration_unanswered()
        watcher.tick()
    assert watcher.entries()[-1].outcome == "published"
    trainer.write_iteration_unanswered()
    watcher.tick()
    assert watcher.entries()[-1].outcome == "unconfirmed"


def test_a_control_copied_by_hand_keeps_its_author_and_content(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    for _ in range(26):
        trainer.step()
        watcher.tick()
    ours = json.loads(path_of(run.control, 1).read_text())
    copied = {**ours, "revision": 2, "author": "uid:7", "n_samples": 4}
    path_of(run.control, 2).write_text(json.dumps(copied))
    trainer.step()
    watcher.tick()
    first, second = watcher.entries()
    assert (first.by, first.outcome) == ("rule:LOW", "applied")
    assert (second.by, second.outcome, second.control) == ("uid:7", "applied", {"n_samples": 4})


def test_a_stale_decision_is_not_published_but_made_again_on_the_newest(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(50)
    watcher.tick()
    trainer.step(2)
    watcher.tick()
    stale, fresh = watcher.entries()
    assert (stale.iteration, stale.outcome, stale.revision) == (24, "superseded", None)
    assert "had come to iteration 50" in stale.because
    assert (fresh.iteration, fresh.revision) == (51, 1)


def test_nothing_is_published_for_a_run_that_is_over(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(30)
    watcher.tick(is_over=True)
    (entry,) = watcher.entries()
    assert (entry.outcome, entry.revision) == ("superseded", None)
    assert not list(run.control.iterdir())


def test_an_operators_change_is_journaled_and_goes_first(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(23)
    watcher.tick()
    in_force = InForce(**{key: getattr(INITIAL, key) for key in INITIAL.__slots__})
    made = control_writer.change(run, in_force, 0, {"n_samples": 16}, "set n_samples=16")
    # The iteration on which LOW fires was on its way when the operator spoke.
    trainer.write_iteration_unanswered()
    watcher.tick()
    trainer.step()
    watcher.tick()
    by = {entry.by: entry for entry in watcher.entries()}
    ours, theirs = by["rule:LOW"], by[control_writer.operator()]
    assert (made.revision, theirs.revision, theirs.outcome) == (1, 1, "applied")
    assert theirs.control == {"n_samples": 16}
    assert (ours.outcome, ours.revision) == ("superseded", None)
    assert trainer.state == replace(INITIAL, n_samples=16)


def test_a_control_written_by_hand_out_of_bounds_is_rejected_and_journaled(
    run: RunDir, watcher: Watcher
) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(2)
    state = replace(INITIAL, correctness_threshold=3.0)
    control.publish(run.control, Control(1, 0, state, "uid:7", "by hand", "2026-11-24T00:00:00Z"))
    trainer.step(2)
    watcher.tick()
    (entry,) = watcher.entries()
    assert (entry.by, entry.outcome) == ("uid:7", "rejected")
    assert entry.control == {"correctness_threshold": 3.0}
    assert "outside the task's bounds" in entry.because


def test_a_control_of_garbage_is_journaled_by_its_rejection(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    path_of(run.control, 1).write_text("{ half")
    trainer.step(1)
    trainer.reject(1, "unreadable, skipped: not JSON")
    watcher.tick()
    (entry,) = watcher.entries()
    assert (entry.by, entry.outcome, entry.revision) == ("unknown", "rejected", 1)
    # The number is taken; the next one is free.
    for _ in range(60):
        trainer.step()
        watcher.tick()
    assert path_of(run.control, 2).exists()


def test_a_resumed_run_has_one_current_row_an_iteration(run: RunDir, watcher: Watcher) -> None:
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(12)
    watcher.tick()
    trainer.begin(attempt=2, resumed_from=10)
    trainer.step(5)
    watcher.tick()
    watcher.restart()
    assert watcher.current() == list(range(1, 16))
    assert [r.iteration for r in watcher.watch.history.iterations] == list(range(1, 16))


@pytest.mark.parametrize("junk", [bytes(range(256)) * 500, b"\xff\xfe\x00" * 9999, b"\n" * 5000])
def test_a_log_of_binary_is_counted_not_believed(
    run: RunDir, watcher: Watcher, junk: bytes
) -> None:
    run.log.write_bytes(junk + b"\nIteration 1/2\n  Correctness: 1/2 (50.0%)\n  [x]\n")
    watcher.tick()
    assert watcher.current() == [1]
    assert watcher.watch.tally.bytes == run.log.stat().st_size
