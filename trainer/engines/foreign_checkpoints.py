"""Checkpoints that a library keeps in a directory of its own, as ours: by a link and a marker."""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from maxrl_ops.wire.checkpoints import Checkpoint, best, complete, marker
from maxrl_ops.wire.record import CheckpointSaved
from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, DIRECTORY_MODE, RunDir, write_all

_KEPT = 2


def announce(
    run: RunDir,
    iteration: int,
    saved: Path,
    pass_at_1: float | None = None,
    identity: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> CheckpointSaved:
    """Make `saved`, which is complete, the run's checkpoint after `iteration`."""
    final = run.checkpoints / f"{iteration:06d}"
    aside = run.checkpoints / f".{final.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=DIRECTORY_MODE, parents=True)
    (aside / "model").symlink_to(saved)
    # Once the library has removed it, a size is missing, and this one is incomplete.
    files = [path for path in saved.iterdir() if path.is_file()]
    sizes = {f"model/{path.name}": path.stat().st_size for path in files}
    found = Checkpoint(iteration, final, pass_at_1, identity or {}, seconds)
    write_all(aside / CHECKPOINT_MARKER, marker(found, sizes))
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    return CheckpointSaved(iteration, seconds)


def forget_gone(run: RunDir) -> None:
    """Drop those whose library has removed them."""
    whole = {checkpoint.path for checkpoint in complete(run)}
    for path in run.checkpoints.glob("[0-9]*"):
        if path not in whole and (path / "model").is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def prune(run: RunDir, kept: Collection[int] = ()) -> None:
    """Drop all but the newest few, the best, and `kept`, the library's files first."""
    best_one = best(run)
    for checkpoint in complete(run)[:-_KEPT]:
        if checkpoint.iteration not in kept and checkpoint != best_one:
            shutil.rmtree(checkpoint.model.resolve(), ignore_errors=True)
    forget_gone(run)
