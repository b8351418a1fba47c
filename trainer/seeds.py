"""Randomness: every draw comes from a seed derived from the run's seed and its position."""

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
