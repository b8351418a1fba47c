"""`python -m benchmarks.engines`: does the Rust task learn whichever engine trains it?

The same run of MaxRL, of the shipped model and the task's own profile, by our own loop in one
process and in two (torchrun), and by TRL's GRPOTrainer in one. One after the other, a thread a
process.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import machine, rust_runs

_RESULTS = Path(__file__).parent / "results"
_TORCHRUN = f"{Path(sys.executable).parent / 'torchrun'} --standalone --nproc-per-node 2"
_JOBS = {
    "native": (),
    "native-in-two": ("--launch", _TORCHRUN),
    "trl": ("--engine", "trl"),
}


def main() -> None:
    """Train, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(_JOBS), choices=list(_JOBS))
    given = parser.parse_args()
    jobs = {name: ("--use-maxrl", *_JOBS[name]) for name in given.only}
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "trl")]
    text = "\n".join(
        [
            "# The Rust task by each engine",
            "",
            f"{machine.describe(versions)}; seed {given.seed}",
            "",
            *rust_runs.table(jobs, given.seed, 1),
            "",
        ]
    )
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "engines.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
