"""All of Grafana's files, by their place below a directory."""

import json
from collections.abc import Mapping
from typing import Any

from maxrl_ops.block_yaml import Yaml, dump
from maxrl_ops.grafana import provisioning
from maxrl_ops.grafana.daemon_health import daemon_health
from maxrl_ops.grafana.fleet import fleet
from maxrl_ops.grafana.one_run import one_run

DASHBOARDS = "dashboards"


def dashboards() -> tuple[dict[str, Any], ...]:
    """Every dashboard."""
    return fleet(), one_run(), daemon_health()


def files(
    prometheus: str, directory: str, runbooks: str, webhook: str | None = None
) -> Mapping[str, str]:
    """Dashboards and provisioning.

    Args:
        prometheus: Its URL, as Grafana reaches it.
        directory: Where Grafana finds the dashboards.
        runbooks: Where alerts link to.
        webhook: Where Grafana sends what fires; None for what its environment says.
    """
    provisioned: Mapping[str, Yaml] = {
        "datasources": provisioning.datasource(prometheus),
        "dashboards": provisioning.dashboards(directory),
        "alerting": provisioning.alert_rules(runbooks),
    }
    contact = provisioning.contact_point(webhook)
    return {
        **{
            f"{DASHBOARDS}/{each['uid']}.json": json.dumps(each, indent=1) + "\n"
            for each in dashboards()
        },
        **{f"provisioning/{kind}/maxrl-ops.yml": dump(text) for kind, text in provisioned.items()},
        "provisioning/alerting/maxrl-ops-contact.yml": dump(contact),
    }
