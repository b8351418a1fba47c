"""How long from a line in a log to its figure in /metrics, and what an idle daemon costs.

A real daemon over real runs' directories. An iteration is appended to one log, and /metrics is
asked until it shows it; between two, the log rests long enough to be at no tick's boundary.
Then nobody writes for a while: the daemon's CPU seconds and memory are what it costs to wait.

    python -m benchmarks.latency [--rounds 300] [--idle 60] [--runs 1 50]
"""

import argparse
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks import machine
from maxrl_ops import daemon_file
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Algorithm, IterationRecord, RunStarted

_RESULTS = Path(__file__).parent / "results" / "latency.md"
_LONGEST_SECONDS = 10.0


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 50])
    given = parser.parse_args()
    rows = []
    for runs in given.runs:
        for watching in (True, False):
            rows.append(_measured(runs, given.rounds if watching else 40, given.idle, watching))
            print(rows[-1])
    long_line = _long_line()
    lines = [
        "# From a log to /metrics",
        "",
        f"{machine.describe()}; {given.rounds} appends where logs are watched, 40 where they are",
        "only looked at four times a second; one client asks /metrics over and over.",
        "",
        "| runs | logs are | p50 | p99 | idle CPU | idle RSS | threads |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Peak RSS with a line of 100 MB without an end in one log: {long_line:.1f} MiB.",
    ]
    _RESULTS.write_text("\n".join(lines) + "\n")


def _measured(runs: int, rounds: int, idle: float, watching: bool) -> str:
    with (
        tempfile.TemporaryDirectory() as directory,
        _daemon(Path(directory), runs, watching) as (
            home,
            pid,
        ),
    ):
        delays = _delays(home, rounds)
        time.sleep(2.0)  # What the last append set going is over: idle is measured next.
        began, before = time.monotonic(), _cpu(pid)
        time.sleep(idle)
        share = (_cpu(pid) - before) / (time.monotonic() - began)
        status = Path(f"/proc/{pid}/status").read_text()
        resident, threads = _field(status, "VmRSS") / 1024, _field(status, "Threads")
    p99 = quantiles(delays, n=100)[98]
    how = "watched" if watching else "looked at"
    return (
        f"| {runs} | {how} | {1e3 * median(delays):.1f} ms | {1e3 * p99:.1f} ms | {share:.3%} "
        f"| {resident:.1f} MiB | {threads} |"
    )


@contextmanager
def _daemon(path: Path, runs: int, watching: bool) -> Iterator[tuple[Home, int]]:
    home = Home(path)
    for number in range(runs):
        run = home.run(f"run-{number}")
        run.control.mkdir(parents=True)
        RunSpec(run.name, "rust", {}, (), "2026-11-25T00:00:00Z", mode="observe").save(run)
        header = RunStarted(Algorithm.MAXRL, objective="maxrl", task="rust", attempt=1)
        run.log.write_text(render(header) + "".join(_block(n) for n in range(1, 101)))
    env = {**os.environ, "MAXRL_OPS_HOME": str(path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
    if not watching:
        env["MAXRL_OPS_NO_WATCH"] = "1"
    with (path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "maxrl_ops.daemon"], env=env, stderr=log
        )
    try:
        _until(lambda: daemon_file.running(home) is not None)
        _until(lambda: "iteration" in _scraped(home) and _shown(home, f"run-{runs - 1}") == 100)
        yield home, process.pid
    finally:
        process.terminate()
        process.wait()


def _delays(home: Home, rounds: int) -> list[float]:
    run, rng = home.run("run-0"), random.Random(1)
    delays = []
    with run.log.open("a") as log:
        for iteration in range(101, 101 + rounds):
            time.sleep(rng.uniform(0.02, 0.27))
            log.write(_block(iteration))
            began = time.monotonic()
            log.flush()
            while _shown(home, "run-0") != iteration:
                if time.monotonic() - began > _LONGEST_SECONDS:
                    raise SystemExit(f"iteration {iteration} is not in /metrics")
            delays.append(time.monotonic() - began)
    return delays


def _block(iteration: int) -> str:
    return render(
        IterationRecord(
            iteration,
            1000,
            n_correct=12,
            n_total=16,
            loss=4.2,
            reference_correct=12,
            reference_total=16,
            grad_norm=0.5,
            verdict="Good - on track",
        )
    )


def _shown(home: Home, run: str) -> int | None:
    found = re.search(rf'^maxrl_train_iteration\{{.*run="{run}"\}} (\S+)$', _scraped(home), re.M)
    return None if found is None else int(float(found[1]))


def _scraped(home: Home) -> str:
    """/metrics over a connection of its own: urllib alone would take milliseconds."""
    known = daemon_file.running(home)
    if known is None:
        return ""
    host, port = known.metrics.removeprefix("http://").removesuffix("/metrics").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(1 << 20), b"")).decode()


def _long_line() -> float:
    """Peak resident MiB of a daemon one of whose logs is 100 MB without a newline."""
    with (
        tempfile.TemporaryDirectory() as directory,
        _daemon(Path(directory), 1, True) as (
            home,
            pid,
        ),
    ):
        log = home.run("run-0").log
        with log.open("a") as file:
            for _ in range(100):
                file.write("x" * 1_000_000)
        size = log.stat().st_size
        read = re.compile(r'^maxrl_tailer_lag_bytes\{.*run="run-0"\} 0(?:\.0)?$', re.M)
        _until(lambda: read.search(_scraped(home)) is not None and size > 0)
        time.sleep(1.0)  # The peak may come after the last byte is read.
        return _field(Path(f"/proc/{pid}/status").read_text(), "VmHWM") / 1024


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the daemon does not get there")
        time.sleep(0.02)


def _cpu(pid: int) -> float:
    # clock_getcpuclockid(3): /proc counts in hundredths of a second, of which this takes few.
    return time.clock_gettime((~pid << 3) | 2)


def _field(status: str, name: str) -> int:
    return int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0])


if __name__ == "__main__":
    main()
