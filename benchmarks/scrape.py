"""`python -m benchmarks.scrape`: what a scrape of a thousand runs costs, and how large it is.

Every run tells all that a run of our trainer may tell. The scrape goes over loopback, through the
daemon's own server; CPU seconds are the whole process's. "One run changed" is what the loop does
when an iteration ends: that run's lines are written anew.

Then a real Prometheus, where there is one, scrapes several such daemons every five seconds: what a
series costs it in memory, and a scrape in CPU.
"""

import gzip
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from maxrl_ops.core import autopilot
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import Totals
from maxrl_ops.exporter import Exporter, Scene, lines_of
from maxrl_ops.metrics_server import serve
from maxrl_ops.run_metrics import RunView, TailView, run_samples
from maxrl_ops.wire.documents import Exit, SupervisorState
from maxrl_ops.wire.record import Algorithm, Evaluated, IterationRecord, RunStarted

_ROUNDS = 15
_DAEMONS = 5
_FIGURES = (
    "prometheus_tsdb_head_series",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
)
_EXIT = Exit(1, "2026-11-24T00:00:00Z", 1, None, "crashed")


def _view(name: str) -> RunView:
    """A run of our trainer with a reference model, after a crash and a decision."""
    history, totals = RunHistory(), Totals()
    ratios = dict.fromkeys(("compile_ratio", "tests_pass_ratio"), 0.75)
    figures = dict.fromkeys(
        (
            *("loss", "correct_reward_mean", "reward_mean", "reward_std", "grad_norm", "entropy"),
            *("kl", "length_mean", "effective_samples", "sample_time", "verify_time"),
            *("update_time", "duration"),
        ),
        1.2345,
    )
    record = IterationRecord(
        50,
        1000,
        48,
        64,
        objective="maxrl",
        reference_correct=48,
        reference_total=64,
        groups_all_wrong=1,
        groups_all_correct=2,
        groups_mixed=5,
        effective_of=6.0,
        tokens=1754,
        unscored=0,
        learning_rate=1e-5,
        control_revision=1,
        at="2026-11-22T13:30:05Z",
        **ratios,  # type: ignore[arg-type]
        **figures,  # type: ignore[arg-type]
    )
    started = RunStarted(
        Algorithm.MAXRL,
        "maxrl",
        target_iterations=1000,
        n_samples=8,
        correctness_threshold=20.0,
        weight_temperature=1.0,
        learning_rate=1e-5,
        reference_threshold=20.0,
        bounds=(15.0, 30.0),
    )
    for event in (started, Evaluated(0, 0.5, {1: 0.4, 8: 0.9}, 0.02), record):
        history.append(event)
        totals.append(event)
    return RunView(
        "rust",
        name,
        history,
        totals,
        autopilot.State(evaluated={"NONFINITE": 50}, taken=("LOW.threshold",), changed_at=1),
        TailView(lines=1200, bytes=40_000, last_read=1.7e9),
        decisions={("LOW", "applied"): 1, ("LOW", "held"): 1},
        decided_at={"LOW": 1.7e9},
        supervisor=SupervisorState("running", "2026-11-24T00:00:00Z", restarts=1, exits=(_EXIT,)),
        state="running",
        last_checkpoint=1.7e9,
        started_at=1.7e9,
        control_revision=1,
    )


def _measured(deed: Callable[[], object]) -> tuple[float, float]:
    """Median wall and CPU seconds."""
    walls, cpus = [], []
    for _ in range(_ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        deed()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def _row(count: int) -> str:
    views = [_view(f"rust-{number}") for number in range(count)]
    runs = {view.name: lines_of(run_samples(view)) for view in views}
    exporter = Exporter()
    exporter.show(Scene(runs, {"running": count}, 1.7e9, "0"))
    server = serve(exporter, ("127.0.0.1", 0), lambda: None, lambda: None)
    url = f"http://127.0.0.1:{server.address[1]}/metrics"

    def scrape() -> bytes:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bytes(answer.read())

    try:
        text = scrape()
        wall, cpu = _measured(scrape)
        _, anew = _measured(lambda: lines_of(run_samples(replace(views[0], state="paused"))))
    finally:
        server.close()
    lines = [line for line in text.splitlines() if not line.startswith(b"#")]
    series = sum(b'run="rust-0"' in line for line in lines)
    return (
        f"| {count:,} | {series} | {len(lines):,} | {len(text) / 1e6:.2f} MB "
        f"| {len(gzip.compress(text, 1)) / 1e6:.2f} MB | {wall * 1e3:.0f} ms | {cpu * 1e3:.0f} ms "
        f"| {anew * 1e3:.2f} ms |"
    )


def _of_prometheus() -> list[str]:
    """What so many daemons of a thousand runs cost a Prometheus; nothing where there is none."""
    if (program := shutil.which("prometheus")) is None:
        return []
    views = [_view(f"rust-{number}") for number in range(1000)]
    exporter = Exporter()
    runs = {view.name: lines_of(run_samples(view)) for view in views}
    exporter.show(Scene(runs, {"running": 1000}, 1.7e9, "0"))
    server = serve(exporter, ("127.0.0.1", 0), lambda: None, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as directory:
        # Every daemon is the same one, under a label of its own.
        jobs = [
            f"  - {{targets: ['127.0.0.1:{server.address[1]}'], labels: {{host: h{number}}}}}"
            for number in range(_DAEMONS)
        ]
        configuration = Path(directory) / "prometheus.yml"
        text = "scrape_configs:\n- job_name: maxrl-ops\n  scrape_interval: 5s\n  static_configs:\n"
        configuration.write_text(text + "\n".join(jobs) + "\n")
        words = [program, f"--config.file={configuration}", f"--web.listen-address={own}"]
        with subprocess.Popen(
            [*words, f"--storage.tsdb.path={directory}/data", "--log.level=error"]
        ) as process:
            try:
                return [_sentence(_told_by(f"http://{own}/metrics"))]
            finally:
                process.terminate()
                server.close()


def _told_by(url: str) -> dict[str, float]:
    """Prometheus's own figures: over a minute of scrapes, once all series are known."""
    deadline, started = time.monotonic() + 180, None
    while time.monotonic() < deadline:
        time.sleep(1)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - on loopback
                found = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
        except OSError:
            continue
        now = {name: float(found[name]) for name in _FIGURES} | {"at": time.monotonic()}
        if started is None and now["prometheus_tsdb_head_series"] > 59_000 * _DAEMONS:
            started = now
        if started is not None and now["at"] - started["at"] > 60:
            spent = now["process_cpu_seconds_total"] - started["process_cpu_seconds_total"]
            return now | {"cpu": spent / (now["at"] - started["at"])}
    raise RuntimeError(f"Prometheus at {url} has not scraped everything in time")


def _sentence(told: dict[str, float]) -> str:
    series, memory = told["prometheus_tsdb_head_series"], told["process_resident_memory_bytes"]
    scrape = told["cpu"] * 5 / _DAEMONS
    return (
        f"A Prometheus that scrapes {_DAEMONS} daemons of a thousand runs each every 5 s: "
        f"{series:,.0f} series, {memory / 1e9:.2f} GB resident ({memory / series / 1e3:.1f} kB a "
        f"series), {told['cpu']:.2f} of a core ({scrape * 1e3:.0f} ms of CPU a scrape of a daemon)."
    )


def main() -> None:
    """Measure, print the table, and keep it."""
    rows = [_row(count) for count in (1, 100, 1000)]
    text = "\n".join(
        [
            "# A scrape of /metrics",
            "",
            f"{machine.describe()}; median of {_ROUNDS}; client and server in one process",
            "",
            "| runs | series a run | series | size | gzipped | scrape | CPU | one run changed |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            *_of_prometheus(),
            "",
        ]
    )
    (Path(__file__).parent / "results" / "scrape.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
