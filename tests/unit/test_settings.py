"""The home: which directory it is, and which runs it holds."""

import os
import pwd
from pathlib import Path

import pytest

from maxrl_ops import settings
from maxrl_ops.settings import Home
from maxrl_ops.wire.settings import SettingError


@pytest.fixture(autouse=True)
def system_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /var/lib/maxrl-ops, not there yet."""
    path = tmp_path / "var"
    monkeypatch.setattr(settings, "_SYSTEM_HOME", path)
    return path


def test_the_named_home_goes_first(system_home: Path) -> None:
    system_home.mkdir()
    env = {"MAXRL_OPS_HOME": "/srv/rl", "XDG_STATE_HOME": "/state", "HOME": "/home/ada"}
    assert Home.find(env) == Home(Path("/srv/rl"))
    # Empty is not named.
    assert Home.find(env | {"MAXRL_OPS_HOME": ""}) == Home(system_home)
    # The supervisor and the daemon work in another directory.
    assert Home.find({"MAXRL_OPS_HOME": "here"}).path == Path.cwd() / "here"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SettingError, match="no home directory to keep runs in: set MAXRL_OPS_HOME"):
        Home.find({})
    assert Home.find({"XDG_STATE_HOME": "/state"}) == Home(Path("/state/maxrl-ops"))


def test_the_hosts_home_counts_where_it_can_be_read(
    system_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"HOME": "/home/ada"}
    users = Home(Path("/home/ada/.local/state/maxrl-ops"))
    assert Home.find(env) == users
    system_home.mkdir()
    assert Home.find(env) == Home(system_home)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert Home.find(env) == users


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/ada"}, "/state/maxrl-ops"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/ada"}, "/home/ada/.local/state/maxrl-ops"),
        ({"XDG_STATE_HOME": "no/root", "HOME": "/home/ada"}, "/home/ada/.local/state/maxrl-ops"),
        ({}, f"{Path.home()}/.local/state/maxrl-ops"),
    ],
)
def test_else_it_is_the_users(env: dict[str, str], path: str) -> None:
    assert Home.find(env).path == Path(path)


def test_runs_are_directories_by_name_the_damaged_too(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.runs() == []
    for name in ("rust-2", "adder", "damaged", ".aside"):
        home.run(name).path.mkdir(parents=True)
    (home.runs_dir / "notes.txt").write_text("not a run")
    for name in ("rust-2", "adder"):
        home.run(name).spec.write_text("{}")
    assert [run.name for run in home.runs()] == ["adder", "damaged", "rust-2"]
    assert home.runs()[0] == home.run("adder")
