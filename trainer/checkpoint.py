"""Checkpoints: complete or not there.

A checkpoint is written aside, fsynced, given a marker that lists its files and their sizes, and
renamed. Nothing random is stored: every draw of iteration N comes from a seed derived from (run
seed, N), so iteration and weights (and, where they are used, what is known of the prompts'
difficulty and their correct completions) are the whole position in the data.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from maxrl_ops.wire.checkpoints import Checkpoint, best, complete, marker, newest
from maxrl_ops.wire.rundir import (
    CHECKPOINT_MARKER,
    DIRECTORY_MODE,
    RunDir,
    fsync_directory,
    write_all,
)
from trainer.errors import ExitCode, TrainerError
from trainer.policy import Policy

_KEPT = 2
# Of those that were set aside: each is as large as a model.
_KEPT_DAMAGED = 2
# Tokenizer, configuration, marker, and what is known of the prompts.
_SMALL_FILES = 12 << 20


def save(
    run: RunDir,
    iteration: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    pass_at_1: float | None = None,
    kept: Collection[int] = (),
    known: Mapping[str, Any] | None = None,
    identity: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Write the checkpoint after `iteration`; drop all but the newest few, the best, and `kept`.

    `pass_at_1` is that of the held-out evaluation at this iteration, if there was one; `known` is
    what the run knows of the prompts, JSON by name; `identity` is what a run that resumes from here
    must have in common with this one.

    Raises:
        OSError: It could not be written; what was there before still is.
    """
    began = time.monotonic()
    final = run.checkpoints / f"{iteration:06d}"
    aside = run.checkpoints / f".{final.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)  # a killed one's, of the same process id
    _check_space(run, policy)
    try:
        aside.mkdir(mode=DIRECTORY_MODE, parents=True)
        _write_by_libraries(aside, policy, optimizer)
        for name, raw in (known or {}).items():
            write_all(aside / f"{name}.json", json.dumps(raw).encode())
        sizes = {str(path.relative_to(aside)): _flush(path) for path in _files(aside)}
        seconds = time.monotonic() - began
        saved = Checkpoint(iteration, final, pass_at_1, identity or {}, seconds)
        write_all(aside / CHECKPOINT_MARKER, marker(saved, sizes))
        fsync_directory(aside)
        if all(other.path != final for other in complete(run)):
            # What lies there is of no use to anybody: half of a checkpoint.
            shutil.rmtree(final, ignore_errors=True)
            aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    fsync_directory(run.checkpoints)
    _prune(run, kept)
    return saved


def _write_by_libraries(directory: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    try:
        policy.model.save_pretrained(directory / "model")
        policy.tokenizer.save_pretrained(directory / "model")
        torch.save(optimizer.state_dict(), directory / "optimizer.pt")
    except Exception as error:
        # safetensors and torch each have a kind of their own for a full disk.
        raise OSError(" ".join(str(error).split())) from error


def restore_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's state as it was when `checkpoint` was saved, on whatever device.

    Raises:
        TrainerError: It cannot be read, or is another model's.
    """
    path = checkpoint.path / "optimizer.pt"
    kernels = [group.get("fused") for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        # torch, zipfile and pickle each raise kinds of their own for a bad file.
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise TrainerError(
            f"{path} cannot be loaded: {detail}; remove {checkpoint.path} to resume from the one "
            f"before",
            ExitCode.CRASHED,
        ) from error
    for group, fused in zip(optimizer.param_groups, kernels, strict=True):
        # Of the device that it was saved on.
        group["fused"] = fused


def set_aside_damaged(run: RunDir) -> list[str]:
    """Rename newest checkpoints that cannot be read, so that a run resumes from the one before.

    As after a power failure, when a file has its size and not its content. What is damaged within
    the numbers of a tensor nobody can tell. Gives the names that they had. The two that were set
    aside last are kept.
    """
    found = []
    while (last := newest(run)) is not None and not _is_readable(last):
        aside = last.path.with_name(f"damaged-{last.path.name}")
        # One of that iteration may have been damaged before.
        shutil.rmtree(aside, ignore_errors=True)
        last.path.rename(aside)
        # By when it was set aside: what a rename leaves alone is when it was written.
        os.utime(aside)
        found.append(last.path.name)
    if found:
        earlier = sorted(run.checkpoints.glob("damaged-*"), key=lambda path: path.stat().st_mtime)
        for path in earlier[:-_KEPT_DAMAGED]:
            shutil.rmtree(path, ignore_errors=True)
    return found


def _is_readable(checkpoint: Checkpoint) -> bool:
    try:
        for path in checkpoint.model.glob("*.safetensors"):
            with safe_open(path, "pt") as tensors:
                tensors.keys()
        # Mapped, so that no more than its directory is read.
        torch.load(checkpoint.path / "optimizer.pt", "cpu", weights_only=True, mmap=True)
    except (OSError, MemoryError):
        # Of the disk or the host, and perhaps gone by the next attempt: no damage.
        raise
    except Exception:  # noqa: BLE001 - safetensors, torch, zipfile and pickle each have their own
        return False
    return True


def known_by(checkpoint: Checkpoint | None, name: str) -> dict[str, Any]:
    """What was known of the prompts under this name; nothing, where nobody kept it."""
    if checkpoint is None:
        return {}
    try:
        return dict(json.loads((checkpoint.path / f"{name}.json").read_bytes()))
    except FileNotFoundError:
        return {}


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


def _check_space(run: RunDir, policy: Policy) -> None:
    """Refuse to fill the disk with a checkpoint that will not fit.

    Raises:
        OSError: Weights and the optimizer's two moments need more than there is.
    """
    weights = sum(p.numel() * p.element_size() for p in policy.model.parameters())
    needed = 3 * weights + _SMALL_FILES
    run.checkpoints.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    free = shutil.disk_usage(run.checkpoints).free
    if free < needed:
        why = f"it needs {needed >> 20} MiB, {free >> 20} are free"
        raise OSError(errno.ENOSPC, why, str(run.checkpoints))


def _prune(run: RunDir, kept: Collection[int]) -> None:
    best_one = best(run)
    for checkpoint in complete(run)[:-_KEPT]:
        if checkpoint.iteration not in kept and checkpoint != best_one:
            _drop(checkpoint)
    clear_leftovers(run)


def drop_beyond(run: RunDir, iteration: int) -> None:
    """Drop the checkpoints after `iteration`, so that a run resumes there."""
    for checkpoint in reversed(complete(run)):
        if checkpoint.iteration > iteration:
            _drop(checkpoint)


def _drop(checkpoint: Checkpoint) -> None:
    # The marker goes first: a half-deleted checkpoint must not look complete.
    (checkpoint.path / CHECKPOINT_MARKER).unlink()
    shutil.rmtree(checkpoint.path, ignore_errors=True)


def clear_leftovers(run: RunDir) -> None:
    """Drop what a killed trainer was about to save or to drop; only with the run's lock held."""
    for leftover in run.checkpoints.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
    last = newest(run)
    for path in run.checkpoints.glob("[0-9]*"):
        is_past = last is not None and path.name < last.path.name
        if is_past and not (path / CHECKPOINT_MARKER).exists():
            shutil.rmtree(path, ignore_errors=True)
