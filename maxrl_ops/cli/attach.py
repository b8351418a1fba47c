"""`attach` and `detach`: look at a log that somebody else's trainer writes, and no more."""

import stat
import sys
from pathlib import Path

from maxrl_ops import daemon_process
from maxrl_ops.attached import log_of
from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import attached_log, home, named, told_by
from maxrl_ops.cli.new_run import check_job, check_name, create_attached
from maxrl_ops.continued_reader import ContinuedReader
from maxrl_ops.core.printable import one_line
from maxrl_ops.dialects import load, names
from maxrl_ops.log_files import look
from maxrl_ops.run_reader import life_of
from maxrl_ops.wire.documents import Detached, RunSpec, utc_now
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import nearest
from maxrl_ops.wire.user_paths import expanded


def attach(log: str, dialect: str | None, name: str | None, job: str | None) -> int:
    """Adopt `log` as a run that is only looked at."""
    if name is not None:
        check_name(name)
    job = check_job(job)
    if dialect is not None:
        _check_dialect(dialect)
    path = _readable(log)
    if (other := told_by(path)) is not None:
        how = "attached already, as" if attached_log(other) else "looked at already, as the log of"
        raise CommandError(f"{path} is {how} {other.name}", ExitCode.IN_USE)
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
    newest = look(log_of(run, spec))
    end = (newest.inode, newest.size) if newest is not None else (0, 0)
    with supervising.as_owner(home()):
        Detached(utc_now(), *end).save(run)
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
    path = expanded(log).absolute()
    try:
        # As who will read it: the daemon of a service is somebody else.
        with supervising.as_owner(home()):
            if not path.parent.is_dir():
                raise CommandError(
                    f"--log={log}: there is no directory {path.parent}", ExitCode.NOT_FOUND
                )
            if path.exists():
                _check_file(log, path)
    except PermissionError as error:
        raise CommandError(
            f"--log={log}: {error.filename} may not be read by the user whose daemon would"
        ) from None
    return path


def _check_file(log: str, path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise CommandError(f"--log={log} is {kind}: give the file that the trainer writes")
    with path.open("rb"):
        # Whether it can be read is known by that alone.
        pass


def _format(run: RunDir, path: Path) -> str:
    if not path.exists():
        return "it is not there yet, and waited for"
    reader = ContinuedReader(run, RunSpec.load(run))
    reader.read()
    if reader.dialect is None:
        return "nothing in it tells its format yet (--dialect says it)"
    count = len(reader.history.iterations)
    return f"dialect {reader.dialect}, {count or 'no'} iteration{'' if count == 1 else 's'} so far"
