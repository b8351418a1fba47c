"""A run whose supervisor is a process of its own, over trainers that are small Python scripts."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from waiting import wait_until

from maxrl_ops import locks
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.rundir import RunDir

# Every script leaves its pid, and proof that it alone trains: the lock it inherited is held, so
# that nobody who opens the file anew can take it.
PREAMBLE = """
import fcntl, os, signal, subprocess, sys, time
from pathlib import Path
run = Path(os.environ["MAXRL_RUN_DIR"])
attempt = int(os.environ["MAXRL_OPS_ATTEMPT"])
os.fstat(int(os.environ["MAXRL_OPS_LOCK_FD"]))
with (run / "run.lock").open() as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = "unlocked"
    except BlockingIOError:
        locked = "locked"
with (run / "pids").open("a") as pids:
    pids.write(f"{os.getpid()} {locked}\\n")
def checkpoint(iteration):
    path = run / "checkpoints" / f"{iteration:06d}"
    path.mkdir(parents=True)
    (path / "COMPLETE").touch()
"""
FOREVER = "print('training', flush=True); time.sleep(600)"


@dataclass
class Running:
    """A run, and every supervisor that a test started for it."""

    run: RunDir
    supervisors: list["subprocess.Popen[str]"] = field(default_factory=list)

    def supervise(self, **env: str) -> "subprocess.Popen[str]":
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", "maxrl_ops.supervisor", str(self.run.path)],
            env={**os.environ, "MAXRL_OPS_BACKOFF_SCALE": "0.01", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.supervisors.append(started)
        return started

    def state(self) -> SupervisorState:
        return SupervisorState.load(self.run)

    def is_in(self, state: str) -> bool:
        try:
            return self.state().state == state
        except FileNotFoundError:
            return False

    def wait_for(self, state: str) -> SupervisorState:
        wait_until(lambda: self.is_in(state), 20, f"state {state}")
        return self.state()

    def wait_for_training(self) -> SupervisorState:
        """Wait until the script does what it is there for, its preparations behind it."""
        wait_until(lambda: "training" in self.log(), 20, "a trainer that trains")
        return self.wait_for("running")

    def log(self) -> str:
        return self.run.log.read_text() if self.run.log.exists() else ""

    def pids(self) -> list[int]:
        """Every trainer there ever was; all of them held the lock."""
        lines = (self.run.path / "pids").read_text().splitlines()
        assert all(line.endswith(" locked") for line in lines)
        return [int(line.split()[0]) for line in lines]

    def ended(self, code: int) -> SupervisorState:
        """Wait for the last supervisor's end with `code`; the state it left."""
        last = self.supervisors[-1]
        out, err = last.communicate(timeout=30)
        assert (last.returncode, out) == (code, ""), err
        assert "Traceback" not in err
        state = self.state()
        assert state.trainer is None
        # Nobody holds anything any more.
        for path in (self.run.lock, self.run.supervisor_lock):
            os.close(locks.acquire(path))
        return state


Make = Callable[..., Running]
