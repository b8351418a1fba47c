"""What the autopilot decided in real runs, it decides again: scripts/record_golden_runs.py."""

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Answered, Decision, Judged
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.policy_table import policy_of
from maxrl_ops.event_json import decode, encode

GOLDEN = Path(__file__).parents[1] / "golden/runs"
RUNS = sorted(GOLDEN.glob("*.jsonl.gz"))


def test_there_are_runs_of_every_kind() -> None:
    decided = {}
    for path in RUNS:
        _, *events = gzip.decompress(path.read_bytes()).decode().splitlines()
        bodies = [json.loads(body) for kind, body in map(json.loads, events) if kind == "Decision"]
        decided[path.name.partition("-")[0]] = {body["rule"] for body in bodies}
    assert len(decided) >= 5
    assert decided["healthy"] == decided["hackable"] == set()
    assert decided["threshold"] == {"LOW"}
    assert decided["adaptive"] == {"ADAPT"}
    assert "COLLAPSE" in decided["rate"]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_run_is_decided_as_it_was(path: Path) -> None:
    """The events as the history has them; each decision byte for byte, and where it was made."""
    first, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    head = json.loads(first)
    policy, state = policy_of(head["policy"]), autopilot.State(mode=Mode(head["mode"]))
    made: list[Decision] = []
    said: list[Answered | Judged] = []
    for line in lines:
        kind, body = json.loads(line)
        if kind == "Decision":
            assert encode(made.pop(0)) == (kind, body)
            continue
        assert made == []
        state, outputs = autopilot.reduce(state, decode(kind, body), policy)
        made = [output for output in outputs if isinstance(output, Decision)]
        said += [output for output in outputs if isinstance(output, Answered | Judged)]
    assert made == []
    told = [[type(each).__name__, asdict(each)] for each in said]
    assert json.dumps(told) == json.dumps(head["said"])
