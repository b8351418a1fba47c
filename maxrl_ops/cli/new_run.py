"""Makes a run: a free name, its directory, its run.json."""

import errno
import re
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.provenance import provenance
from maxrl_ops.core import secret_words
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.printable import one_line
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec, utc_now
from maxrl_ops.wire.rundir import DIRECTORY_MODE, RunDir, is_run_name, make_directories
from maxrl_ops.wire.settings import HOME_ENV, Value
from maxrl_ops.wire.task_spec import TaskSpec

# The shipped model's checkpoints take 21 MB, its log and samples some more.
_LEAST_FREE = 32 << 20
_INTERPRETERS = re.compile(r"(python|pypy|bash|sh|uv|env|torchrun)[\d.]*")


def create(
    home: Home,
    settings: Mapping[str, Value],
    command: tuple[str, ...],
    name: str | None,
    job: str | None,
    mode: str = Mode.ACT.value,
    **wishes: Any,
) -> RunDir:
    """Make the run's directory, its name taken atomically, and write run.json.

    `wishes` are fields of RunSpec that have a default.

    Raises:
        CommandError: The name cannot be one, or is in use.
        OSError: The home cannot be written.
    """
    prefix = _prefix(settings, command)
    # Before we are somebody else, who may see neither this directory nor our Python.
    origin = provenance()
    with supervising.as_owner(home):
        make_directories(home.runs_dir)
        _check_space(home.runs_dir)
        run = _claim_next(home, prefix) if name is None else _claim(home, name)
        spec = RunSpec(
            name=run.name,
            job_name=job if job is not None else prefix,
            settings=settings,
            command=command,
            created=utc_now(),
            provenance=origin,
            mode=mode,
            **wishes,
        )
        try:
            run.control.mkdir(mode=DIRECTORY_MODE)
            spec.save(run)
        except OSError:
            # A run without run.json would be shown as damaged for ever.
            shutil.rmtree(run.path, ignore_errors=True)
            raise
    return run


def create_attached(
    home: Home, log: Path, dialect: str | None, name: str | None, job: str | None
) -> RunDir:
    """Make the run that stands for a log which somebody else's trainer writes.

    Raises:
        CommandError: The name is in use.
        OSError: The home cannot be written.
    """
    prefix = _plain(log.stem) or "log"
    origin = provenance()
    with supervising.as_owner(home):
        make_directories(home.runs_dir)
        run = _claim_next(home, prefix) if name is None else _claim(home, name)
        spec = RunSpec(
            name=run.name,
            job_name=job if job is not None else prefix,
            settings={},
            command=(),
            created=utc_now(),
            provenance=origin,
            mode=Mode.OBSERVE.value,
            log=str(log),
            dialect=dialect,
        )
        try:
            spec.save(run)
        except OSError:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
    return run


def _check_space(directory: Path) -> None:
    """A run that dies of a full disk in its first minute is better not begun."""
    free = shutil.disk_usage(directory).free
    if free < _LEAST_FREE:
        why = f"{free >> 20} MiB are free, a run needs {_LEAST_FREE >> 20}"
        raise OSError(errno.ENOSPC, f"{why}: make space, or set {HOME_ENV}", str(directory))


def check_job(given: str | None) -> str | None:
    """A job's name, as it was given.

    Raises:
        CommandError: It cannot be one.
    """
    if given is not None and not (one_line(given) == given and 1 <= len(given) <= 200):
        raise CommandError(f"--job={given!r} is not allowed: give up to 200 plain characters")
    return given


def check_name(name: str) -> None:
    """Refuse what cannot be a run's name.

    Raises:
        CommandError: It cannot.
    """
    if not is_run_name(name):
        raise CommandError(
            f"--name={name!r} is not allowed: give 1 to 64 letters, digits, dots, dashes and "
            f"underscores, a letter or a digit first"
        )


def check_no_secret(command: tuple[str, ...]) -> None:
    """Refuse a command that tells a secret: its arguments stand in run.json, and in ps(1).

    Raises:
        CommandError: One looks like it.
    """
    told = secret_words.first_in(command)
    if told is not None:
        raise CommandError(
            f"{told} looks like a secret, and a run's command is kept in its run.json: give it by "
            f"the environment instead"
        )


def _claim(home: Home, name: str) -> RunDir:
    run = home.run(name)
    try:
        run.path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        raise CommandError(
            f"--name={name!r} is in use: {run.path} exists", ExitCode.IN_USE
        ) from None
    return run


def _claim_next(home: Home, prefix: str) -> RunDir:
    """`rust-3` where rust-2 is the highest there is; mkdir decides between two who ask at once."""
    pattern = re.compile(rf"{re.escape(prefix)}-(\d{{1,9}})")
    taken = [int(m[1]) for run in home.runs() if (m := pattern.fullmatch(run.name))]
    for number in count(max(taken, default=0) + 1):
        run = home.run(f"{prefix}-{number}")
        try:
            run.path.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            continue
        return run
    raise AssertionError("unreachable: count() has no end")


def _prefix(settings: Mapping[str, Value], command: tuple[str, ...]) -> str:
    """The name of the task, its file or its module; or of the program or script somebody runs."""
    if not command:
        return TaskSpec.parse(str(settings.get("task", "rust"))).stem
    stems = [Path(word).stem for word in command if not word.startswith("-")]
    telling = [stem for stem in stems if stem and not _INTERPRETERS.fullmatch(stem)]
    return _plain((telling or ["run"])[0]) or "run"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-_")[:40]
