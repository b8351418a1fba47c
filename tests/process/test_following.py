"""Whatever happens to a log, each of its blocks is found once, watched or only looked at."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from followed import Follower, append, block
from scripted import make_run
from waiting import wait_until

from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir


@pytest.fixture(params=["watched", "looked at"])
def eyes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Follower]:
    follower = Follower(tmp_path, watching=request.param == "watched")
    follower.home.runs_dir.mkdir()
    yield follower
    follower.close()


@pytest.fixture
def run(eyes: Follower) -> RunDir:
    """One whose first block has been found."""
    run = make_run(eyes.home.path, mode="off")
    append(run.log, block(1))
    eyes.start()
    eyes.find(run, 1)
    return run


def rotated(run: RunDir, number: int = 1) -> Path:
    return run.log.with_name(f"{run.log.name}.{number}")


def test_renamed_with_a_writer_that_is_late(eyes: Follower, run: RunDir) -> None:
    with run.log.open("ab", buffering=0) as late:
        late.write(block(2))
        run.log.rename(rotated(run))
        append(run.log, block(4))
        late.write(block(3))
        tally = eyes.find(run, 1, 2, 3, 4)
    assert (tally.lost, tally.rotations) == (0, 1)


def test_renamed_twice_between_two_looks(eyes: Follower, run: RunDir) -> None:
    append(run.log, block(2))
    run.log.rename(rotated(run))
    append(run.log, block(3))
    rotated(run).rename(rotated(run, 2))
    run.log.rename(rotated(run))
    append(run.log, block(4))
    assert eyes.find(run, 1, 2, 3, 4).lost == 0


def test_copied_and_cut(eyes: Follower, run: RunDir) -> None:
    append(run.log, block(2))
    shutil.copy(run.log, rotated(run))
    os.truncate(run.log, 0)
    append(run.log, block(3))
    assert eyes.find(run, 1, 2, 3).lost == 0


def test_cut_and_grown_again_to_less_and_to_more(eyes: Follower, run: RunDir) -> None:
    append(run.log, block(2))
    eyes.find(run, 1, 2)
    run.log.write_bytes(block(3))
    eyes.find(run, 1, 2, 3)
    run.log.write_bytes(b"".join(map(block, range(4, 9))))
    assert eyes.find(run, *range(1, 9)).lost == 0


def test_deleted_and_made_again(eyes: Follower, run: RunDir) -> None:
    run.log.unlink()
    append(run.log, block(2))
    eyes.find(run, 1, 2)


def test_a_link_that_comes_to_name_another_file(eyes: Follower) -> None:
    run = make_run(eyes.home.path, mode="off")
    for number in (1, 2):
        append(run.path / f"part-{number}", block(number))
    run.log.symlink_to("part-1")
    eyes.start()
    eyes.find(run, 1)
    (run.path / "next").symlink_to("part-2")
    (run.path / "next").rename(run.log)
    eyes.find(run, 1, 2)
    append(run.path / "part-2", block(3))
    eyes.find(run, 1, 2, 3)


def test_a_log_that_is_not_there_yet_nor_its_directory(eyes: Follower, tmp_path: Path) -> None:
    log = tmp_path / "elsewhere" / "deep" / "train.log"
    run = make_run(eyes.home.path, mode="off")
    RunSpec("one", "rust", {}, (), "2026-11-24", mode="off", log=str(log), dialect="guide").save(
        run
    )
    own = make_run(eyes.home.path, "own", mode="off")
    eyes.start()
    append(own.log, block(1))
    eyes.find(own, 1)
    log.parent.mkdir(parents=True)
    append(log, block(1))
    eyes.find(run, 1)
    # It goes and comes back, as a mount does.
    log.parent.rename(tmp_path / "aside")
    append(tmp_path / "aside" / "train.log", block(2))
    (tmp_path / "aside").rename(log.parent)
    eyes.find(run, 1, 2)


def test_grown_and_renamed_while_nobody_looked(eyes: Follower, run: RunDir) -> None:
    eyes.stop()
    append(run.log, block(2))
    run.log.rename(rotated(run))
    append(run.log, block(3))
    rotated(run).rename(rotated(run, 2))
    run.log.rename(rotated(run))
    append(run.log, block(4))
    eyes.start()
    assert eyes.find(run, 1, 2, 3, 4).lost == 0


def test_copied_and_cut_while_nobody_looked(eyes: Follower, run: RunDir) -> None:
    eyes.stop()
    append(run.log, block(2))
    shutil.copy(run.log, rotated(run))
    run.log.write_bytes(block(3))
    eyes.start()
    assert eyes.find(run, 1, 2, 3).lost == 0


def test_a_line_without_its_end_waits_for_it(eyes: Follower, run: RunDir) -> None:
    whole = block(2)
    append(run.log, whole[:40])
    eyes.restart()
    append(run.log, whole[40:-2])
    eyes.restart()
    assert eyes.told(run)[0] == [1]
    append(run.log, whole[-2:])
    assert eyes.find(run, 1, 2).truncated == 0


def test_a_line_of_ten_megabytes(eyes: Follower, run: RunDir) -> None:
    append(run.log, b"y" * 10_000_000, b"\n", block(2))
    assert eyes.find(run, 1, 2).truncated == 1


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xfe caf\xe9 \xf0\x9f\x92\n",
        b"\0" * 10_000,
        b"\0" * 10_000 + b"\n",
        b"a\0b\0\0c\n",
        b"|  1%\r| 50%\r|100%\r",
        b"|  1%\r| 50%\r|100%\n",
        b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2K\n",
        b"\x1b[2K\x1b[1A",
        b"\r\n\r\n",
    ],
    ids=[
        "latin-1",
        "zeros",
        "zeros, line",
        "NULs",
        "bar",
        "bar, line",
        "ANSI",
        "ANSI, CRLF",
        "CRLF",
    ],
)
def test_what_no_trainer_should_write(eyes: Follower, run: RunDir, noise: bytes) -> None:
    coloured = b"".join(b"\x1b[1m" + line + b"\x1b[0m" for line in block(4).splitlines(True))
    append(run.log, noise, block(2), noise, block(3).replace(b"\n", b"\r\n"), noise, coloured)
    assert eyes.find(run, 1, 2, 3, 4).lost == 0


def test_a_hole_where_a_writer_that_does_not_append_was_cut(eyes: Follower, run: RunDir) -> None:
    with run.log.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        file.write(block(2))
        eyes.find(run, 1, 2)
        shutil.copy(run.log, rotated(run))
        os.truncate(run.log, 0)
        file.seek(1 << 20)
        file.write(block(3))
        eyes.find(run, 1, 2, 3)


def test_a_line_of_a_hundred_megabytes_costs_no_memory(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run = make_run(home.path, mode="off")
    append(run.log, block(1))
    follower = Follower(tmp_path, watching=True)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "maxrl_ops.daemon", "--listen", "127.0.0.1:0"],
        env={**os.environ, "MAXRL_OPS_HOME": str(home.path)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(home.daemon_file.exists, 20, "a daemon")
            follower.find(run, 1)
            for _ in range(100):
                append(run.log, b"z" * 1_000_000)
            append(run.log, b"\n", block(2))
            assert wait_until(lambda: len(follower.told(run)[0]) == 2, 60, "the block behind it")
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.send_signal(signal.SIGKILL)
            follower.close()
    most = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert most < 44 * 1024, f"{most} KiB"
