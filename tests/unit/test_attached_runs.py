"""Attached logs as the daemon reads them: killed anywhere, rotated, detached, of no format."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import header, record

from maxrl_ops import taken_in
from maxrl_ops.continued_reader import ContinuedReader
from maxrl_ops.core.policy import Policy
from maxrl_ops.dialects.detecting import MOST_KEPT
from maxrl_ops.event_json import encode
from maxrl_ops.journal import Journal, JournalReader
from maxrl_ops.run_reader import RunReader
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import Detached, RunSpec, utc_now
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Event, IterationRecord
from maxrl_ops.wire.rundir import RunDir, read_json

LOGS = Path(__file__).parents[1] / "golden" / "logs"
GOLDEN = sorted(path.name for path in LOGS.glob("*.log"))


class Attached:
    """A run that stands for `log`, and a daemon's view of it, which can be killed."""

    def __init__(self, home: Path, dialect: str | None = None) -> None:
        home.mkdir(exist_ok=True)
        self.log, self.database = home / "train.log", home / "history.db"
        self.run = RunDir(home / "runs" / "theirs")
        self.run.path.mkdir(parents=True)
        self.spec = RunSpec(
            "theirs",
            "job",
            {},
            (),
            "2026-11-25",
            mode="observe",
            log=str(self.log),
            dialect=dialect,
        )
        self.spec.save(self.run)

    def daemon(self, deed: Callable[[Callable[[], None]], None] | None = None) -> list[str]:
        """Start a daemon, let it read, and do `deed` beside it; what its history holds at the end.

        It is gone then without a word, as if killed: what it had not committed is lost.
        """
        with closing(Store(self.database)) as store:
            watch = RunWatch(self.run, self.spec, store, Policy())

            def look() -> None:
                while watch.tick(is_over=self.run.detached.exists()):
                    pass

            look()
            if deed is not None:
                deed(look)
            events = [event for event in store.events(watch.id) if isinstance(event, Event)]
            told = [f"{kind} {body}" for kind, body in map(encode, events)]
            return [*told, f"{watch.tally.lines} lines", f"{watch.tally.bytes} bytes"]

    def append(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def iterations(self) -> list[int]:
        """As `status` and `report` see them, beside what the daemon has read."""
        reader = ContinuedReader(self.run, self.spec, taken_in.whole(self.database, self.spec))
        return [e.iteration for e in reader.read() if isinstance(e, IterationRecord)]

    def sentence(self) -> str:
        return RunReader(self.run, JournalReader(self.database)).look()[0].sentence or ""


@pytest.mark.parametrize("name", GOLDEN)
@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.floats(0, 1), max_size=4).map(sorted))
def test_a_daemon_killed_anywhere_leaves_the_history_of_one_that_never_was(
    name: str, cuts: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = (LOGS / name).read_bytes()
    whole, parts = (Attached(tmp_path_factory.mktemp(name)) for _ in range(2))
    whole.append(data)
    start = 0
    for cut in cuts:
        end = int(cut * len(data))
        parts.append(data[start:end])
        parts.daemon()
        start = end
    parts.append(data[start:])
    assert parts.daemon() == whole.daemon()
    assert parts.iterations() == whole.iterations()
    known = [run.run.dialect.exists() and read_json(run.run.dialect) for run in (parts, whole)]
    assert known[0] == known[1] == {"dialect": name.partition(".")[0]}


def trl(*steps: int) -> bytes:
    line = "{{'loss': '0', 'grad_norm': '1', 'reward': '0.5', 'epoch': '{}'}}\n"
    return "".join(line.format(step / 16) for step in steps).encode()


def test_steps_without_a_number_are_counted_on_over_a_rotation_also_by_status(
    tmp_path: Path,
) -> None:
    run = Attached(tmp_path / "home")
    run.append(trl(1, 2, 3))

    def rotate(look: Callable[[], None]) -> None:
        run.log.rename(run.log.with_name("train.log.1"))
        run.append(trl(4, 5))
        long_ago = run.log.stat().st_mtime - 60
        os.utime(run.log.with_name("train.log.1"), (long_ago, long_ago))
        look()

    told = run.daemon(rotate)
    assert sum("IterationRecord" in line for line in told) == 5
    # What logrotate has removed since is in the history all the same.
    run.log.with_name("train.log.1").unlink()
    run.append(trl(6))
    assert run.iterations() == [1, 2, 3, 4, 5, 6]


def test_a_detached_log_is_read_to_where_it_ended_then_and_no_further(tmp_path: Path) -> None:
    run = Attached(tmp_path / "home", "trl")
    run.append(trl(1, 2))
    run.daemon()
    run.append(trl(3))
    status = run.log.stat()
    # No daemon runs at that time.
    Detached(utc_now(), status.st_ino, status.st_size).save(run.run)
    run.append(trl(4))
    assert run.iterations() == [1, 2, 3]
    first = run.daemon()
    assert sum("IterationRecord" in line for line in first) == 3
    run.append(trl(5))
    assert run.daemon() == first
    assert run.iterations() == [1, 2, 3]


def test_a_log_that_came_after_a_detached_one_is_not_read(tmp_path: Path) -> None:
    run = Attached(tmp_path / "home", "trl")
    run.append(trl(1))
    run.daemon()
    Detached(utc_now(), run.log.stat().st_ino, run.log.stat().st_size).save(run.run)
    run.log.rename(run.log.with_name("train.log.1"))
    run.append(trl(2))
    assert sum("IterationRecord" in line for line in run.daemon()) == 1
    assert run.iterations() == [1]


def test_a_log_of_no_known_format_says_so_until_a_line_tells(tmp_path: Path) -> None:
    run = Attached(tmp_path / "home")
    noise = b"loading shards, this may take a while\n" * (2 * MOST_KEPT // 38)
    run.append(noise)
    run.daemon()
    said = run.sentence()
    assert "No line so far tells its log's format" in said
    assert "attach it again with --dialect" in said
    assert not run.run.dialect.exists()
    run.append(trl(1, 2))
    told = run.daemon()
    assert sum("IterationRecord" in line for line in told) == 2
    assert told[-1] == f"{len(noise) + len(trl(1, 2))} bytes"
    assert "tells its log's format" not in run.sentence()
    assert run.daemon() == told


def test_a_log_without_a_reference_threshold_is_judged_at_its_live_one_and_never_changed(
    tmp_path: Path,
) -> None:
    run = Attached(tmp_path / "home")
    start = replace(header(iterations=1000), reference_threshold=None)
    run.append(render(start).encode())
    for iteration in range(1, 61):
        told = record(iteration, correct=0, iterations=1000)
        theirs = replace(told, reference_correct=None, reference_total=None)
        run.append(render(theirs).encode())
    run.daemon()
    with Journal(run.database) as journal:
        (entry,) = journal.entries("theirs")
    assert (entry.rule, entry.outcome, entry.revision) == ("LOW", "observed", None)
    assert entry.because.startswith("correctness at the live threshold was 0% over 20 iterations")
    assert "LOW would have set objective to grpo" in run.sentence()
    assert not run.run.control.exists()
