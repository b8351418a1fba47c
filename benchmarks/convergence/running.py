"""One run of the study, from its start to the figures that its log tells.

A trainer runs as `python -P -m trainer` does for everybody, with one thread; where the arm needs
the daemon, the installed commands start both.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.convergence.plan import Job
from benchmarks.real_runs import Home, home
from maxrl_ops.report.curves import Curves
from maxrl_ops.wire.documents import DocumentError, SupervisorState
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import ControlApplied, Evaluated, RunEnded
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import RUN_DIR_ENV, SETTINGS

_POLL_SECONDS = 0.1
_SECONDS = 1800


class RunFailedError(Exception):
    """A run of the study did not finish; the message says why."""


def run(job: Job) -> dict[str, Any]:
    """Train, and tell what came of it.

    Raises:
        RunFailedError: It did not come to its last iteration.
    """
    return _supervised(job) if job.is_supervised else _alone(job)


def _alone(job: Job) -> dict[str, Any]:
    settings = {SETTINGS[key].env: str(value) for key, value in job.settings().items()}
    with tempfile.TemporaryDirectory() as directory:
        said, run_dir = Path(directory) / "said", Path(directory) / "run"
        env = {**_environment(), **settings, RUN_DIR_ENV: str(run_dir)}
        command = [sys.executable, "-P", "-m", "trainer"]
        with said.open("wb") as file:
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=file)
        watched, how = _Watched(RunDir(run_dir)), os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            watched.follow(
                lambda: process.pid, lambda: os.waitid(os.P_PID, process.pid, how) is not None
            )
        except BaseException:
            process.terminate()
            raise
        finally:
            # Unlike Popen's wait, this tells what it and its children took.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        return watched.row(job, used.ru_utime + used.ru_stime, said.read_text())


def _supervised(job: Job) -> dict[str, Any]:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in job.settings().items()]
    with home() as at:
        at.ask("start", "--name", "run", "--mode", "act", *flags)
        watched = _Watched(RunDir(at.run))
        watched.follow(lambda: _pid_of(at), at.has_ended)
        row = watched.row(job, watched.cpu, "")
        row["decisions"] = [
            {"iteration": d["iteration"], "rule": d["rule"], "control": d["control"]}
            for d in json.loads(at.ask("decisions", "run", "--json"))
        ]
    return row


@dataclass(slots=True)
class _Watched:
    """A run that is looked at while it goes on.

    Attributes:
        cpu: The trainer's CPU seconds, when last looked.
        cpu_at: By iteration of an evaluation, what they were soon after it.
    """

    run: RunDir
    cpu: float = 0.0
    cpu_at: dict[int, float] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    changes: list[str] = field(default_factory=list)
    ended: RunEnded | None = None

    def follow(self, pid: Callable[[], int | None], is_over: Callable[[], bool]) -> None:
        """Look at it until it is over."""
        parser, read, deadline = Parser(), 0, time.monotonic() + _SECONDS
        while True:
            over = is_over()
            number = pid()
            if number is not None:
                with suppress(OSError):
                    # clock_getcpuclockid(3), which Python has for its own process only.
                    self.cpu = time.clock_gettime((~number << 3) | 2)
            with suppress(FileNotFoundError), self.run.log.open("rb") as log:
                log.seek(read)
                data = log.read()
                read += len(data)
                self._take(parser, data)
            if over:
                return
            if time.monotonic() > deadline:
                raise RunFailedError(f"not over within {_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def _take(self, parser: Parser, data: bytes) -> None:
        for event in parser.feed(data):
            self.curves.append(event)
            match event:
                case Evaluated(iteration):
                    self.cpu_at[iteration] = self.cpu
                case ControlApplied(_, iteration, changes):
                    self.changes += [f"{c.key} {c.value} at {iteration}" for c in changes]
                case RunEnded():
                    self.ended = event
                case _:
                    pass

    def row(self, job: Job, cpu: float, said: str) -> dict[str, Any]:
        """What is kept of it.

        Raises:
            RunFailedError: It has not finished.
        """
        if self.ended is None or self.ended.outcome != "finished":
            why = said.strip().splitlines()[-1:] or [str(self.ended)]
            raise RunFailedError(f"{job.key}: {why[0]}")
        return {
            "task": job.task,
            "arm": job.arm,
            "rate": job.rate,
            "seed": job.seed,
            "cpu": round(cpu, 2),
            "changes": self.changes,
            "evaluations": [
                {
                    "iteration": each.iteration,
                    "samples": self.curves.samples_at(each.iteration) or 0,
                    "cpu": round(self.cpu_at[each.iteration], 2),
                    "pass_at": {str(k): round(p, 4) for k, p in each.pass_at_k.items()},
                    "se": round(each.se, 4),
                    "greedy": round(each.greedy, 4),
                }
                for each in self.curves.evaluations
            ],
        }


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}


def _pid_of(at: Home) -> int | None:
    with suppress(DocumentError, FileNotFoundError):
        found = SupervisorState.load(RunDir(at.run)).trainer
        return None if found is None else found.pid
    return None
