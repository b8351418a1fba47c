"""The history: what goes in comes out, all or nothing, and only of our own files."""

import math
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import header, record

from maxrl_ops.core.decision import (
    Answered,
    Decision,
    ForeignControl,
    Hold,
    Input,
    Published,
    Superseded,
)
from maxrl_ops.core.entry import Held
from maxrl_ops.core.policy import Mode
from maxrl_ops.event_json import decode, encode
from maxrl_ops.journal import Journal
from maxrl_ops.store import HistoryError, Store, Taken, Tally
from maxrl_ops.tailer import Cursor
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    IterationRecord,
    RunEnded,
    RunStarted,
    UpdateSkipped,
)

DECISION = Decision(
    "LOW:threshold:1.24",
    "LOW",
    "threshold",
    24,
    "2026-11-24T00:00:24Z",
    Mode.ACT,
    0,
    {"correctness_threshold": 25.0},
    {"correctness": 0.41},
    "too low",
)
EVENTS: list[Input] = [
    header(),
    RunStarted(Algorithm.GRPO, extra={"Odd": "nan"}),
    record(7),
    IterationRecord(8, loss=math.inf, grad_norm=-math.inf, verdict="nan", extra={"a": "b"}),
    Evaluated(8, 0.5, {1: 0.4, 8: 0.9}, 0.02, 0.6, 0.2),
    CheckpointSaved(8, 0.25),
    ControlApplied(1, 9, (Change("n_samples", "16", "8"),)),
    ControlRejected(2, "why\u2028not"),
    UpdateSkipped(9, "loss nan"),
    RunEnded("finished", "9 iterations"),
    DECISION,
    Published("LOW:threshold:1.24", 1, 25),
    Superseded("LOW:threshold:1.24", 25, "late"),
    ForeignControl(2, "uid:7", 25, "2026", {"n_samples": 16, "lifecycle": "pause"}, "by hand"),
    ForeignControl(3, "unknown", 25),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_went(event: Input) -> None:
    assert decode(*encode(event)) == event


@given(st.floats(), st.floats())
def test_no_number_is_lost(loss: float, se: float) -> None:
    again = decode(*encode(IterationRecord(1, loss=loss)))
    assert isinstance(again, IterationRecord)
    assert str(again.loss) == str(loss)
    evaluated = decode(*encode(Evaluated(1, 0.5, {1: se}, se)))
    assert isinstance(evaluated, Evaluated)
    assert str(evaluated.se) == str(evaluated.pass_at_k[1]) == str(se)


@pytest.mark.parametrize("kind", ["Nothing", "IterationRecord"])
def test_an_event_of_another_version_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        decode(kind, '{"no such field": 1}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def taken(*events: Input) -> list[Taken]:
    return [Taken(event, 1) for event in events]


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    found = db.execute(query).fetchall()
    db.close()
    return found


def test_what_was_taken_in_is_there_for_the_next_process(path: Path) -> None:
    place = Cursor(5, b"\x00RL", 99), Tally(3, 99, {"unknown line": 2}, 1)
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, taken(*EVENTS), place)
    store.close()
    store = Store(path)
    assert store.run("one", "2026", "job") == run
    assert store.run("one", "2027", "job") != run
    assert list(store.events(run)) == EVENTS
    assert store.place(run) == place
    assert store.place(run + 1) == (Cursor(), Tally())
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_resume_supersedes_and_each_iteration_has_one_current_row(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, taken(header(), *(record(n) for n in range(1, 11))))
    store.take(run, taken(header(attempt=2, resumed_from=7), record(8), record(9), record(9)))
    store.close()
    current = rows(path, "SELECT iteration FROM iterations WHERE NOT superseded ORDER BY 1")
    assert [n for (n,) in current] == list(range(1, 10))
    assert rows(path, "SELECT COUNT(*) FROM iterations") == [(13,)]


def test_an_iteration_costs_the_same_however_many_there_are(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")

    def steps_of(iteration: int) -> int:
        """Tens of instructions of SQLite's machine, which nothing else on this host changes."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        store._db.set_progress_handler(step, 10)
        store.take(run, taken(record(iteration)))
        store._db.set_progress_handler(None, 0)
        return count

    store.take(run, taken(*(record(n) for n in range(1, 50))))
    few = steps_of(50)
    store.take(run, taken(*(record(n) for n in range(51, 3000))))
    assert steps_of(3000) <= 2 * few
    store.close()


def test_the_iterations_view_reads_figures_that_are_no_json(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, taken(IterationRecord(1, n_correct=3, n_total=4, loss=math.nan)))
    store.close()
    assert rows(path, "SELECT n_correct, n_total, loss FROM iterations") == [(3, 4, "nan")]


def test_a_transaction_that_fails_leaves_nothing(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    broken = Taken(record(2), 1, (Answered(1, "applied", 2, {"x": object()}),))  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        store.take(run, [*taken(record(1)), broken])
    assert list(store.events(run)) == []
    store.take(run, taken(record(1)))
    assert list(store.events(run)) == [record(1)]
    store.close()


def test_the_journal_follows_a_decision(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, [Taken(record(24), 1, (DECISION, Hold("LOW", "window", 24, "too few")))])
    assert store.intended(run) == [DECISION]
    store.take(run, taken(Published(DECISION.intent, 1, 25)))
    assert store.intended(run) == []
    answer = Answered(1, "applied", 26, {"correctness_threshold": 25.0})
    store.take(run, [Taken(ControlApplied(1, 26, ()), 1, (answer,))])
    assert store.outcomes(run) == {("LOW", "intended"): 1, ("LOW", "applied"): 1}
    assert store.decided_at(run) == {"LOW": DECISION.time}
    with Journal(path) as journal:
        (entry,) = journal.entries("one")
        assert (entry.revision, entry.outcome, entry.by) == (1, "applied", "rule:LOW")
        assert (entry.iteration, entry.answered_at) == (24, 26)
        assert entry.effective == {"correctness_threshold": 25.0}
        assert journal.entries() == [entry]
        assert journal.entries("two") == []
        assert journal.held("one") == Held("one", 24, "LOW", "too few")
    store.close()


def test_what_became_of_a_decision_is_counted_and_never_taken_back(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, [Taken(record(24), 1, (DECISION,))])
    store.take(run, taken(Published(DECISION.intent, 1, 25), ForeignControl(2, "uid:7", 25)))
    for outcome in ("unconfirmed", "applied"):
        answers = tuple(Answered(revision, outcome, 30) for revision in (1, 2))
        store.take(run, [Taken(record(30), 1, answers)])
    counted = store.outcomes(run)
    for rule in ("LOW", "operator"):
        assert {outcome: counted[rule, outcome] for outcome in ("unconfirmed", "applied")} == {
            "unconfirmed": 1,
            "applied": 1,
        }
    with Journal(path) as journal:
        assert [entry.outcome for entry in journal.entries("one")] == ["applied", "applied"]
    store.close()


def test_the_last_entry_is_the_last_decision_answered_or_not(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    store.take(run, taken(ForeignControl(1, "uid:7", 3)))
    rejected = tuple(Answered(revision, "rejected", 5) for revision in (1, 2))
    store.take(run, [Taken(record(5), 1, rejected)])
    store.take(run, [Taken(record(24), 1, (DECISION,)), *taken(ForeignControl(3, "uid:7", 24))])
    with Journal(path) as journal:
        told = [(entry.revision, entry.outcome) for entry in journal.entries("one")]
    store.close()
    assert told == [(1, "rejected"), (2, "rejected"), (None, "intended"), (3, "published")]


def test_an_answer_to_a_control_that_nobody_can_read_is_journaled(path: Path) -> None:
    store = Store(path)
    run = store.run("one", "2026", "job")
    answer = Answered(4, "rejected", 26, {}, "unreadable, skipped: not JSON")
    store.take(run, [Taken(ControlRejected(4, "x"), 1, (answer,))])
    with Journal(path) as journal:
        (entry,) = journal.entries("one")
    store.close()
    assert (entry.revision, entry.outcome, entry.by) == (4, "rejected", "unknown")
    assert "not JSON" in entry.because


def test_a_database_of_somebody_else_is_refused(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    for opened in (Store, Journal):
        with pytest.raises(HistoryError, match="not a history of ours"):
            opened(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(path: Path) -> None:
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.close()
    for opened in (Store, Journal):
        with pytest.raises(HistoryError, match="version 7"):
            opened(path)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"\x00" * 5000])
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for opened in (Store, Journal):
        with pytest.raises(HistoryError, match=r"history\.db"):
            opened(path)
    assert path.read_bytes() == content


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    for opened in (Store, Journal):
        with pytest.raises(HistoryError, match=r"history\.db"):
            opened(path)


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    run = store.run("one", "2026", "rust")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    much = [Taken(replace(record(n), verdict="x" * 9000), 1) for n in range(1, 9)]
    with pytest.raises(HistoryError, match="database or disk is full; see that it can be written"):
        store.take(run, much)
    # Room again: nothing of it was kept, and the next goes in.
    store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.take(run, much)
    assert len(list(store.events(run))) == 8
    store.close()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@contextmanager
def as_a_reader_of(directory: Path) -> Iterator[None]:
    """As somebody who may read what lies there, and write nothing."""
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o555)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("is_open", [True, False])
def test_whoever_may_only_read_gets_the_journal(shared: Path, is_open: bool) -> None:
    store = Store(shared / "history.db")
    store.take(store.run("one", "2026", "rust"), [Taken(header(), 1), Taken(DECISION, 1)])
    if not is_open:
        store.close()
    with as_a_reader_of(shared), Journal(shared / "history.db") as journal:
        assert [entry.rule for entry in journal.entries("one")] == ["LOW"]
    store.close()
