"""The tailer: every byte of the log once, from where somebody left off."""

import os
import time
from pathlib import Path

import pytest

from maxrl_ops.tailer import Cursor, Tailer
from maxrl_ops.wire.logformat import Parser, render
from maxrl_ops.wire.record import IterationRecord, Unparsed


def later() -> float:
    """A clock by which nobody writes to a rotated file any more."""
    return time.time() + 5


def everything(tailer: Tailer, limit: int = 1000) -> bytes:
    data = b""
    while chunk := tailer.read(limit).data:
        data += chunk
    return data


def test_what_is_appended_is_read_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tailer = Tailer(log, Cursor())
    assert tailer.read().data == b""
    log.write_bytes(b"one\n")
    assert everything(tailer) == b"one\n"
    with log.open("ab") as file:
        file.write(b"two\n")
    assert everything(tailer) == b"two\n"
    assert everything(tailer) == b""


def test_pieces_are_bounded_and_the_rest_is_lag(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1000)
    tailer = Tailer(log, Cursor())
    assert len(tailer.read(300).data) == 300
    assert tailer.lag == 700
    assert len(everything(tailer, 300)) == 700
    assert tailer.lag == 0


def test_another_goes_on_from_the_cursor(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first line\nsecond")
    tailer = Tailer(log, Cursor())
    tailer.read()
    cursor = tailer.cursor(pending=len(b"second"))
    log.write_bytes(b"first line\nsecond line\n")
    assert everything(Tailer(log, cursor)) == b"second line\n"


@pytest.mark.parametrize("replace", ["truncate", "regrow", "rename", "delete"])
def test_another_file_in_its_place_is_read_from_its_beginning(tmp_path: Path, replace: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old and long\n")
    tailer = Tailer(log, Cursor(), later)
    everything(tailer)
    new = b"new\n" if replace == "truncate" else b"new, and longer than the old\n"
    match replace:
        case "truncate" | "regrow":
            log.write_bytes(new)
        case "rename":
            (tmp_path / "aside").write_bytes(new)
            (tmp_path / "aside").replace(log)
        case "delete":
            log.unlink()
            assert tailer.read().data == b""
            # Another file first, so that the inode is not given out again.
            (tmp_path / "other").touch()
            log.write_bytes(new)
    chunk = tailer.read()
    assert (chunk.data, chunk.is_fresh) == (new, True)
    assert not tailer.read().is_fresh


def test_a_cursor_of_another_file_is_not_used(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n")
    tailer = Tailer(log, Cursor())
    everything(tailer)
    log.write_bytes(b"other\nfile\n")
    assert everything(Tailer(log, tailer.cursor(0))) == b"other\nfile\n"


def test_what_is_no_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        Tailer(tmp_path, Cursor()).read()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular"):
        Tailer(tmp_path / "fifo", Cursor()).read()


def test_the_parser_tells_what_is_in_no_event_yet() -> None:
    """Cut anywhere: another parser that begins with the pending bytes tells the same events."""
    records = [IterationRecord(n, 9, 1, 2, verdict="v" if n % 2 else None) for n in range(1, 5)]
    log = "".join(render(record) for record in records).encode()
    log += b"| foreign\nCheckpoint 4: saved in 0.1s\n" + b"y" * 200_000 + b"\nRun finished: 9\n"
    whole = Parser().feed(log)
    assert any(isinstance(event, Unparsed) and event.reason == "too long" for event in whole)
    for cut in [*range(300), len(log) - 100_000, len(log) - 20]:
        first = Parser()
        events = first.feed(log[:cut])
        second = Parser()
        assert events + second.feed(log[cut - first.pending :]) == whole, cut
