"""Write grafana/ and docs/metrics.md from the tables of metrics and alerts."""

import shutil
import sys
from pathlib import Path

from maxrl_ops import prometheus_files
from maxrl_ops.grafana.files import files
from maxrl_ops.metric_reference import reference

# As grafana/compose.yml has it: all three share the host's network, where the daemon listens.
_PROMETHEUS = "http://127.0.0.1:9090"
_DASHBOARDS = "/etc/grafana/dashboards"
# Grafana serves what lies in its public directory, where compose mounts them.
_RUNBOOKS = "http://127.0.0.1:3000/public/runbooks"
_WEBHOOK = "http://127.0.0.1:8080/alerts"
_OURS = ("dashboards", "provisioning", "prometheus", "alertmanager")


def main(root: Path) -> None:
    """Write them below `root`; what is there of ours is replaced."""
    prometheus = prometheus_files.configuration("127.0.0.1:9478", "127.0.0.1:9093")
    written = {
        **files(_PROMETHEUS, _DASHBOARDS, _RUNBOOKS),
        "prometheus/prometheus.yml": prometheus,
        f"prometheus/{prometheus_files.RULES_FILE}": prometheus_files.rules(_RUNBOOKS),
        "alertmanager/alertmanager.yml": prometheus_files.alertmanager(_WEBHOOK),
    }
    for name in _OURS:
        shutil.rmtree(root / "grafana" / name, ignore_errors=True)
    for name, text in written.items():
        path = root / "grafana" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    page = root / "docs" / "metrics.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
