"""What PyTorch is told by the environment, before it is imported."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from maxrl_ops.wire.user_paths import expanded

# Some microseconds. libgomp's own 300,000 turns are milliseconds, after each of the thousands of
# small kernels of a step: beside another run, most of a core went into waiting.
_TURNS = "2000"
_KERNELS = "TORCHINDUCTOR_CACHE_DIR"


def set_up(env: MutableMapping[str, str], run_dir: Path | None = None) -> None:
    """Let idle threads sleep soon, and keep compiled kernels at home; what is set already stays.

    Where nothing can be kept at home, they are in `run_dir`: PyTorch makes their directory as soon
    as it is imported, and dies where it cannot.
    """
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", _TURNS)
    if _KERNELS in env:
        return
    # By default they lie below /tmp under a name that anybody can guess and take.
    caches = Path(env.get("XDG_CACHE_HOME") or expanded("~/.cache")) / "maxrl-ops"
    for place in (caches, None if run_dir is None else run_dir / ".cache"):
        if place is not None and place.is_absolute() and _is_ours(place / "torchinductor"):
            env[_KERNELS] = str(place / "torchinductor")
            return


def _is_ours(directory: Path) -> bool:
    """Whether it is there, made where it was not, and can be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)
