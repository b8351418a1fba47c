"""What a launcher of several processes (torchrun, accelerate, srun) tells each of them."""

from collections.abc import Mapping

_RANKS = ("RANK", "SLURM_PROCID")


def is_launched(env: Mapping[str, str]) -> bool:
    """This process is one of those that a launcher started."""
    return any(name in env for name in _RANKS)


def is_first_process(env: Mapping[str, str]) -> bool:
    """This process is the one that writes log and checkpoints, and reads control."""
    return next((env[name] == "0" for name in _RANKS if name in env), True)
