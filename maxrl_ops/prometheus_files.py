"""What a Prometheus needs to scrape a daemon and to alert: rendered from the one table. Pure."""

import json

from maxrl_ops.alerts import ALERTS, SCRAPE_JOB, Alert

RULES_FILE = "maxrl-ops.rules.yml"
_ENCRYPTED = """\
    scheme: https
    # The daemon's authority, and where it has a --client-ca a certificate of that one's:
    # tls_config:
    #   ca_file: ca.pem
    #   cert_file: client.pem
    #   key_file: client.key
"""


def rules(runbooks: str, times: float = 1.0) -> str:
    """The rule file, YAML.

    Args:
        runbooks: Where the runbooks are: `runbook_url` is this, a slash, and `NAME.md`.
        times: Multiplies every length of time, for whoever wants to see an alert fire soon.
    """
    lines = ["groups:", "  - name: maxrl-ops", "    rules:"]
    for alert in ALERTS:
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


def configuration(target: str, *, is_tls: bool = False) -> str:
    """A prometheus.yml that scrapes the daemon at `target` (HOST:PORT) and loads the rules."""
    encrypted = _ENCRYPTED if is_tls else ""
    return f"""\
global:
  scrape_interval: 15s
  evaluation_interval: 15s
rule_files:
  - {RULES_FILE}
# Name your Alertmanager here to be told of what fires:
# alerting:
#   alertmanagers:
#     - static_configs:
#         - targets: ["127.0.0.1:9093"]
scrape_configs:
  - job_name: {SCRAPE_JOB}
{encrypted}    static_configs:
      - targets: [{_quoted(target)}]
"""


def _quoted(text: str) -> str:
    """A YAML scalar: every JSON string is one."""
    return json.dumps(text)
