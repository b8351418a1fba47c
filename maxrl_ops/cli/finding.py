"""Which run a command means."""

import os
from collections.abc import Iterable

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.journal import JournalReader
from maxrl_ops.run_reader import life_of
from maxrl_ops.settings import Home
from maxrl_ops.wire.rundir import DocumentError, RunDir, is_run_name
from maxrl_ops.wire.settings import nearest


def home() -> Home:
    """The home that the environment names."""
    return Home.find(os.environ)


def journal() -> JournalReader:
    """The journal of that home."""
    return JournalReader(home().history)


def named(name: str) -> RunDir:
    """The run of that name.

    Raises:
        CommandError: There is none; the message names the nearest.
    """
    if is_run_name(name) and (run := home().run(name)).path.is_dir():
        return run
    known = [run.name for run in home().runs()]
    raise CommandError(
        f"there is no run {name!r}{nearest(name, known)}; maxrl-ops status lists them",
        ExitCode.NOT_FOUND,
    )


def active() -> list[RunDir]:
    """The runs that somebody still trains or watches over."""
    return [run for run in home().runs() if is_active(run)]


def is_active(run: RunDir) -> bool:
    """Whether somebody trains it or watches over it; nobody does where state.json is damaged."""
    try:
        return life_of(run).is_active
    except (DocumentError, OSError):
        return False


def meant(name: str | None) -> RunDir:
    """The run called `name`; without a name the only active run, else the newest.

    Raises:
        CommandError: There is no such run, or several are active.
    """
    if name is not None:
        return named(name)
    candidates = active()
    if len(candidates) > 1:
        raise CommandError(f"which run? {names(candidates)} are active")
    if candidates:
        return candidates[0]
    everything = home().runs()
    if not everything:
        raise CommandError("there is no run yet: maxrl-ops start makes one", ExitCode.NOT_FOUND)
    return max(everything, key=_modified)


def _modified(run: RunDir) -> float:
    try:
        return run.spec.stat().st_mtime
    except OSError:
        return 0.0


def names(runs: Iterable[RunDir]) -> str:
    """Their names, for a message."""
    return ", ".join(sorted(run.name for run in runs))
