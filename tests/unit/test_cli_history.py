"""`history`: from a real history, with no daemon about."""

import csv
import io
import json
import shutil
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from commands import refused
from scripted import ScriptedTrainer, make_run, record
from told_history import tell

from maxrl_ops.cli.app import run
from maxrl_ops.core.policy import Policy
from maxrl_ops.iterations import NAMES
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec

HOSTILE = "=cmd()\x1b]0;owned\x07\u202e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def told(home: Path) -> Path:
    """A run with two resumes: 55 current iterations of 66."""
    tell(home)
    return home


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["history", *arguments]) == 0
    return capsys.readouterr().out


def test_as_json_each_current_iteration_once(
    told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(printed(["one", "--json"], capsys))
    assert [each["iteration"] for each in found] == list(range(1, 56))
    assert [each["attempt"] for each in found] == [1] * 40 + [2] * 5 + [3] * 10
    first = found[0]
    assert (first["n_correct"], first["n_total"], first["objective"]) == (0, 64, "maxrl")
    assert first["rewards_above"] == {"15.0": 26, "20.0": 26, "25.0": 26, "30.0": 0}
    # What was not measured is absent.
    assert "loss" not in first
    assert None not in [value for each in found for value in each.values()]


def test_as_csv_with_the_same_columns_always(
    told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = csv.reader(io.StringIO(printed(["one", "--csv"], capsys)))
    assert tuple(header) == NAMES
    assert len(rows) == 55
    last = dict(zip(header, rows[-1], strict=True))
    assert (last["attempt"], last["iteration"], last["loss"]) == ("3", "55", "")
    assert json.loads(last["rewards_above"])["15.0"] == 26


def test_for_people_the_last_and_since(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(["one"], capsys).splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("2026-11-24T00:00:55Z  iteration 55/160  correctness 40.6% (26/64)")
    assert len(printed(["one", "--since", "31"], capsys).splitlines()) == 25
    assert printed(["one", "--since", "100"], capsys) == "There is no such iteration.\n"
    assert printed(["one", "--since", "100", "--json"], capsys) == "[]\n"


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2026-11-24T00:00:50Z", 6),
        # Without a zone, and in another.
        ("2026-11-24T00:00:50", 6),
        ("2026-11-24T01:00:50+01:00", 6),
        ("2026-11-25", 0),
        ("100000w", 55),
    ],
)
def test_since_a_time(
    told: Path, capsys: pytest.CaptureFixture[str], since: str, count: int
) -> None:
    assert len(json.loads(printed(["one", "--json", "--since", since], capsys))) == count


def test_a_run_whose_directory_is_gone_is_still_told(
    told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(told / "runs" / "one")
    assert len(json.loads(printed(["one", "--json"], capsys))) == 55


def test_what_is_no_number_and_what_is_hostile(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, store = make_run(home), Store(home / "history.db")
    trainer = ScriptedTrainer(directory)
    trainer.begin()
    extra = {"Mood": HOSTILE}
    odd = replace(record(1), loss=inf, kl=float("nan"), entropy=-inf, verdict=HOSTILE, extra=extra)
    trainer.write(odd)
    RunWatch(directory, RunSpec.load(directory), store, Policy()).tick(is_over=True)
    store.close()
    (found,) = json.loads(printed(["one", "--json"], capsys), parse_constant=pytest.fail)
    assert (found["loss"], found["kl"], found["entropy"]) == ("inf", "nan", "-inf")
    header, row = csv.reader(io.StringIO(printed(["one", "--csv"], capsys)))
    cells = dict(zip(header, row, strict=True))
    assert (cells["loss"], cells["kl"], cells["entropy"]) == ("inf", "nan", "-inf")
    assert cells["verdict"].startswith("'=cmd()")
    for way in ([], ["--csv"], ["--json"]):
        text = printed(["one", *way], capsys)
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_what_cannot_be_told(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(["history", "onne"], capsys, 3)
    assert error.startswith("there is no run 'onne'")
    make_run(told, "unread")
    error = refused(["history", "unread"], capsys, 3)
    assert error == "no daemon has read unread yet: maxrl-ops daemon does"
    error = refused(["history", "one", "--since", "soon"], capsys, 2)
    assert error.startswith("--since='soon' is not allowed: give an iteration as 500, an age as")
    refused(["history", "one", "--json", "--csv"], capsys, 2)
    (told / "history.db").write_bytes(b"no database at all, but long enough to be one")
    assert "history.db" in refused(["history", "one"], capsys, 1)
