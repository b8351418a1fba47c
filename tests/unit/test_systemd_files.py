"""The units: what systemd thinks of them, and what differs between installations."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from commands import refused

from maxrl_ops import systemd
from maxrl_ops.cli.app import run
from maxrl_ops.settings import Home
from maxrl_ops.systemd_files import DAEMON_UNIT, DEFAULT, RUN_UNIT, files
from maxrl_ops.wire.rundir import RunDir, is_run_name

ROOT = Path(__file__).parents[2]
UNITS = {DAEMON_UNIT: 1.5, RUN_UNIT.format(""): 2.0}
ODD = replace(
    DEFAULT,
    python=Path("/home/ann on/50% ven;v/bin/python"),
    needed=(Path("/home/ann on/50% ven;v"), Path("/usr"), Path("/tmp/src")),  # noqa: S108
    home=Path("/home/ann on/runs of 5%"),
)


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def write(directory: Path, here: object = DEFAULT) -> list[Path]:
    assert isinstance(here, type(DEFAULT))
    paths = [directory / name for name in UNITS]
    for path in paths:
        path.write_text(files(here)[f"systemd/system/{path.name}"])
    return paths


def test_the_committed_files_are_the_rendered_ones() -> None:
    there = {
        str(path.relative_to(ROOT / "systemd")): path.read_text()
        for path in (ROOT / "systemd").rglob("*")
        if path.is_file()
    }
    rendered = {name.removeprefix("systemd/system/"): text for name, text in files(DEFAULT).items()}
    assert there == rendered, "systemd/ is not up to date: make units"


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    """It exits with 0 on unknown keys: what counts is that it is silent."""
    # Of a program that is there: that of the installation need not be.
    here = replace(DEFAULT, python=Path("/usr/bin/env"))
    for path in write(tmp_path, here):
        assert analyze("verify", "--man=no", str(path)) == ""
    wrong = tmp_path / "wrong.service"
    wrong.write_text((tmp_path / DAEMON_UNIT).read_text() + "\n[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in analyze("verify", "--man=no", str(wrong))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("here", [DEFAULT, ODD], ids=["default", "odd"])
def test_how_exposed_the_units_are(tmp_path: Path, here: object) -> None:
    for path in write(tmp_path, here):
        told = analyze("security", "--offline=yes", "--no-pager", str(path)).splitlines()[-1]
        assert "Overall exposure level" in told
        assert float(told.split(": ")[1].split()[0]) <= UNITS[path.name]


def test_paths_that_are_hidden_are_shown_and_odd_ones_quoted() -> None:
    text = files(ODD)[f"systemd/system/{RUN_UNIT.format('')}"]
    python, run = "/home/ann on/50%% ven;v/bin/python", "/home/ann on/runs of 5%%/runs/%i"
    for line in (
        f'ExecStart="{python}" -P -m maxrl_ops.supervisor "{run}"',
        "ProtectHome=tmpfs",
        'BindReadOnlyPaths="/home/ann on/50%% ven;v"',
        "BindReadOnlyPaths=/tmp/src",
        'BindPaths="/home/ann on/runs of 5%%"',
    ):
        assert line in text.splitlines()
    assert "BindReadOnlyPaths=/usr" not in text
    plain = files(DEFAULT)[f"systemd/system/{DAEMON_UNIT}"].splitlines()
    assert {"ProtectHome=yes", "ReadWritePaths=/var/lib/maxrl-ops"} <= set(plain)


def test_every_run_name_is_an_instance_as_it_stands() -> None:
    """unit_name_is_valid(): letters, digits, and :-_.\\ up to 255 characters in all."""
    name = "Az09._-" * 9 + "x"
    assert is_run_name(name)
    assert len(RUN_UNIT.format(name)) < 255


def test_export_writes_what_systemd_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAXRL_OPS_HOME", "/srv/rl")
    assert run(["export", "systemd", "--to", str(tmp_path), "--user", "ann"]) == 0
    assert "user ann, home /srv/rl" in capsys.readouterr().out
    unit = tmp_path / "systemd" / "system" / DAEMON_UNIT
    assert unit.stat().st_mode & 0o777 == 0o644
    lines = unit.read_text().splitlines()
    assert {"User=ann", "Environment=MAXRL_OPS_HOME=/srv/rl", "ReadWritePaths=/srv/rl"} <= set(
        lines
    )
    assert (tmp_path / "tmpfiles.d" / "maxrl-ops.conf").read_text().startswith("d /srv/rl 2750 ann")
    assert "u ann " in (tmp_path / "sysusers.d" / "maxrl-ops.conf").read_text()


@pytest.mark.parametrize("user", ["root", "", "a b", "Ann", "x" * 40])
def test_a_user_that_cannot_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    words = ["export", "systemd", "--to", str(tmp_path / "x"), "--user", user]
    assert "is not allowed" in refused(words, capsys, 2)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("odd", ["a'b", 'a"b', "a\\b", "a:b", "a\nb"])
def test_a_path_that_no_unit_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    monkeypatch.setenv("MAXRL_OPS_HOME", f"/srv/{odd}")
    words = ["export", "systemd", "--to", str(tmp_path / "x")]
    assert "cannot stand in a unit" in refused(words, capsys, 2)


@pytest.mark.parametrize(
    ("said", "uid", "expected"),
    [
        ("Interactive authentication required.", 1000, "takes root: sudo systemctl start "),
        ("Job failed.", 0, "did not come up: see journalctl -u "),
    ],
)
def test_a_unit_that_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, uid: int, expected: str
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(systemd.UnitError) as refusal:
        systemd.start_run(RunDir(tmp_path / "rust-1"))
    assert f"{expected}maxrl-ops-run@rust-1.service" in str(refusal.value)


def test_which_home_units_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booted = tmp_path / "run"
    monkeypatch.setattr(systemd, "_BOOTED", booted)
    monkeypatch.setattr(systemd, "_UNIT_DIRECTORIES", (tmp_path / "none", tmp_path))
    home = Home(ODD.home)
    assert not systemd.serves(home)
    booted.mkdir()
    assert not systemd.serves(home)
    write(tmp_path, ODD)
    assert systemd.serves(home)
    assert not systemd.serves(Home(DEFAULT.home))
    assert not systemd.holds(RunDir(tmp_path / "x"), 1)
