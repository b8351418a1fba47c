"""A host whose runs are units: which homes these serve, and how they are started.

A supervisor that a run's unit holds is systemd's to start again, and nobody else's: one in the
daemon's cgroup would end with the daemon.
"""

import os
import subprocess
from pathlib import Path

from maxrl_ops.settings import Home
from maxrl_ops.systemd_files import DAEMON_UNIT, RUN_UNIT, home_line
from maxrl_ops.wire.rundir import RunDir

# Where an administrator, a site and a distribution put units; the first that there is counts.
_UNIT_DIRECTORIES = tuple(
    Path(path)
    for path in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
    )
)
_BOOTED = Path("/run/systemd/system")
# Longer than a unit's TimeoutStartSec=.
_START_SECONDS = 90.0


class UnitError(Exception):
    """systemd did not start a unit; the message is one line."""


def serves(home: Home) -> bool:
    """Whether systemd runs this host, and units for this home are installed."""
    # As sd_booted(3) asks.
    if not _BOOTED.is_dir():
        return False
    for directory in _UNIT_DIRECTORIES:
        try:
            lines = (directory / RUN_UNIT.format("")).read_text("utf-8").splitlines()
        except OSError:
            continue
        return home_line(home.path) in lines
    return False


def holds(run: RunDir, pid: int) -> bool:
    """Whether the process is within the run's unit."""
    try:
        cgroups = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace")
    except OSError:
        return False
    return any(RUN_UNIT.format(run.name) in line.split("/") for line in cgroups.splitlines())


def start_run(run: RunDir) -> None:
    """Start the run's unit, and wait until its supervisor is up.

    Raises:
        UnitError: It did not come up, or we may not.
    """
    _ask("start", RUN_UNIT.format(run.name))


def enable_run(run: RunDir) -> None:
    """Have the run's unit started at each boot.

    Raises:
        UnitError: We may not.
    """
    _ask("enable", RUN_UNIT.format(run.name))


def start_daemon() -> None:
    """Start the daemon's unit, and wait until it is up.

    Raises:
        UnitError: It did not come up, or we may not.
    """
    _ask("start", DAEMON_UNIT)


def _ask(verb: str, unit: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", "--no-ask-password", verb, unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnitError(f"systemctl {verb} {unit}: {error}") from None
    if done.returncode == 0:
        return
    if os.geteuid() != 0 and "uthenti" in done.stderr:
        raise UnitError(f"it takes root: sudo systemctl {verb} {unit}")
    if verb != "start":
        raise UnitError(f"systemctl {verb} {unit}: {done.stderr.strip() or 'failed'}")
    raise UnitError(f"{unit} did not come up: see journalctl -u {unit}")
