"""The dashboard over all runs of all daemons."""

from typing import Any

from maxrl_ops.grafana.one_run import UID as ONE_RUN
from maxrl_ops.grafana.panels import (
    Panel,
    Query,
    Row,
    dashboard,
    label_variable,
    lines,
    link,
    share,
    stat,
    table,
)

UID = "maxrl-fleet"
_HERE = 'instance=~"$instance"'
_RUNS = f'{_HERE},job_name=~"$job_name"'
_RUN = "{{job_name}}/{{run}}"
_RATE = "[$__rate_interval]"
_DCGM = "https://grafana.com/grafana/dashboards/12239"


def _of(metric: str) -> str:
    return f"{metric}{{{_RUNS}}}"


def _now(expr: str) -> str:
    """A column: the same labels as every other, or rows would not meet."""
    return f"sum by (job_name, run, instance) ({expr})"


_OVERVIEW = Row(
    "Now",
    (
        stat(
            "Runs",
            "Runs of the homes, by state.",
            "none",
            Query(f"sum by (state) (maxrl_ops_runs{{{_HERE}}})", "{{state}}"),
            width=12,
        ),
        stat(
            "Daemons",
            "Daemons that answer, and those that Prometheus knows.",
            "none",
            Query(f'sum(up{{job="maxrl-ops",{_HERE}}})', "up"),
            Query(f'count(up{{job="maxrl-ops",{_HERE}}})', "known"),
        ),
        stat(
            "Firing alerts",
            "Alerts of Prometheus that fire, by urgency; none is good news.",
            "none",
            Query(
                'sum by (severity) (ALERTS{alertstate="firing",severity!=""}) or '
                'label_replace(vector(0), "severity", "none", "", "")',
                "{{severity}}",
            ),
        ),
        table(
            "Runs that are shown",
            "A row for each run: ended ones for an hour, failed ones for a day or until they are "
            "acknowledged.",
            ("Iteration", _now(_of("maxrl_train_iteration"))),
            ("Of", _now(_of("maxrl_train_target_iterations"))),
            ("Correct, %", _now(f"100 * {_of('maxrl_train_reference_correctness_ratio')}")),
            ("Loss", _now(_of("maxrl_train_loss"))),
            (
                "Last iteration, seconds ago",
                _now(f"time() - {_of('maxrl_train_last_iteration_timestamp_seconds')}"),
            ),
            ("Restarts", _now(_of("maxrl_job_restarts_total"))),
            key="run",
            width=24,
            height=9,
        ),
    ),
)

_TRAINING = Row(
    "Training",
    (
        share(
            "Correctness at the reference",
            "Correct samples of each iteration at the task's own threshold, by which runs can be "
            "compared.",
            Query(_of("maxrl_train_reference_correctness_ratio"), _RUN),
            width=12,
        ),
        share(
            "Held-out pass@1",
            "Of the newest evaluation of each run.",
            Query(f'maxrl_train_pass_at_k{{{_RUNS},k="1"}}', _RUN),
            width=12,
        ),
        lines(
            "Tokens",
            "Tokens sampled each second, by run.",
            "cps",
            Query(f"rate({_of('maxrl_train_tokens_total')}{_RATE})", _RUN),
        ),
        lines(
            "Since the last iteration",
            "How long ago each run's newest iteration ended.",
            "s",
            Query(f"time() - {_of('maxrl_train_last_iteration_timestamp_seconds')}", _RUN),
        ),
        lines(
            "Restarts",
            "Restarts of each run's trainer since it began.",
            "none",
            Query(f"sum by (job_name, run) ({_of('maxrl_job_restarts_total')})", _RUN),
        ),
        lines(
            "Firing rules",
            "How many rules fire in each run.",
            "none",
            Query(f"sum by (job_name, run) ({_of('maxrl_rule_firing')})", _RUN),
        ),
        lines(
            "Decisions",
            "Decisions of the rules since each run began, by outcome.",
            "none",
            Query(
                f"sum by (rule, outcome) ({_of('maxrl_rule_decisions_total')})",
                "{{rule}} {{outcome}}",
            ),
        ),
        lines(
            "Checkpoints",
            "How old each run's newest checkpoint is: what a crash would cost.",
            "s",
            Query(f"time() - {_of('maxrl_job_last_checkpoint_timestamp_seconds')}", _RUN),
        ),
    ),
)


def _gpu(title: str, about: str, unit: str, expr: str, **more: Any) -> Panel:
    return lines(title, about, unit, Query(expr, "{{instance}} {{gpu}}"), **more)


_MACHINES = Row(
    "Machines",
    (
        share(
            "Disk",
            "Room left on the disk of each home.",
            Query(
                f"maxrl_ops_home_free_bytes{{{_HERE}}} / maxrl_ops_home_size_bytes{{{_HERE}}}",
                "{{instance}}",
            ),
        ),
        _gpu(
            "GPU utilization",
            "Share of the time in which each GPU computed; empty without an NVIDIA driver.",
            "percentunit",
            f"maxrl_gpu_utilization_ratio{{{_HERE}}}",
            least=0,
            most=1,
        ),
        _gpu(
            "GPU memory",
            "Memory of each GPU that is in use.",
            "percentunit",
            f"maxrl_gpu_memory_used_bytes{{{_HERE}}} / maxrl_gpu_memory_total_bytes{{{_HERE}}}",
            least=0,
            most=1,
        ),
        _gpu(
            "GPU temperature",
            "Of each GPU.",
            "celsius",
            f"maxrl_gpu_temperature_celsius{{{_HERE}}}",
            width=12,
        ),
        _gpu(
            "GPU power",
            "That each GPU draws.",
            "watt",
            f"maxrl_gpu_power_watts{{{_HERE}}}",
            width=12,
        ),
    ),
)


def fleet() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        UID,
        "maxrl-ops: all runs",
        "Every run of every daemon: which learn, which stand still, which want a person.",
        (_OVERVIEW, _TRAINING, _MACHINES),
        variables=(
            label_variable("instance", "Daemon", "maxrl_ops_build_info", every=True),
            label_variable("job_name", "Job", 'maxrl_job_info{instance=~"$instance"}', every=True),
        ),
        links=(
            {**link("One run", f"/d/{ONE_RUN}"), "targetBlank": False, "includeVars": True},
            link("More of the GPUs: the DCGM exporter's dashboard", _DCGM),
        ),
    )
