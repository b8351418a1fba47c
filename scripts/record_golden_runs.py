"""`python scripts/record_golden_runs.py COPY...`: keep what the autopilot decided in real runs.

A COPY is what `python -m benchmarks.real_runs --keep DIRECTORY` leaves of a run. Its history's
events, the policy and what the autopilot said go to tests/golden/runs, where a test holds the
reducer against them. Record anew only when a rule is meant to decide otherwise, and say why.
"""

import argparse
import gzip
import json
from dataclasses import asdict
from pathlib import Path

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Answered, Decision, Judged
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.policy_table import table_of
from maxrl_ops.event_json import encode
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir

_GOLDEN = Path(__file__).parents[1] / "tests/golden/runs"


def record(copy: Path) -> Path:
    """Keep one run."""
    spec, policy = RunSpec.load(RunDir(copy / "run")), Policy()
    store = Store(copy / "history.db")
    events = list(store.events(store.run(spec.name, spec.created, spec.job_name)))
    store.close()
    state = autopilot.State(mode=Mode(spec.mode))
    said = []
    for event in events:
        # Those that it makes itself are among the events.
        if not isinstance(event, Decision):
            state, outputs = autopilot.reduce(state, event, policy)
            said += [o for o in outputs if isinstance(o, Answered | Judged)]
    head = {
        "mode": spec.mode,
        "policy": table_of(policy),
        "said": [[type(each).__name__, asdict(each)] for each in said],
    }
    lines = [json.dumps(head), *(json.dumps(encode(event)) for event in events)]
    _GOLDEN.mkdir(exist_ok=True)
    path = _GOLDEN / f"{copy.name}.jsonl.gz"
    # No time of day: what is recorded twice is the same file.
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    return path


def main() -> None:
    """Keep each run given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("copies", nargs="+", type=Path)
    for copy in parser.parse_args().copies:
        print(record(copy))


if __name__ == "__main__":
    main()
