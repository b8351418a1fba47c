"""Where the tool keeps its things: the home, and the runs in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maxrl_ops.wire.rundir import RunDir, is_run_name
from maxrl_ops.wire.settings import HOME_ENV, SettingError
from maxrl_ops.wire.user_paths import expanded

# Shared by all users of a host, where an administrator has set it up.
_SYSTEM_HOME = Path("/var/lib/maxrl-ops")


@dataclass(frozen=True, slots=True)
class Home:
    """The directory that holds a host's or a user's runs."""

    path: Path

    @classmethod
    def find(cls, env: Mapping[str, str]) -> "Home":
        """The home that `env` names, else the host's where it is readable, else the user's.

        Raises:
            SettingError: The user has none.
        """
        if named := env.get(HOME_ENV):
            return cls(Path(named).absolute())
        if _SYSTEM_HOME.is_dir() and os.access(_SYSTEM_HOME, os.R_OK | os.X_OK):
            return cls(_SYSTEM_HOME)
        return cls(_user_state(env) / "maxrl-ops")

    @property
    def runs_dir(self) -> Path:
        """runs/: one directory a run."""
        return self.path / "runs"

    @property
    def history(self) -> Path:
        """history.db: what the daemon has seen and decided."""
        return self.path / "history.db"

    @property
    def daemon_lock(self) -> Path:
        """daemon.lock: held by the one daemon."""
        return self.path / "daemon.lock"

    @property
    def daemon_file(self) -> Path:
        """daemon.json: who it is, and where its metrics are."""
        return self.path / "daemon.json"

    @property
    def daemon_log(self) -> Path:
        """daemon.log: its own words, where nobody else keeps them."""
        return self.path / "daemon.log"

    @property
    def policy(self) -> Path:
        """policy.toml: what changes of the built-in policy here; optional."""
        return self.path / "policy.toml"

    @property
    def frozen(self) -> Path:
        """frozen.json: while it is there, nobody's autopilot changes anything."""
        return self.path / "frozen.json"

    @property
    def sweeps_dir(self) -> Path:
        """sweeps/: NAME.json for each, what it was asked for."""
        return self.path / "sweeps"

    def sweep(self, name: str) -> Path:
        """What the sweep of that name was asked for, whether or not there is one."""
        return self.sweeps_dir / f"{name}.json"

    def run(self, name: str) -> RunDir:
        """The run of that name, whether or not there is one."""
        return RunDir(self.runs_dir / name)

    def runs(self) -> list[RunDir]:
        """Every run directory, by name; also one without run.json, to be shown as damaged."""
        try:
            with os.scandir(self.runs_dir) as entries:
                names = sorted(entry.name for entry in entries if _may_be_run(entry))
        except FileNotFoundError:
            return []
        return [self.run(name) for name in names]


def _may_be_run(entry: "os.DirEntry[str]") -> bool:
    return is_run_name(entry.name) and entry.is_dir()


def _user_state(env: Mapping[str, str]) -> Path:
    """The XDG state directory; a relative one does not count, says its specification."""
    given = Path(env.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given
    home = Path(env["HOME"]) if env.get("HOME") else expanded("~")
    if not home.is_absolute():
        raise SettingError(f"there is no home directory to keep runs in: set {HOME_ENV}")
    return home / ".local" / "state"
