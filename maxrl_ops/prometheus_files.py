"""What a Prometheus needs to scrape a daemon and to alert: rendered from the one table. Pure."""

import json
from collections.abc import Sequence

from maxrl_ops.alerts import ALERTS, SCRAPE_JOB, Alert

RULES_FILE = "maxrl-ops.rules.yml"
_INTERVAL_SECONDS = 15
_ENCRYPTED = """\
    scheme: https
    # The daemon's authority, and where it has a --client-ca a certificate of that one's:
    # tls_config:
    #   ca_file: ca.pem
    #   cert_file: client.pem
    #   key_file: client.key
"""


def rules(runbooks: str, times: float = 1.0, alerts: Sequence[Alert] = ALERTS) -> str:
    """The rule file, YAML.

    Args:
        runbooks: Where the runbooks are: `runbook_url` is this, a slash, and `NAME.md`.
        times: Multiplies every length of time, for whoever wants to see an alert fire soon.
        alerts: All of them, or some.
    """
    lines = ["groups:", "  - name: maxrl-ops", "    rules:"]
    for alert in alerts:
        lines += _rule(alert, runbooks.rstrip("/"), times)
    return "\n".join(lines) + "\n"


def _rule(alert: Alert, runbooks: str, times: float) -> list[str]:
    held = alert.held_seconds(times)
    return [
        f"      - alert: {alert.name}",
        f"        expr: {_quoted(alert.promql(times))}",
        *([f"        for: {held}s"] if held else []),
        "        labels:",
        f"          severity: {alert.severity}",
        "        annotations:",
        f"          summary: {_quoted(alert.summary)}",
        f"          runbook_url: {_quoted(f'{runbooks}/{alert.name}.md')}",
    ]


def configuration(
    target: str, alertmanager: str | None = None, times: float = 1.0, *, is_tls: bool = False
) -> str:
    """A prometheus.yml that scrapes the daemon at `target` (HOST:PORT) and loads the rules.

    Args:
        target: The daemon's address.
        alertmanager: HOST:PORT of who is told what fires; None leaves that to be written in.
        times: As in `rules`, of the intervals.
        is_tls: The daemon serves HTTPS.
    """
    interval = max(1, round(_INTERVAL_SECONDS * times))
    encrypted = _ENCRYPTED if is_tls else ""
    return f"""\
global:
  scrape_interval: {interval}s
  evaluation_interval: {interval}s
rule_files:
  - {RULES_FILE}
{_alerting(alertmanager)}
scrape_configs:
  - job_name: {SCRAPE_JOB}
{encrypted}    static_configs:
      - targets: [{_quoted(target)}]
"""


def _alerting(alertmanager: str | None) -> str:
    lines = [
        "alerting:",
        "  alertmanagers:",
        "    - static_configs:",
        f"        - targets: [{_quoted(alertmanager or '127.0.0.1:9093')}]",
    ]
    if alertmanager is None:
        hint = "# Name your Alertmanager here to be told of what fires:"
        lines = [hint, *(f"# {line}" for line in lines)]
    return "\n".join(lines)


def alertmanager(webhook: str, times: float = 1.0) -> str:
    """An alertmanager.yml that sends all to one webhook, a message for each alert and run."""
    wait, again = (max(1, round(seconds * times)) for seconds in (30, 300))
    return f"""\
route:
  receiver: maxrl-ops
  group_by: [alertname, instance, job_name, run]
  group_wait: {wait}s
  group_interval: {again}s
  repeat_interval: 4h
receivers:
  - name: maxrl-ops
    webhook_configs:
      - url: {_quoted(webhook)}
        send_resolved: true
"""


def _quoted(text: str) -> str:
    """A YAML scalar: every JSON string is one."""
    return json.dumps(text)
