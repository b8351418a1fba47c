"""Which run a command means."""

import os
from collections.abc import Iterable
from pathlib import Path

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.journal import JournalReader
from maxrl_ops.run_reader import life_of
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec
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


def attached_log(run: RunDir) -> Path | None:
    """The log that an attached run stands for; None for any other, and for a damaged one."""
    try:
        spec = RunSpec.load(run)
    except (DocumentError, OSError):
        return None
    return Path(spec.log) if spec.log is not None else None


def is_watched(run: RunDir) -> bool:
    """Whether it is active, or an attached log that is still looked at."""
    if is_active(run):
        return True
    return not run.state.exists() and not run.detached.exists() and attached_log(run) is not None


def told_by(log: Path) -> RunDir | None:
    """The run that the log tells of already: one of ours, or one that it is attached as."""
    real = os.path.realpath(log)
    for run in home().runs():
        attached = attached_log(run)
        if os.path.realpath(attached or run.log) == real and (not attached or is_watched(run)):
            return run
    return None


def refuse_attached(run: RunDir) -> None:
    """Refuse what only a trainer of ours, or one we started, can do.

    Raises:
        CommandError: The run is attached.
    """
    if attached_log(run) is not None:
        raise CommandError(
            f"{run.name} is attached: it is only looked at; maxrl-ops detach {run.name} ends that"
        )


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
    candidates = [run for run in home().runs() if is_watched(run)]
    if len(candidates) > 1:
        raise CommandError(f"which run? {names(candidates)} are active; give one's NAME")
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
