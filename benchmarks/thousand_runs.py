"""`python -m benchmarks.thousand_runs`: one daemon, on one core, over a thousand runs.

Each run writes an iteration of our trainer's a second, at a moment of its own; a process on another
core writes them all. Every fifteen seconds /metrics is scraped, as Prometheus would, and tells how
many iterations the daemon is behind what had been written when it was asked.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks import machine
from benchmarks.log_to_store import own_block
from benchmarks.served import Served, daemon, new_run
from maxrl_ops.settings import Home
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Algorithm, RunStarted

_RUNS = 1000
_SECONDS = 300
_SCRAPE_SECONDS = 15.0
# Until every run is known and the first iterations are in.
_WARM_UP_SECONDS = 15.0


def write(home: Home, runs: int) -> None:
    """Write until killed; how much has been written is the line told last."""
    logs = [run.log for run in home.runs()]
    written, begun = 0, time.monotonic()
    iteration = 0
    while True:
        iteration += 1
        block = own_block(iteration).encode()
        for log in logs:
            due = begun + written / runs
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, block)
            os.close(descriptor)
            written += 1
            if written % (runs // 100) == 0:
                (home.path / "written").write_text(f"{written:15d}")


def _behind(home: Home, served: Served) -> float:
    """Seconds of iterations that /metrics does not tell of yet."""
    written = int((home.path / "written").read_text() or 0)
    return (written - served.value("maxrl_train_iterations_total{")) / _RUNS


def _measure(mode: str, seconds: float, scratch: Path) -> str:
    home = Home(scratch)
    header = render(RunStarted(Algorithm.MAXRL, "maxrl", target_iterations=10**6))
    for number in range(_RUNS):
        new_run(home, f"run-{number:04}", mode).log.write_text(header)
    (home.path / "written").write_text("0")
    cores = sorted(os.sched_getaffinity(0))
    with daemon(home) as served:
        os.sched_setaffinity(served.process.pid, cores[:1])
        for task in Path(f"/proc/{served.process.pid}/task").iterdir():
            # One that answers a scrape may end meanwhile.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores[:1])
        writer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.thousand_runs", "--write", str(home.path)]
        )
        try:
            os.sched_setaffinity(writer.pid, cores[-1:])
            time.sleep(_WARM_UP_SECONDS)
            before, begun, behind = served.cpu, time.monotonic(), []
            while time.monotonic() - begun < seconds:
                behind.append(_behind(home, served))
                time.sleep(_SCRAPE_SECONDS)
            behind.append(_behind(home, served))
            share = (served.cpu - before) / (time.monotonic() - begun)
            memory = served.memory()
        finally:
            writer.kill()
            writer.wait()
    half = len(behind) // 2
    first, second = max(behind[:half]), max(behind[half:])
    return f"| {mode} | {share:.0%} | {first:.2f} s | {second:.2f} s | {memory:.0f} MiB |"


def main() -> None:
    """Measure, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=_SECONDS)
    parser.add_argument("--modes", default="off,act")
    parser.add_argument("--write", metavar="HOME", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(Home(Path(asked.write)), _RUNS)
    rows = []
    for mode in asked.modes.split(","):
        with tempfile.TemporaryDirectory() as directory:
            rows.append(_measure(mode, asked.seconds, Path(directory)))
    text = "\n".join(
        [
            f"# {_RUNS:,} runs, one iteration a second each",
            "",
            f"{machine.describe()}; {asked.seconds:.0f} s, the daemon on one core",
            "",
            "| rules | of a core | behind at most, first half | second half | memory at most |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    if asked.seconds >= _SECONDS:
        (Path(__file__).parent / "results" / "thousand_runs.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
