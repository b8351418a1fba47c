"""What tests of processes share."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import PREAMBLE, Make, Running

from maxrl_ops import processes
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import DocumentError, RunDir
from maxrl_ops.wire.settings import Value


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Running] = []

    def run_of(
        script: str, *, command: tuple[str, ...] | None = None, **settings: Value
    ) -> Running:
        run = RunDir(tmp_path / "runs" / f"run-{len(made)}")
        run.control.mkdir(parents=True)
        (run.path / "script.py").write_text(PREAMBLE + script)
        own = (sys.executable, str(run.path / "script.py")) if command is None else command
        spec = RunSpec(run.name, "job", settings, own, "2026-11-22T13:30:05Z")
        spec.save(run)
        made.append(Running(run))
        return made[-1]

    yield run_of
    for running in made:
        _bury(running)


def _bury(running: Running) -> None:
    """Leave nothing alive, whatever the test came to."""
    for process in running.supervisors:
        process.kill()
        process.communicate()
    try:
        state = running.state()
    except (FileNotFoundError, DocumentError):
        return
    if state.trainer is not None:
        processes.signal_group(state.trainer, signal.SIGKILL)
