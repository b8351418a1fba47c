"""trainer.log makes way for another before it grows too long, and nobody misses a line."""

import threading
from pathlib import Path

from scripted import header, record

from maxrl_ops.run_reader import LogReader
from maxrl_ops.tailer import Cursor, Tailer
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import RunDir
from trainer.run_log import RunLog

LONGEST = 4000


def iterations(data: bytes) -> list[int]:
    parser = Parser()
    events = [*parser.feed(data), *parser.close()]
    return [event.iteration for event in events if isinstance(event, IterationRecord)]


def everything(tailer: Tailer) -> bytes:
    data = b""
    while chunk := tailer.read().data:
        data += chunk
    return data


def test_the_log_is_rotated_and_read_whole(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log = RunLog(run, longest=LONGEST)
    tailer = Tailer(run.log, Cursor(), lambda: 1e12)
    read = b""
    log.write(header())
    for iteration in range(1, 201):
        log.write(record(iteration))
        if iteration % 7 == 0:
            read += everything(tailer)
    log.close()
    for _ in range(3):
        read += everything(tailer)
    rotated = sorted(path.name for path in tmp_path.glob("trainer.log.*"))
    # The first tells what the run began with; of the others the newest are kept.
    assert rotated[0] == "trainer.log.000001"
    assert len(rotated) <= 17
    assert all(path.stat().st_size < 2 * LONGEST for path in tmp_path.glob("trainer.log*"))
    assert iterations(read) == list(range(1, 201))
    reader = LogReader(run)
    reader.read()
    assert reader.history.started is not None
    assert reader.history.iteration == 200


def test_of_many_the_first_and_the_newest_are_kept(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log = RunLog(run, longest=200)
    log.write(header())
    for iteration in range(1, 60):
        log.write(record(iteration))
    log.close()
    rotated = sorted(path.name for path in tmp_path.glob("trainer.log.*"))
    assert rotated[0] == "trainer.log.000001"
    assert len(rotated) == 17
    assert rotated[1] > "trainer.log.000040"
    # Another attempt counts on.
    log = RunLog(run, longest=200)
    log.write(record(60))
    log.close()
    assert max(path.name for path in tmp_path.glob("trainer.log.*")) > rotated[-1]
    reader = LogReader(run)
    reader.read()
    assert reader.history.started is not None
    assert reader.history.iteration == 60


def test_two_threads_write_whole_lines_through_a_rotation(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log = RunLog(run, longest=LONGEST)

    def chatter() -> None:
        for number in range(300):
            log.write_foreign(f"words {number:04d}\n")

    thread = threading.Thread(target=chatter)
    thread.start()
    for iteration in range(1, 51):
        log.write(record(iteration))
    thread.join()
    log.close()
    files = [*sorted(tmp_path.glob("trainer.log.*")), run.log]
    lines = b"".join(path.read_bytes() for path in files if path.exists()).splitlines()
    assert [line for line in lines if line.startswith(b"| words")] == [
        b"| words %04d" % number for number in range(300)
    ]
    assert sum(line.startswith(b"Iteration ") for line in lines) == 50
