"""How a run stands, as `status` takes it from the history: what the whole log would tell."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedTrainer, header, make_run, record

from maxrl_ops import read_only, taken_in
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.journal import JournalReader
from maxrl_ops.run_reader import AllRuns, RunReader
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store, Taken, Tally
from maxrl_ops.tailer import Cursor
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.record import (
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    RunEnded,
    UpdateSkipped,
)
from maxrl_ops.wire.rundir import RunDir

EXAMPLES = count()
# Few different iterations, so that much is made again.
ITERATIONS = st.integers(0, 12)
EVENTS = st.lists(
    st.one_of(
        ITERATIONS.map(record),
        ITERATIONS.map(record),
        ITERATIONS.map(lambda n: Evaluated(n, 0.5, {1: n / 20}, 0.01)),
        ITERATIONS.map(lambda n: CheckpointSaved(n, 0.1)),
        ITERATIONS.map(lambda n: UpdateSkipped(n, "loss nan")),
        st.none().map(lambda _: RunEnded("failed", "why")),
        st.one_of(st.none(), ITERATIONS).map(lambda n: header(resumed_from=n)),
        ITERATIONS.map(
            lambda n: ControlApplied(n, n, (Change("correctness_threshold", f"{n}.0", "30.0"),))
        ),
        ITERATIONS.map(lambda n: ControlRejected(n, f"not {n}")),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(Store(tmp_path_factory.mktemp("home") / "history.db")) as store:
        yield store


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, most=st.integers(1, 5))
def test_it_is_the_whole_log_folded_but_for_older_iterations(
    events: list[Event], most: int, store: Store
) -> None:
    spec = RunSpec("one", "job", {}, (), f"example {next(EXAMPLES)}")
    run = store.run(spec.name, spec.created, spec.job_name)
    store.take(run, [Taken(event, 1) for event in events], (Cursor(inode=1), Tally()))
    found = taken_in.newest(store._db, spec, most)
    assert found is not None
    whole = RunHistory.of(events)
    assert found.history.iterations == whole.iterations[-most:]
    assert replace(found.history, iterations=[]) == replace(whole, iterations=[])


# --- As status shows it ---------------------------------------------------------------------------


def trained(home: Path, read: Callable[[RunWatch], None]) -> RunDir:
    """A run of some hundred iterations, crashed and resumed, of which a daemon has read some."""
    run = make_run(home, mode="off")
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.write(Evaluated(0, 0.4, {1: 0.41, 8: 0.8}, 0.02))
    trainer.step(100)
    trainer.write(CheckpointSaved(100, 0.3))
    trainer.step(5)
    with closing(Store(home / "history.db")) as store:
        read(RunWatch(run, RunSpec.load(run), store, Policy()))
    trainer.begin(2, resumed_from=100)
    trainer.step(3)
    trainer.write(Evaluated(103, 0.5, {1: 0.6, 8: 0.9}, 0.02))
    return run


def read_it(watch: RunWatch) -> None:
    while watch.tick(is_over=False):
        pass


def shown(home: Path, run: RunDir) -> tuple[RunSnapshot, RunSnapshot]:
    """By `status` of all runs, and by a reader of the whole log."""
    journal = JournalReader(home / "history.db")
    (brief,) = AllRuns(journal).look([run])
    whole = RunReader(run, journal).look()[0]
    assert journal.problem is None
    return replace(brief, age_seconds=None), replace(whole, age_seconds=None)


@pytest.mark.parametrize("read", [read_it, lambda _: None])
@pytest.mark.parametrize("state", ["running", "finished"])
def test_status_is_the_same_whatever_the_daemon_has_read(
    read: Callable[[RunWatch], None], state: str, tmp_path: Path
) -> None:
    run = trained(tmp_path, read)
    SupervisorState(state, "2026-11-24T01:00:00Z", attempt=2).save(run)
    brief, whole = shown(tmp_path, run)
    assert brief == whole
    assert (brief.iteration, brief.last_checkpoint, len(brief.evaluations)) == (103, 100, 2)


def test_what_the_daemon_has_read_is_not_read_again(tmp_path: Path) -> None:
    run = trained(tmp_path, lambda _: None)
    with closing(Store(tmp_path / "history.db")) as store:
        read_it(RunWatch(run, RunSpec.load(run), store, Policy()))
    SupervisorState("finished", "2026-11-24T01:00:00Z", attempt=2).save(run)
    before, _ = shown(tmp_path, run)
    # Other bytes, as many, and as old: whoever read them would find nothing known.
    status = run.log.stat()
    run.log.write_bytes(b"x" * status.st_size)
    os.utime(run.log, ns=(status.st_atime_ns, status.st_mtime_ns))
    (after,) = AllRuns(JournalReader(tmp_path / "history.db")).look([run])
    assert replace(after, age_seconds=None) == before


def test_a_history_that_cannot_be_read_is_asked_once_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(tmp_path, name) for name in ("one", "two")]
    asked: list[Path] = []

    def locked(path: Path) -> sqlite3.Connection:
        asked.append(path)
        raise HistoryError(f"{path}: database is locked")

    monkeypatch.setattr(read_only, "connect", locked)
    journal = JournalReader(tmp_path / "history.db")
    assert [run.name for run in AllRuns(journal).look(runs)] == ["two", "one"]
    assert len(asked) == 1
    assert journal.problem == f"{journal.path}: database is locked"
