"""Every alert fires where it should and is silent where it should, by Prometheus's own word."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from commands import refused

from maxrl_ops import prometheus_files
from maxrl_ops.alerts import ALERTS, SCRAPE_JOB
from maxrl_ops.cli.app import run
from maxrl_ops.signals import METRICS, Kind

RUN = 'job_name="rust",run="rust-1",instance="here"'
HERE = f'job="{SCRAPE_JOB}",instance="here"'


def series(metric: str, values: str, labels: str = RUN) -> tuple[str, str]:
    return f"{metric}{{{labels}}}", values


def state(name: str) -> tuple[str, str]:
    return series("maxrl_job_state", "1x500", f'{RUN},state="{name}"')


def state_from(minute: int, name: str) -> tuple[str, str]:
    return series("maxrl_job_state", f"_x{minute} 1x100", f'{RUN},state="{name}"')


def iterations(seconds: float) -> list[tuple[str, str]]:
    """Iterations that took so long on average."""
    return [
        series("maxrl_train_iteration_duration_seconds_sum", f"{100 * seconds}x500"),
        series("maxrl_train_iteration_duration_seconds_count", "100x500"),
    ]


def outcome(name: str, values: str) -> tuple[str, str]:
    return series("maxrl_train_samples_total", values, f'{RUN},outcome="{name}"')


def decisions(name: str, values: str) -> tuple[str, str]:
    labels = f'{RUN},rule="LOW",outcome="{name}"'
    return series("maxrl_rule_decisions_total", values, labels)


def firing(rule: str) -> tuple[str, str]:
    return series("maxrl_rule_firing", "1x500", f'{RUN},rule="{rule}"')


def iterated(values: str) -> tuple[str, str]:
    return series("maxrl_train_iterations_total", values, f'{RUN},algorithm="MaxRL"')


def judged(values: str) -> tuple[str, str]:
    return series("maxrl_rule_evaluations_total", values, f'{RUN},rule="NONFINITE"')


def disk(free: str) -> list[tuple[str, str]]:
    """The room left on a disk of 100 GB."""
    return [
        series("maxrl_ops_home_free_bytes", free, HERE),
        series("maxrl_ops_home_size_bytes", "100000000000x500", HERE),
    ]


# One value a minute; of each alert what it is to fire on, and what resembles that and is well.
UP = series("up", "1x500", HERE)
ITERATED = "maxrl_train_last_iteration_timestamp_seconds"
CORRECT = "maxrl_train_reference_correctness_ratio"
CASES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "OpsDown": ([series("up", "1x100 0x400", HERE)], [UP]),
    "TailLoopStuck": (
        [series("maxrl_ops_last_tick_timestamp_seconds", "0x500", HERE)],
        [series("maxrl_ops_last_tick_timestamp_seconds", "0+60x500", HERE)],
    ),
    "TrainingStalled": (
        [series(ITERATED, "0+60x200 12000x300"), state("running"), *iterations(2)],
        # An hour an iteration, and one that has ended.
        [series(ITERATED, "0+60x400 24000x100"), state("running"), *iterations(3600)],
    ),
    "NeverStarted": (
        [series("maxrl_job_start_timestamp_seconds", "0x500"), state("starting")],
        [
            series("maxrl_job_start_timestamp_seconds", "0x500"),
            series(ITERATED, "0+60x500"),
            state("running"),
        ],
    ),
    "NoCorrectSamples": (
        [outcome("correct", "10x500"), outcome("incorrect", "0+64x500")],
        # A pause: nothing is sampled at all.
        [outcome("correct", "10x500"), outcome("incorrect", "10x500")],
    ),
    "LossNotFinite": (
        [series("maxrl_train_nonfinite_total", "0x490 1x10", f'{RUN},metric="loss"')],
        [series("maxrl_train_nonfinite_total", "7x500", f'{RUN},metric="loss"')],
    ),
    "CorrectnessCollapse": (
        [series(CORRECT, "0.8x400 0.1x100")],
        [series(CORRECT, "0.8x400 0.7x100")],
    ),
    "JobFailed": ([state("failed")], [state("finished")]),
    # For longer than those take who go on with it by themselves.
    "JobInterrupted": ([state("interrupted")], [state_from(488, "interrupted"), state("running")]),
    "JobUnsupervised": (
        [state("supervisor_gone")],
        [state_from(492, "supervisor_gone"), state("suspended")],
    ),
    "RunsUnread": (
        [series("maxrl_ops_runs_unread", "0x400 2x100", HERE)],
        # Locked for a moment, as by a backup.
        [series("maxrl_ops_runs_unread", "0x400 2x4 0x90", HERE)],
    ),
    "JobCrashLooping": (
        [series("maxrl_job_restarts_total", "0x480 1 2 3 4x20", f'{RUN},reason="crashed"')],
        [series("maxrl_job_restarts_total", "0x480 1x20", f'{RUN},reason="crashed"')],
    ),
    "ControlUnconfirmed": (
        [
            series("maxrl_job_control_revision", "3x500"),
            series("maxrl_job_acknowledged_revision", "2x500"),
            state("running"),
        ],
        [
            series("maxrl_job_control_revision", "3x500"),
            series("maxrl_job_acknowledged_revision", "3x500"),
            state("running"),
        ],
    ),
    "CorrectnessLow": (
        [firing("LOW")],
        [firing("ADAPT"), series("maxrl_rule_firing", "0x500", f'{RUN},rule="LOW"')],
    ),
    "LossUnstable": ([firing("UNSTABLE")], [firing("LOW")]),
    "RulesNotEvaluated": (
        [iterated("0+10x500"), judged("100x500")],
        # In mode off nobody judges, and nothing tells how often.
        [iterated("0+10x500")],
    ),
    "RewardHackingSuspected": ([firing("REWARD HACKING")], [firing("LOW")]),
    "NoLearning": ([firing("NO LEARNING")], [firing("LOW")]),
    "Escalated": (
        [series("maxrl_rule_ladder_exhausted", "1x500", f'{RUN},rule="LOW"')],
        [firing("LOW")],
    ),
    "AutopilotFrozen": (
        [series("maxrl_ops_autopilot_frozen", "0x400 1x100", HERE)],
        # For a while, as during maintenance.
        [series("maxrl_ops_autopilot_frozen", "0x460 1x40", HERE)],
    ),
    "DiskLow": (
        disk("4000000000x500"),
        # Small and still: nothing fills it.
        disk("30000000000x500"),
    ),
    "OutOfMemory": (
        [
            series("maxrl_job_last_exit_out_of_memory", "1x500"),
            series("maxrl_job_restarts_total", "0x400 1x100", f'{RUN},reason="crash"'),
        ],
        # Long ago, and well since.
        [
            series("maxrl_job_last_exit_out_of_memory", "1x500"),
            series("maxrl_job_restarts_total", "1x500", f'{RUN},reason="crash"'),
        ],
    ),
    "ConfigReloadFailed": (
        [series("maxrl_ops_config_last_reload_successful", "0x500", HERE)],
        [series("maxrl_ops_config_last_reload_successful", "1x500", HERE)],
    ),
    "AlgorithmFlapping": (
        [series("maxrl_job_algorithm_changes_total", "0x400 1x20 2x20 3x60 4x10",
                f'{RUN},from="GRPO",to="MaxRL"')],
        [series("maxrl_job_algorithm_changes_total", "0x400 1x100",
                f'{RUN},from="GRPO",to="MaxRL"')],
    ),
    "CheckpointStale": (
        [series("maxrl_job_last_checkpoint_timestamp_seconds", "0x500"), state("running")],
        [series("maxrl_job_last_checkpoint_timestamp_seconds", "0x500"), state("finished")],
    ),
    "TailerBehind": (
        [series("maxrl_tailer_lag_bytes", "2000000x500")],
        [series("maxrl_tailer_lag_bytes", "2000x500")],
    ),
    "UnparsedLines": (
        [
            series("maxrl_tailer_unparsed_lines_total", "0+20x500", f'{RUN},reason="unknown line"'),
            series("maxrl_tailer_lines_total", "0+100x500"),
        ],
        [
            series("maxrl_tailer_unparsed_lines_total", "0+1x500", f'{RUN},reason="unknown line"'),
            series("maxrl_tailer_lines_total", "0+100x500"),
        ],
    ),
    "EffectiveSamplesLow": (
        [series("maxrl_train_effective_samples_ratio", "0.2x500")],
        [series("maxrl_train_effective_samples_ratio", "0.6x500")],
    ),
    "ControlRejected": (
        [decisions("rejected", "0x490 1x10")],
        [decisions("applied", "0x490 1x10")],
    ),
    "ApprovalPending": (
        [series("maxrl_job_pending_approvals", "1x500")],
        # Decided on by a person in the meantime.
        [series("maxrl_job_pending_approvals", "1x400 _x100"), decisions("suggested", "1x500")],
    ),
    "CorrectnessHigh": (
        [series(CORRECT, "0.95x500"), state("running")],
        [series(CORRECT, "0.95x500"), state("finished")],
    ),
}  # fmt: skip

# Further ones that are to fire.
ALSO = {
    "TrainingStalled": [
        # An attached log that nobody writes to any more, and one without durations.
        [series("maxrl_tailer_last_read_timestamp_seconds", "0x500"), state("silent")],
        [
            series(ITERATED, "0+60x200 12000x300"),
            state("running"),
            series("maxrl_train_iteration_duration_seconds_sum", "0x500"),
            series("maxrl_train_iteration_duration_seconds_count", "0x500"),
        ],
    ],
}


def test_every_alert_has_cases_and_a_runbook(tmp_path: Path) -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}
    pages = Path(prometheus_files.__file__).parent / "runbooks"
    assert {page.stem for page in pages.iterdir()} == set(CASES)
    for name in CASES:
        text = (pages / f"{name}.md").read_text()
        for heading in (f"# {name}", "## What it means", "## How to look", "## What to do"):
            assert heading in text.split("\n")


def test_alerts_name_only_what_is_exported() -> None:
    known = {"up"}
    for metric in METRICS.values():
        match metric.kind:
            case Kind.COUNTER:
                known.add(f"{metric.name}_total")
            case Kind.HISTOGRAM:
                known |= {f"{metric.name}_{part}" for part in ("sum", "count", "bucket")}
            case _:
                known.add(metric.name)
    for alert in ALERTS:
        named = set(re.findall(r"\b(?:maxrl_\w+|up)\b", alert.promql()))
        assert named
        assert named <= known, alert.name


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say_of_the_rules(tmp_path: Path) -> None:
    path = tmp_path / prometheus_files.RULES_FILE
    path.write_text(prometheus_files.rules("https://runbooks.example"))
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def a_test(name: str, given: list[tuple[str, str]], fires: bool) -> dict[str, object]:
    """A group of promtool's: what stands at its end of the alert in question."""
    if name != "OpsDown":
        given = [UP, *given]
    expr = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in given],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": "495m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_every_time_in_a_rule_can_be_shortened() -> None:
    by_name = {alert.name: alert for alert in ALERTS}
    stalled, collapse = by_name["TrainingStalled"], by_name["CorrectnessCollapse"]
    assert "_count, 1), 600)" in stalled.promql()
    assert "_count, 1), 6)" in stalled.promql(0.01)
    assert (stalled.held_seconds(), stalled.held_seconds(0.01)) == (60, 1)
    assert "[6h:5m]) - 0.25" in collapse.promql()
    assert "[216s:3s]) - 0.25" in collapse.promql(0.01)


@pytest.mark.needs("promtool")
def test_every_alert_fires_and_is_silent(tmp_path: Path) -> None:
    # Each beside its own rule alone: all rules in every test would be thirty times the work.
    for alert in ALERTS:
        rules = tmp_path / f"{alert.name}.rules.yml"
        rules.write_text(prometheus_files.rules("https://runbooks.example", alerts=[alert]))
        fires, is_silent = CASES[alert.name]
        given = [(case, True) for case in (fires, *ALSO.get(alert.name, ()))]
        given.append((is_silent, False))
        # Every JSON document is YAML.
        (tmp_path / f"{alert.name}.json").write_text(json.dumps({
            "rule_files": [rules.name],
            "evaluation_interval": "1m",
            "tests": [a_test(alert.name, case, is_firing) for case, is_firing in given],
        }))  # fmt: skip
    cases = [str(path) for path in sorted(tmp_path.glob("*.json"))]
    done = subprocess.run(
        ["promtool", "test", "rules", *cases], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(ALERTS)


@pytest.mark.needs("promtool")
def test_what_export_writes_is_what_prometheus_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    target = tmp_path / "prometheus"
    for _ in range(2):
        assert run(["export", "prometheus", "--to", str(target)]) == 0
    assert f"{len(ALERTS)} alerts" in capsys.readouterr().out
    command = ["promtool", "check", "config", str(target / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = (target / prometheus_files.RULES_FILE).read_text()
    links = re.findall(r'runbook_url: "file://([^"]+)"', rules)
    assert len(links) == len(ALERTS)
    assert all(Path(link).is_file() for link in links)
    file = tmp_path / "file"
    file.touch()
    assert "is no directory" in refused(["export", "prometheus", "--to", str(file)], capsys, 2)
