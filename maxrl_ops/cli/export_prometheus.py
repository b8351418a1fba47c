"""`export prometheus`: configuration, alert rules and runbooks for this host."""

import sys
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from maxrl_ops import prometheus_files
from maxrl_ops.alerts import ALERTS
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.daemon_file import running
from maxrl_ops.wire.rundir import replace

_DEFAULT_URL = "http://127.0.0.1:9478/metrics"


def export_prometheus(to: str, runbooks: str | None) -> int:
    """Write the files to the directory `to`; those of ours that are there are written anew."""
    target = Path(to).expanduser().absolute()
    if target.exists() and not target.is_dir():
        raise CommandError(f"--to={to!r}: {target} is no directory")
    pages = target / "runbooks"
    pages.mkdir(parents=True, exist_ok=True)
    source = resources.files("maxrl_ops") / "runbooks"
    for alert in ALERTS:
        replace(pages / f"{alert.name}.md", (source / f"{alert.name}.md").read_bytes())
    rules = prometheus_files.rules(runbooks or pages.as_uri())
    replace(target / prometheus_files.RULES_FILE, rules.encode())
    daemon = running(home())
    url = urlsplit(_DEFAULT_URL if daemon is None else daemon.metrics)
    scraped = url.netloc
    configuration = prometheus_files.configuration(scraped, is_tls=url.scheme == "https")
    replace(target / "prometheus.yml", configuration.encode())
    sys.stdout.write(
        f"{target}: prometheus.yml scrapes {scraped}, {prometheus_files.RULES_FILE} has "
        f"{len(ALERTS)} alerts\n"
    )
    return ExitCode.OK
