"""`export prometheus` and `export grafana`: configuration, alerts and runbooks for this host."""

import math
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
from maxrl_ops.grafana import files as grafana_files
from maxrl_ops.listening import Address, ListenError
from maxrl_ops.wire.rundir import replace
from maxrl_ops.wire.user_paths import expanded

_DEFAULT_URL = "http://127.0.0.1:9478/metrics"
# Prometheus and Grafana read them as users of their own; there is nothing secret in them.
_MODE = 0o644


def export_prometheus(
    to: str, runbooks: str | None, alertmanager: str | None, webhook: str | None, times: float
) -> int:
    """Write the files to the directory `to`; those of ours that are there are written anew."""
    if not (math.isfinite(times) and 0 < times <= 1000):
        raise CommandError(f"--times={times:g} is not allowed: give a number above 0, as 0.1")
    told = None if alertmanager is None else _address(alertmanager, "--alertmanager")
    receiver = None if webhook is None else _url(webhook, "--webhook")
    target = _directory(to)
    rules = prometheus_files.rules(runbooks or _write_runbooks(target), times)
    daemon = running(home())
    url = urlsplit(_DEFAULT_URL if daemon is None else daemon.metrics)
    scraped, is_tls = url.netloc, url.scheme == "https"
    configuration = prometheus_files.configuration(scraped, told, times, is_tls=is_tls)
    files = {
        prometheus_files.RULES_FILE: rules,
        "prometheus.yml": configuration,
    }
    if receiver is not None:
        files["alertmanager.yml"] = prometheus_files.alertmanager(receiver, times)
    for name, text in files.items():
        _write(target / name, text.encode())
    sys.stdout.write(
        f"{target}: prometheus.yml scrapes {scraped}, {prometheus_files.RULES_FILE} has "
        f"{len(ALERTS)} alerts\n"
    )
    return ExitCode.OK


def export_grafana(to: str, prometheus: str, runbooks: str | None, webhook: str | None) -> int:
    """Write dashboards and provisioning to the directory `to`."""
    url = _url(prometheus, "--prometheus")
    where = None if webhook is None else _url(webhook, "--webhook")
    target = _directory(to)
    links = runbooks or _write_runbooks(target)
    dashboards = str(target / grafana_files.DASHBOARDS)
    for name, text in grafana_files.files(url, dashboards, links, where).items():
        _write(target / name, text.encode())
    sys.stdout.write(
        f"{target}: {len(grafana_files.dashboards())} dashboards on the data of {url}, and "
        f"{len(ALERTS)} alerts for Grafana to evaluate\n"
        f"  copy or link what you want of {target / 'provisioning'} to Grafana's own "
        "(/etc/grafana/provisioning), and restart it\n"
    )
    return ExitCode.OK


def _directory(to: str) -> Path:
    target = expanded(to).absolute()
    if target.exists() and not target.is_dir():
        raise CommandError(f"--to={to!r}: {target} is no directory")
    target.mkdir(parents=True, exist_ok=True)
    return target


def _address(text: str, option: str) -> str:
    try:
        Address.parse(text, option)
    except ListenError as error:
        raise CommandError(str(error)) from None
    return text


def _url(text: str, option: str) -> str:
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise CommandError(f"{option}={text!r} is not allowed: give a URL, as http://HOST:PORT")
    return text


def _write_runbooks(target: Path) -> str:
    """Copy every alert's runbook, and tell where they are."""
    pages, source = target / "runbooks", resources.files("maxrl_ops") / "runbooks"
    for alert in ALERTS:
        _write(pages / f"{alert.name}.md", (source / f"{alert.name}.md").read_bytes())
    return pages.as_uri()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, content)
    path.chmod(_MODE)
