"""A secret in the environment of `start` reaches the trainer, and nothing that anybody reads."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from maxrl_ops import daemon_file, daemon_process
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import RunDir

SECRET = "hf_x0Jq7secret"  # noqa: S105 - it must not be found anywhere
TRAINER = """
import os, sys, time
assert os.environ["HF_TOKEN"].endswith("secret")
print("RL Method: MaxRL\\nObjective: maxrl\\nTask: rust\\nIterations: 3\\nAttempt: 1\\n")
for n in (1, 2, 3):
    print(f"Iteration {n}/3\\n  Correctness: 12/16 (75.0%)\\n  Loss: 4.2\\n  [Good - on track]")
print("Run failed: as asked", flush=True)
sys.exit(2)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for name in [name for name in os.environ if name.startswith(("MAXRL_", "USE_MAXRL"))]:
        monkeypatch.delenv(name)
    home = Home(tmp_path / "home")
    monkeypatch.setenv("MAXRL_OPS_HOME", str(home.path))
    monkeypatch.setenv("MAXRL_OPS_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    yield home
    daemon_process.stop(home, 20)


def metrics(home: Home) -> str:
    found = daemon_file.running(home)
    assert found is not None
    with urllib.request.urlopen(found.metrics, timeout=10) as answer:  # noqa: S310 - the daemon's
        return str(answer.read().decode())


def test_a_secret_stands_in_no_file_and_no_metric(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    ours = [sys.executable, "-m", "maxrl_ops"]
    words = [*ours, "start", "--name", "one", "--", sys.executable, str(script)]
    started = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    run = RunDir(home.runs_dir / "one")
    wait_until(lambda: SupervisorState.load(run).state == "failed", 20, "a run that has failed")
    wait_until(lambda: 'iterations_total{algorithm="MaxRL"' in metrics(home), 20, "its series")
    shown = subprocess.run([*ours, "status", "--json"], capture_output=True, text=True, check=True)
    for text in (started.stdout, started.stderr, shown.stdout, metrics(home)):
        assert SECRET not in text
    # The trainer got it: else it would have failed with an AssertionError.
    assert "as asked" in shown.stdout
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert {"run.json", "history.db", "supervisor.log", "daemon.log"} <= {p.name for p in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
