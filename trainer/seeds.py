"""What makes a run repeatable: seeds derived from its seed and the position, and fixed sums."""

import hashlib
import random

import torch


def derive_seed(seed: int, iteration: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose of one iteration."""
    digest = hashlib.sha256(f"{seed}/{iteration}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(seed: int, iteration: int, purpose: str) -> None:
    """Seed PyTorch (every device) and `random`, which a task's own reward may use."""
    derived = derive_seed(seed, iteration, purpose)
    torch.manual_seed(derived)
    random.seed(derived)


def repeat_exactly(device: torch.device) -> None:
    """Have the same work give the same bits on a CPU, however its threads are scheduled.

    Without it the gradient of indexing is summed by whichever thread comes first. On a GPU it would
    refuse, or slow down, what is needed; there a resumed run is close, not equal.
    """
    if device.type != "cpu":
        return
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # It would also write into all memory that is about to be written anyway.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
