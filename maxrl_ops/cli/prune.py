"""`prune`: remove runs that have long been over, and checkpoints that nobody goes back to."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from maxrl_ops import locks
from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, is_watched, named
from maxrl_ops.core.since import SinceError, age_of
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, RunDir

# Not a run's name: the daemon looks past it. One that a killed prune left is removed by the next.
_ASIDE = ".pruned-"


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to go.

    Attributes:
        run: The run's name.
        checkpoint: The iteration of its checkpoint; None for the whole run.
        path: The directory.
        bytes: What that frees.
        age_seconds: Since when nobody has written to the run.
    """

    run: str
    checkpoint: int | None
    path: str
    bytes: int
    age_seconds: int


def prune(
    run_names: Sequence[str],
    runs_older_than: str,
    checkpoints_older_than: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Remove what is older than that, of these runs or of all; nothing of a run that is active."""
    ages = (
        _seconds(runs_older_than, "--runs-older-than"),
        _seconds(checkpoints_older_than, "--checkpoints-older-than"),
    )
    runs = [named(name) for name in run_names] or home().runs()
    done: list[Removal] = []
    with supervising.as_owner(home()):
        if not dry_run:
            _clear_leftovers(home().runs_dir)
        for run in runs:
            with _alone_with(run, dry_run=dry_run) as is_ours:
                for removal in _removals(run, *ages) if is_ours else ():
                    if not dry_run:
                        _remove(run, removal)
                    done.append(removal)
    if as_json:
        sys.stdout.write(json.dumps([asdict(removal) for removal in done], indent=1) + "\n")
    else:
        _print(done, dry_run=dry_run)
    return ExitCode.OK


def _seconds(text: str, option: str) -> float:
    try:
        return age_of(text, option).total_seconds()
    except SinceError as error:
        raise CommandError(str(error)) from None


@contextmanager
def _alone_with(run: RunDir, *, dry_run: bool) -> Iterator[bool]:
    """Whether nobody trains or looks after the run, and for so long that nobody can begin to."""
    with ExitStack() as held:
        is_ours = not is_watched(run)
        for path in (run.supervisor_lock, run.lock):
            # A dry run writes nothing: without the file nobody has ever held the lock.
            if not is_ours or (dry_run and not path.exists()):
                continue
            try:
                held.callback(os.close, locks.acquire(path))
            except locks.LockHeldError:
                is_ours = False
        yield is_ours


def _removals(run: RunDir, run_age: float, checkpoint_age: float) -> list[Removal]:
    age = time.time() - _last_written(run)
    if age >= run_age:
        return [Removal(run.name, None, str(run.path), _size(run.path), int(age))]
    if age < checkpoint_age:
        return []
    kept = (checkpoints.best(run), checkpoints.newest(run))
    return [
        Removal(run.name, each.iteration, str(each.path), _size(each.path), int(age))
        for each in checkpoints.complete(run)
        if each not in kept
    ]


def _last_written(run: RunDir) -> float:
    """When anybody has written to it, in seconds since the epoch."""
    times = []
    for path in (run.spec, run.state, run.log, run.samples, run.detached, run.heartbeat):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    if not times:
        # What never came to be a run. Of any other, to take the lock may be to write.
        return run.path.stat().st_mtime
    return max([*times, checkpoints.last_saved(run) or 0.0])


def _size(path: Path) -> int:
    """Bytes of the files in a directory; links are not followed."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += Path(directory, name).lstat().st_size
    return total


def _remove(run: RunDir, removal: Removal) -> None:
    """Out of everybody's sight first: nobody must take half of it for the whole."""
    path = Path(removal.path)
    if removal.checkpoint is not None:
        (path / CHECKPOINT_MARKER).unlink()
        shutil.rmtree(path)
        return
    aside = run.path.with_name(f"{_ASIDE}{run.name}")
    run.path.rename(aside)
    shutil.rmtree(aside)


def _clear_leftovers(runs_dir: Path) -> None:
    for leftover in runs_dir.glob(f"{_ASIDE}*"):
        shutil.rmtree(leftover)


def _print(done: Sequence[Removal], *, dry_run: bool) -> None:
    would = "would remove" if dry_run else "removed"
    for each in done:
        what = "run" if each.checkpoint is None else f"checkpoint {each.checkpoint} of"
        age = f"untouched for {each.age_seconds / 86_400:.0f} days"
        sys.stdout.write(f"{would} {what} {each.run}: {each.bytes / 2**20:.1f} MiB, {age}\n")
    total = sum(each.bytes for each in done) / 2**20
    sys.stdout.write(f"{total:.1f} MiB in all.\n" if done else "There is nothing to remove.\n")
