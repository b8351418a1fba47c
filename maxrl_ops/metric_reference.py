"""The reference of metrics and alerts, Markdown, from the two tables. Pure."""

from maxrl_ops.alerts import ALERTS, Alert
from maxrl_ops.run_metrics import MOST_SERIES
from maxrl_ops.signals import METRICS, Kind, Metric

_HEAD = f"""\
# Metrics and alerts

Made by `make grafana` from `maxrl_ops/signals.py` and `maxrl_ops/alerts.py`; a test fails where it
is not. What a run does not tell is absent, never 0. A run has {MOST_SERIES} series at most: what
hardly any run tells comes last, and is what a run without room lacks. The series of a finished run
stay for an hour, those of a failed one for a day, or until `maxrl-ops stop NAME` acknowledges it.

A state is one series, 1 for the state that holds. `Accept: application/openmetrics-text` gets that
format. The daemon's own `process_*` come with the rest.
"""
_PARTS = {
    "maxrl_train_": "What the trainer learns",
    "maxrl_job_": "The run itself",
    "maxrl_rule_": "The autopilot",
    "maxrl_tailer_": "The tail of the log",
    "maxrl_ops_": "The daemon",
    "maxrl_gpu_": "The machine's GPUs, where there is an NVIDIA driver",
}


def reference() -> str:
    """The page."""
    parts = [_HEAD]
    for prefix, title in _PARTS.items():
        of_part = [metric for name, metric in METRICS.items() if name.startswith(prefix)]
        parts.append(f"## {title}\n\n| metric | type | unit | labels | |\n|---|---|---|---|---|\n")
        parts[-1] += "".join(_row(metric) for metric in of_part)
    parts.append("## Alerts\n\n| alert | severity | after | fires while |\n|---|---|---|---|\n")
    parts[-1] += "".join(_alert(alert) for alert in ALERTS)
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    kind = "gauge (1)" if metric.kind is Kind.STATES else metric.kind.value
    labels = ", ".join(f"`{label}`" for label in metric.all_labels)
    return f"| `{metric.family}` | {kind} | {metric.unit} | {labels} | {metric.help} |\n"


def _alert(alert: Alert) -> str:
    after = f"{alert.minutes} min" if alert.minutes else "at once"
    expr = alert.promql().replace("|", "\\|")
    return f"| [{alert.name}](runbooks/{alert.name}.md) | {alert.severity} | {after} | `{expr}` |\n"
