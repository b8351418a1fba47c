"""`attach` and `detach`: look at a log that somebody else's trainer writes, and no more."""

import os
import stat
import sys
from pathlib import Path

from maxrl_ops import daemon_process
from maxrl_ops.attached import log_of
from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import attached_to, home, named
from maxrl_ops.cli.new_run import check_job, check_name, create_attached
from maxrl_ops.core.printable import one_line
from maxrl_ops.dialects import load, names
from maxrl_ops.run_reader import LogReader, life_of
from maxrl_ops.wire.documents import Detached, RunSpec, utc_now
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import nearest


def attach(log: str, dialect: str | None, name: str | None, job: str | None) -> int:
    """Adopt `log` as a run that is only looked at."""
    if name is not None:
        check_name(name)
    job = check_job(job)
    if dialect is not None:
        _check_dialect(dialect)
    path = _readable(log)
    if (other := attached_to(path)) is not None:
        raise CommandError(f"{path} is attached already, as {other.name}", ExitCode.IN_USE)
    run = create_attached(home(), path, dialect, name, job)
    daemon = daemon_process.ensure(home())
    sys.stdout.write(one_line(f"Attached {path} as {run.name}: {_format(run, path)}.") + "\n")
    sys.stdout.write(
        f"  watch      maxrl-ops status {run.name} --watch\n"
        f"  end        maxrl-ops detach {run.name}\n"
    )
    if daemon.problem is not None:
        sys.stderr.write(one_line(f"no daemon: {daemon.problem}") + "; nobody reads the log yet\n")
    elif daemon.running is not None:
        sys.stdout.write(f"  metrics    {daemon.running.metrics}\n")
    return ExitCode.OK


def detach(name: str) -> int:
    """Look at an attached log no more; what was read stays in the history."""
    run = named(name)
    spec = RunSpec.load(run)
    if not spec.is_attached:
        raise CommandError(f"{name} is a run of ours, not attached: maxrl-ops stop {name} ends it")
    if life_of(run).has_ended:
        sys.stdout.write(f"{name} is detached already.\n")
        return ExitCode.OK
    with supervising.as_owner(home()):
        Detached(utc_now()).save(run)
    sys.stdout.write(f"Detached {name}: {log_of(run, spec)} is not read any more.\n")
    return ExitCode.OK


def _check_dialect(dialect: str) -> None:
    known = names()
    if dialect not in known:
        raise CommandError(
            f"--dialect={dialect!r}: there is none{nearest(dialect, known)}; "
            f"give {' or '.join(known)}"
        )
    load(dialect)


def _readable(log: str) -> Path:
    """The log's absolute path; one that is not there yet is waited for.

    Raises:
        CommandError: It is no file that can be read, or its directory is not there.
    """
    path = Path(log).expanduser().absolute()
    if not path.parent.is_dir():
        raise CommandError(f"--log={log}: there is no directory {path.parent}", ExitCode.NOT_FOUND)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise CommandError(f"--log={log} is {kind}: give the file that the trainer writes")
    if not os.access(path, os.R_OK):
        raise CommandError(f"--log={log} cannot be read by this user")
    return path


def _format(run: RunDir, path: Path) -> str:
    if not path.exists():
        return "it is not there yet, and waited for"
    reader = LogReader(run, RunSpec.load(run))
    reader.read()
    if reader.dialect is None:
        return "nothing in it tells its format yet (--dialect says it)"
    count = len(reader.history.iterations)
    return f"dialect {reader.dialect}, {count or 'no'} iteration{'' if count == 1 else 's'} so far"
