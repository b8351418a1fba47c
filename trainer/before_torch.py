"""What PyTorch is told by the environment, before it is imported."""

from collections.abc import MutableMapping
from pathlib import Path

from maxrl_ops.wire.user_paths import expanded

# Some microseconds. libgomp's own 300,000 turns are milliseconds, after each of the thousands of
# small kernels of a step: beside another run, most of a core went into waiting.
_TURNS = "2000"


def set_up(env: MutableMapping[str, str]) -> None:
    """Let idle threads sleep soon, and keep compiled kernels at home; what is set already stays."""
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", _TURNS)
    # By default they lie below /tmp under a name that anybody can guess and take.
    cache = Path(env.get("XDG_CACHE_HOME") or expanded("~/.cache"))
    if cache.is_absolute():
        env.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "maxrl-ops" / "torchinductor"))
