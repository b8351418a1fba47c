"""`python -m benchmarks.objectives`: does every objective train the Rust task above its start?

Each run is what `maxrl-ops start` makes of the shipped model and the task's own profile; nothing is
told but the objective, or the schedule. Two runs at a time, a thread each.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks import machine, rust_runs
from maxrl_ops.wire.settings import OBJECTIVE_NAMES

_RESULTS = Path(__file__).parent / "results"
_AT_ONCE = 2
_JOBS: Mapping[str, tuple[str, ...]] = {
    **{name: ("--objective", name) for name in OBJECTIVE_NAMES},
    "hybrid": ("--algorithm", "hybrid"),
    # The rule that hands over leaves a run alone that is about to end.
    "adaptive": ("--algorithm", "adaptive", "--iterations", "160"),
}


def main() -> None:
    """Train, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(_JOBS), choices=list(_JOBS))
    given = parser.parse_args()
    jobs = {name: _JOBS[name] for name in given.only}
    text = "\n".join(
        [
            "# Every objective on the Rust task",
            "",
            f"{machine.describe()}; seed {given.seed}, one thread a run",
            "",
            *rust_runs.table(jobs, given.seed, _AT_ONCE),
            "",
        ]
    )
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "objectives.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
