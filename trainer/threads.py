"""How the threads of a small model's kernels wait for each other."""

from collections.abc import MutableMapping

# Some microseconds. libgomp's own 300,000 turns are milliseconds, after each of the thousands of
# small kernels of a step: beside another run, most of a core went into waiting.
_TURNS = "2000"


def wait_briefly(env: MutableMapping[str, str]) -> None:
    """Let idle threads sleep soon; before torch is imported, and where nobody said otherwise."""
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", _TURNS)
