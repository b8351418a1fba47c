"""What Grafana reads at its start: where the data is, dashboards, alert rules, a contact point."""

from maxrl_ops.alerts import ALERTS, Alert
from maxrl_ops.block_yaml import Yaml

DATASOURCE_UID = "maxrl-prometheus"
FOLDER = "maxrl-ops"
CONTACT_POINT = "maxrl-ops"
WEBHOOK_ENV = "MAXRL_OPS_ALERT_WEBHOOK"

# Smaller than every value: a PromQL alert fires for each series that there is.
_LEAST = -1e300
# What Prometheus gives as a number is in Grafana the text of all values.
_VALUE = "$values.A.Value"


def datasource(url: str) -> Yaml:
    """The Prometheus at `url`, under a uid that the alert rules name."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus of maxrl-ops",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": url,
                # Of the scrape: what $__rate_interval is made of.
                "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
            }
        ],
    }


def dashboards(directory: str) -> Yaml:
    """All dashboards of a directory."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "maxrl-ops",
                "folder": FOLDER,
                "type": "file",
                "allowUiUpdates": False,
                "updateIntervalSeconds": 60,
                "options": {"path": directory},
            }
        ],
    }


def alert_rules(runbooks: str) -> Yaml:
    """The alerts, for a Grafana that evaluates them itself instead of Prometheus."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "name": "maxrl-ops",
                "folder": FOLDER,
                "interval": "60s",
                "rules": [_rule(alert, runbooks.rstrip("/")) for alert in ALERTS],
            }
        ],
    }


def _rule(alert: Alert, runbooks: str) -> Yaml:
    minutes = alert.minutes
    return {
        "uid": f"maxrl-{alert.name}",
        "title": alert.name,
        "condition": "B",
        "for": f"{minutes}m" if minutes else "0s",
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": {"severity": str(alert.severity)},
        "annotations": {
            "summary": alert.summary.replace("$value", _VALUE),
            "runbook_url": f"{runbooks}/{alert.name}.md",
        },
        "notification_settings": {"receiver": CONTACT_POINT},
        "isPaused": False,
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": DATASOURCE_UID,
                "model": {
                    "refId": "A",
                    "expr": alert.promql(),
                    "instant": True,
                    "range": False,
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "B",
                    "type": "threshold",
                    "expression": "A",
                    "conditions": [{"evaluator": {"type": "gt", "params": [_LEAST]}}],
                },
            },
        ],
    }


def contact_point(webhook: str | None) -> Yaml:
    """Where alerts go: a webhook; its address is Grafana's own environment's where not given."""
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "name": CONTACT_POINT,
                "receivers": [
                    {
                        "uid": "maxrl-ops-webhook",
                        "type": "webhook",
                        "settings": {
                            "url": f"${WEBHOOK_ENV}" if webhook is None else webhook,
                            "httpMethod": "POST",
                        },
                    }
                ],
            }
        ],
    }
