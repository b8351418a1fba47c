"""Prometheus, Alertmanager and a webhook on loopback; and Grafana's part, filling queries in."""

import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from waiting import wait_until

SCRAPE_SECONDS = 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def serving(words: list[str], log: Path, ready: str) -> Iterator[None]:
    """A server while the block runs, once it answers at `ready`."""
    with log.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=file) as process:
        try:
            wait_until(lambda: process.poll() is not None or answers(ready), 60, f"{words[0]} up")
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - on loopback
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass
class Webhook:
    """Keeps what Alertmanager sends.

    Attributes:
        told: Labels and annotations of every alert, with its status, in order.
    """

    told: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def has(
        self, name: str, status: str = "firing", since: int = 0, **labels: str
    ) -> dict[str, Any] | None:
        """The last such alert, the first `since` that were told left out."""
        wanted = {"alertname": name, **labels}.items()
        told = self.told[since:]
        found = [a for a in told if a["status"] == status and wanted <= a["labels"].items()]
        return found[-1] if found else None


@contextmanager
def webhook() -> Iterator[Webhook]:
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.told += json.loads(body)["alerts"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Prometheus:
    """One that runs at `url`."""

    url: str

    def ask(self, path: str, **given: str) -> list[dict[str, Any]]:
        """Series as Prometheus answers them.

        Raises:
            AssertionError: It refuses the query.
        """
        query = urllib.parse.urlencode(given)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as answer:  # noqa: S310
                return list(json.loads(answer.read())["data"]["result"])
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{given['query']}: {error.read().decode()}") from None

    def now(self, expr: str) -> list[dict[str, Any]]:
        return self.ask("query", query=expr)

    def lately(self, expr: str, seconds: int = 20) -> list[dict[str, Any]]:
        end = time.time()
        return self.ask("query_range", query=expr, start=str(end - seconds), end=str(end), step="1")


def filled_in(expr: str, **variables: str) -> str:
    """A dashboard's query as Grafana sends it."""
    known = {
        "__rate_interval": f"{4 * SCRAPE_SECONDS}s",
        "__range": "10m",
        "instance": ".*",
        "job_name": ".*",
        **variables,
    }
    return re.sub(r"\$(\w+)", lambda found: known[found[1]], expr)


def chosen_from(prometheus: Prometheus, variable: Mapping[str, Any]) -> set[str]:
    """What a variable of a dashboard offers."""
    inner = re.fullmatch(r"query_result\((.*)\)", variable["query"])
    assert inner is not None
    # As Grafana writes a result: its labels, its value, its time.
    lines = [
        "{" + ",".join(f'{key}="{value}"' for key, value in each["metric"].items()) + "} 1 1"
        for each in prometheus.now(filled_in(inner[1]))
    ]
    found = (re.search(variable["regex"].strip("/"), line) for line in lines)
    return {match[1] for match in found if match}


@contextmanager
def monitored(directory: Path, alertmanager_port: int) -> Iterator[Prometheus]:
    """Both servers, on the files that `export prometheus` wrote to `directory`."""
    port = free_port()
    manager = [
        "prometheus-alertmanager",
        f"--config.file={directory}/alertmanager.yml",
        f"--storage.path={directory}/alertmanager",
        f"--web.listen-address=127.0.0.1:{alertmanager_port}",
        "--cluster.listen-address=",
    ]
    server = [
        "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    ready = f"http://127.0.0.1:{alertmanager_port}/-/ready"
    with suppress(OSError):
        (directory / "data").mkdir()
    with (
        serving(manager, directory / "alertmanager.log", ready),
        serving(server, directory / "prometheus.log", f"{url}/-/ready"),
    ):
        yield Prometheus(url)
