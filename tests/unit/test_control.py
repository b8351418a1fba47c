"""Control: published once, whole, and only once a number; unreadable files are skipped."""

import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from maxrl_ops.wire.control import (
    Applied,
    Control,
    RevisionTakenError,
    TrainingState,
    append_applied,
    path_of,
    publish,
    read_applied,
    read_newest,
)
from maxrl_ops.wire.rundir import DocumentError

STATE = TrainingState("maxrl", 20.0, 1.0, 8, 3e-4)


def control(revision: int, **changes: object) -> Control:
    made = Control(
        revision=revision,
        base_revision=revision - 1,
        state=STATE,
        author="uid:1000",
        reason="test",
        time="2026-11-22T13:30:05Z",
        intent="abc",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_what_is_published_reads_back(tmp_path: Path) -> None:
    publish(tmp_path, control(1))
    publish(tmp_path, control(2, lifecycle="stop"))
    found = read_newest(tmp_path)
    assert found.newest == control(2, lifecycle="stop")
    assert not found.unreadable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001.json", "000002.json"]
    assert path_of(tmp_path, 1).stat().st_mode & 0o777 == 0o640
    assert read_newest(tmp_path, above=2).newest is None


def test_a_number_is_taken_once(tmp_path: Path) -> None:
    publish(tmp_path, control(1))
    with pytest.raises(RevisionTakenError):
        publish(tmp_path, control(1, reason="mine"))
    assert read_newest(tmp_path).newest == control(1)
    assert len(list(tmp_path.iterdir())) == 1


def test_of_many_writers_exactly_one_gets_the_number(tmp_path: Path) -> None:
    def attempt(writer: int) -> bool:
        try:
            publish(tmp_path, control(1, author=f"uid:{writer}"))
        except RevisionTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(32))) == 1


def test_a_writer_killed_before_its_link_left_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", die)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, control(1))
    assert read_newest(tmp_path).newest is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b" " * 70_000,
        control(7).to_bytes(),
        control(2, lifecycle="dance").to_bytes(),
        json.dumps({"revision": 2}).encode(),
        control(2).to_bytes().replace(b"20.0", b"NaN"),
        control(2).to_bytes().replace(b"20.0", b"9" * 400),
        control(2).to_bytes().replace(b'"n_samples": 8', b'"n_samples": true'),
        control(2).to_bytes().replace(b"uid:1000", rb"uid:\ud800"),
    ],
)
def test_an_unreadable_control_is_skipped_and_said(tmp_path: Path, damage: bytes) -> None:
    publish(tmp_path, control(1))
    path_of(tmp_path, 2).write_bytes(damage)
    found = read_newest(tmp_path)
    assert found.newest == control(1)
    assert list(found.unreadable) == [2]
    assert found.unreadable[2]


def test_a_missing_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert read_newest(tmp_path / "none").newest is None


def test_missing_values_are_refused() -> None:
    with pytest.raises(DocumentError, match="objective"):
        Control.from_bytes(control(1).to_bytes().replace(b'"maxrl"', b"3"))


def test_applied_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "applied.jsonl"
    assert read_applied(path) == []
    first = Applied(1, 51, STATE)
    second = Applied(2, 60, STATE, rejected="out of bounds")
    append_applied(path, first)
    with path.open("ab") as file:
        file.write(b'{"revision": 9, "iter')
    assert read_applied(path) == [first]
    append_applied(path, second)
    assert read_applied(path) == [first, second]


def test_a_record_that_is_not_written_whole_is_an_error(tmp_path: Path) -> None:
    """As on a full disk, which takes what still fits."""
    path = tmp_path / "applied.jsonl"
    first, second = Applied(1, 51, STATE), Applied(2, 60, STATE)
    append_applied(path, first)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_applied(path, second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_applied(path) == [first]
    append_applied(path, second)
    assert read_applied(path) == [first, second]
