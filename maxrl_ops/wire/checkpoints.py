"""What lies in checkpoints/: which are complete, and which of them is the best."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, RunDir, open_regular


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint after `iteration`.

    Attributes:
        path: Its directory.
        pass_at_1: Of the held-out evaluation at that iteration, 0 to 1; None without one.
        identity: What makes the run another one where it differs: task, reward, seed.
        seconds: How long saving took; None where nobody measured.
    """

    iteration: int
    path: Path
    pass_at_1: float | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def model(self) -> Path:
        """A Hugging Face directory: `from_pretrained` loads it."""
        return self.path / "model"


def marker(checkpoint: Checkpoint, files: Mapping[str, int]) -> bytes:
    """The content of the file that makes a checkpoint complete; `files` gives sizes in bytes."""
    document = {
        "iteration": checkpoint.iteration,
        "files": dict(files),
        "pass_at_1": checkpoint.pass_at_1,
        "identity": dict(checkpoint.identity),
        "seconds": checkpoint.seconds,
    }
    return json.dumps(document, indent=1).encode()


def complete(run: RunDir) -> list[Checkpoint]:
    """The complete ones, oldest first; a missing or truncated file makes one incomplete."""
    return sorted(_complete(run), key=lambda checkpoint: checkpoint.iteration)


def _complete(run: RunDir) -> Iterator[Checkpoint]:
    for path in run.checkpoints.glob("[0-9]*"):
        try:
            with open_regular(path / CHECKPOINT_MARKER) as file:
                # An empty marker is enough for a trainer of one's own.
                document = json.loads(file.read() or b"{}")
            files = document.get("files", {}).items()
            if all((path / name).stat().st_size == size for name, size in files):
                iteration = int(document.get("iteration", path.name))
                yield Checkpoint(
                    iteration,
                    path,
                    document.get("pass_at_1"),
                    dict(document.get("identity", {})),
                    document.get("seconds"),
                )
        except (OSError, ValueError, TypeError, AttributeError):
            continue


def skipped(run: RunDir) -> list[str]:
    """Names of those beyond the newest complete one, which a resume must do without."""
    found = newest(run)
    whole = 0 if found is None else found.iteration
    names = [path.name for path in run.checkpoints.glob("[0-9]*")]
    return sorted(name for name in names if name.isdigit() and int(name) > whole)


def newest(run: RunDir) -> Checkpoint | None:
    """The newest complete checkpoint."""
    return max(complete(run), key=lambda checkpoint: checkpoint.iteration, default=None)


def last_saved(run: RunDir) -> float | None:
    """When a checkpoint became complete last, in seconds since the epoch; None before the first."""
    times = []
    for path in run.checkpoints.glob(f"[0-9]*/{CHECKPOINT_MARKER}"):
        # The trainer removes old ones while we look.
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=None)


def best(run: RunDir) -> Checkpoint | None:
    """The complete checkpoint with the highest held-out pass@1, the older of equals."""
    evaluated = [each for each in complete(run) if each.pass_at_1 is not None]
    return max(evaluated, key=lambda checkpoint: checkpoint.pass_at_1 or 0.0, default=None)
