"""What the person on call sees: real runs, the daemon, real Prometheus and Alertmanager."""

import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Installation, kill
from monitoring import (
    Prometheus,
    Webhook,
    chosen_from,
    filled_in,
    free_port,
    monitored,
    webhook,
)
from waiting import wait_until

from maxrl_ops.grafana.files import dashboards

pytestmark = pytest.mark.slow

# A hundredth of every time: ten minutes are six seconds.
TIMES = "0.01"
SMALL = ("--task", "arithmetic", "--prompts-per-iteration", "8", "--evaluation-prompts", "8")
# Of which this host may have none.
GPU = "maxrl_gpu_"
RUNS = ("good", "none", "rusty")


def targets() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Dashboard, panel and query of each."""
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                if GPU not in target["expr"]:
                    yield dashboard["uid"], panel["title"], target


def start(maxrl: Installation) -> None:
    """A run that learns, one that cannot, one that compiles and ends, one that fails."""
    jobs = {
        "good": (*SMALL, "--kl-coefficient", "0.001", "--checkpoint-every", "20"),
        "none": (*SMALL, "--correctness-threshold", "30", "--mode", "suggest", "--seed", "1"),
        "rusty": ("--task", "rust", "--prompts-per-iteration", "1", "--evaluation-prompts", "2"),
        "broken": ("--", sys.executable, "-c", "raise SystemExit(78)"),
    }
    lengths = {"good": 100_000, "none": 100_000, "rusty": 2}
    # More threads than cores would wait for each other.
    quick = {"OMP_NUM_THREADS": "1"}
    started = {
        name: maxrl.start_process(
            *("start", "--use-maxrl", "--name", name),
            *(("--iterations", str(lengths[name])) if name in lengths else ()),
            *job,
            **quick,
        )
        for name, job in jobs.items()
    }
    for name, process in started.items():
        output = process.communicate(timeout=120)[0]
        assert (process.returncode == 0) == (name != "broken"), output


@pytest.mark.needs("prometheus", "prometheus-alertmanager", "rustc", "bwrap", "cc")
def test_who_is_on_call_sees_and_is_told(maxrl: Installation, tmp_path: Path) -> None:
    start(maxrl)
    directory, port = tmp_path / "monitoring", free_port()
    with webhook() as told:
        words = ("--alertmanager", f"127.0.0.1:{port}", "--webhook", told.url, "--times", TIMES)
        maxrl.run("export", "prometheus", "--to", str(directory), *words)
        with monitored(directory, port) as prometheus:
            maxrl.wait_for("good", lambda log: "Iteration 60/" in log)
            wait_until(lambda: told.has("NoCorrectSamples", run="none"), 90, "NoCorrectSamples")
            every_panel_shows_something(prometheus)
            the_annotation_tells_when(prometheus)
            ended_runs_leave(maxrl, prometheus, told)
            a_stuck_trainer_is_told(maxrl, told)
            a_dead_daemon_is_told(maxrl, told)


def every_panel_shows_something(prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.now('maxrl_rule_decisions_total{run="none"}'), 60, "a decision")
    empty = []
    for uid, title, target in targets():
        series = [each for run in RUNS for each in asked(prometheus, target, run)]
        if not series:
            empty.append((uid, title, target["expr"]))
        for each in series:
            values = [float(value) for _, value in each.get("values") or [each["value"]]]
            assert all(map(math.isfinite, values)), (uid, title, each)
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert each["metric"].get(label), (uid, title, label)
    assert empty == []


def asked(prometheus: Prometheus, target: dict[str, Any], run: str) -> list[dict[str, Any]]:
    expr = filled_in(target["expr"], run=run)
    return prometheus.now(expr) if target["instant"] else prometheus.lately(expr)


def the_annotation_tells_when(prometheus: Prometheus) -> None:
    [note] = [note for each in dashboards() for note in each["annotations"]["list"]]
    found = prometheus.now(filled_in(note["expr"], run="none"))
    assert found
    assert all(0 < time.time() - float(each["value"][1]) / 1000 < 300 for each in found)


def ended_runs_leave(maxrl: Installation, prometheus: Prometheus, told: Webhook) -> None:
    def shown() -> set[str]:
        return {each["metric"]["run"] for each in prometheus.now("maxrl_job_info")}

    assert maxrl.wait_ended("rusty")["state"] == "finished"
    assert maxrl.status("broken")["state"] == "failed"
    wait_until(lambda: told.has("JobFailed", run="broken"), 30, "JobFailed")
    two_hours_ago = time.time() - 7200
    for name in ("rusty", "broken"):
        for path in (maxrl.home / "runs" / name).glob("*.*"):
            os.utime(path, (two_hours_ago, two_hours_ago))
    wait_until(lambda: "rusty" not in shown(), 20, "the series of a finished run are gone")
    # Of a failed one they stay for a day, or until somebody has seen it.
    assert "broken" in shown()
    assert "acknowledged" in maxrl.run("stop", "broken")
    wait_until(lambda: "broken" not in shown(), 20, "those of an acknowledged one are gone")
    assert {"good", "none"} <= shown()
    wait_until(lambda: told.has("JobFailed", "resolved", run="broken"), 30, "it is over")
    for dashboard in dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["name"] == "run":
                assert chosen_from(prometheus, variable) == {*RUNS, "broken"}
            elif variable["type"] == "query":
                assert chosen_from(prometheus, variable)


def a_stuck_trainer_is_told(maxrl: Installation, told: Webhook) -> None:
    pid, before = maxrl.trainer_pid("good"), len(told.told)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        alert = wait_until(
            lambda: told.has("TrainingStalled", since=before, run="good"), 60, "TrainingStalled"
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "arithmetic/good has made no iteration for " in alert["annotations"]["summary"]
    page = Path(alert["annotations"]["runbook_url"].removeprefix("file://"))
    assert page.read_text().startswith("# TrainingStalled\n")


def a_dead_daemon_is_told(maxrl: Installation, told: Webhook) -> None:
    before = len(told.told)
    kill(json.loads(maxrl.run("status", "--json"))["daemon"]["pid"])
    alert = wait_until(lambda: told.has("OpsDown", since=before), 30, "OpsDown")
    assert alert["labels"]["severity"] == "critical"
