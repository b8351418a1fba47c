"""Checkpoints: complete or not there.

A checkpoint is written aside, fsynced, given a marker that lists its files and their sizes, and
renamed. Nothing random is stored: every draw of iteration N comes from a seed derived from (run
seed, N), so iteration and weights are the whole position in the data.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from maxrl_ops.wire.rundir import (
    CHECKPOINT_MARKER,
    DIRECTORY_MODE,
    RunDir,
    fsync_directory,
    write_all,
)
from trainer.policy import Policy

_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint after `iteration`."""

    iteration: int
    path: Path

    @property
    def model(self) -> Path:
        """A Hugging Face directory: `from_pretrained` loads it."""
        return self.path / "model"


def save(
    run: RunDir,
    iteration: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    kept: Collection[int] = (),
) -> Checkpoint:
    """Write the checkpoint after `iteration`, and drop all but the newest few and those `kept`.

    Raises:
        OSError: It could not be written; what was there before still is.
    """
    final = run.checkpoints / f"{iteration:06d}"
    aside = run.checkpoints / f".{final.name}.{os.getpid()}"
    try:
        aside.mkdir(mode=DIRECTORY_MODE, parents=True)
        _write_by_libraries(aside, policy, optimizer)
        sizes = {str(path.relative_to(aside)): _flush(path) for path in _files(aside)}
        marker = {"iteration": iteration, "files": sizes}
        write_all(aside / CHECKPOINT_MARKER, json.dumps(marker, indent=1).encode())
        fsync_directory(aside)
        if not final.exists():
            aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    fsync_directory(run.checkpoints)
    _prune(run, kept)
    return Checkpoint(iteration, final)


def _write_by_libraries(directory: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    try:
        policy.model.save_pretrained(directory / "model")
        policy.tokenizer.save_pretrained(directory / "model")
        torch.save(optimizer.state_dict(), directory / "optimizer.pt")
    except Exception as error:
        # safetensors and torch each have a kind of their own for a full disk.
        raise OSError(" ".join(str(error).split())) from error


def restore_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's state as it was when `checkpoint` was saved."""
    state = torch.load(checkpoint.path / "optimizer.pt", weights_only=True)
    optimizer.load_state_dict(state)


def newest(run: RunDir) -> Checkpoint | None:
    """The newest complete checkpoint; one with a missing or truncated file does not count."""
    for path in sorted(run.checkpoints.glob("[0-9]*"), reverse=True):
        iteration = _iteration_if_complete(path)
        if iteration is not None:
            return Checkpoint(iteration, path)
    return None


def _iteration_if_complete(path: Path) -> int | None:
    try:
        marker = json.loads((path / CHECKPOINT_MARKER).read_bytes())
        whole = all((path / name).stat().st_size == size for name, size in marker["files"].items())
        return int(marker["iteration"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _flush(path: Path) -> int:
    """Bring a file that a library wrote to the disk; its size in bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _prune(run: RunDir, kept: Collection[int]) -> None:
    complete = [
        p for p in sorted(run.checkpoints.glob("[0-9]*")) if (p / CHECKPOINT_MARKER).exists()
    ]
    for path in complete[:-_KEPT]:
        if int(path.name) in kept:
            continue
        # The marker goes first: a half-deleted checkpoint must not look complete.
        (path / CHECKPOINT_MARKER).unlink()
        shutil.rmtree(path, ignore_errors=True)
    for leftover in run.checkpoints.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
