"""Several processes make the step that one makes on the same groups."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told() -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent.parent / "two_ranks.py"
    done = subprocess.run(
        [sys.executable, script, str(port)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_two_processes_have_the_gradient_of_one(told: Any) -> None:
    assert len(told) == 8
    for case, found in told.items():
        # From the second step on, rounding has moved the weights apart.
        bound = 1e-5 if "steps" in case else 1e-6
        for figure in ("gradient", "loss", "norm", "entropy", "kl"):
            assert found[figure] <= bound, (case, figure, found[figure])


def test_both_make_the_very_same_step(told: Any) -> None:
    assert all(found["alike"] for found in told.values())
