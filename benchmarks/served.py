"""A process that serves /metrics, and what it costs: its CPU seconds and its memory."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec, utc_now
from maxrl_ops.wire.rundir import RunDir, read_json
from maxrl_ops.wire.settings import HOME_ENV

_START_SECONDS = 30.0


class Served:
    """The process, once it answers; killed at the end."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], said: Path) -> None:
        """Start it; what it says goes into the file `said`."""
        with said.open("ab") as file:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def cpu(self) -> float:
        """CPU seconds of all its threads so far, to the nanosecond."""
        # clock_getcpuclockid(3), which Python has for its own process only.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory(self, key: str = "VmHWM") -> float:
        """MiB that are, or at most were, resident."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0]) / 1024
        raise LookupError(key)

    def forget_highest_memory(self) -> None:
        """VmHWM begins anew with what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def scrape(self) -> str:
        """/metrics."""
        with urllib.request.urlopen(self.url, timeout=60) as answer:  # noqa: S310 - loopback
            return str(answer.read(), "utf-8")

    def value(self, series: str) -> float:
        """The sum over the series whose line begins so; NaN where there is none."""
        lines = [line for line in self.scrape().splitlines() if line.startswith(series)]
        return sum(float(line.rpartition(" ")[2]) for line in lines) if lines else float("nan")

    def wait_for_value(self, series: str, least: float, seconds: float) -> None:
        """Until it is that much; asked twice a second, so that the asking costs nothing."""
        deadline = time.monotonic() + seconds
        while not self.value(series) >= least:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"{self.process.args!r}: {series} did not come to {least:g}")
            time.sleep(0.5)

    def wait_until_served(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.scrape()
            except (urllib.error.URLError, ValueError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{self.process.args!r} does not answer") from None
                time.sleep(0.05)
            else:
                return


def daemon(home: Home) -> Served:
    """A daemon that looks after `home`."""
    command = [sys.executable, "-P", "-m", "maxrl_ops.daemon", "--listen", "127.0.0.1:0"]
    home.daemon_file.unlink(missing_ok=True)
    served = Served(command, {HOME_ENV: str(home.path)}, home.daemon_log)
    deadline = time.monotonic() + _START_SECONDS
    while not home.daemon_file.exists():
        if time.monotonic() > deadline or served.process.poll() is not None:
            raise SystemExit(home.daemon_log.read_text())
        time.sleep(0.02)
    served.url = str(read_json(home.daemon_file)["metrics"])
    served.wait_until_served()
    return served


def new_run(home: Home, name: str, mode: str = "off") -> RunDir:
    """A run with an empty log and nobody who writes it."""
    run = home.run(name)
    run.control.mkdir(parents=True)
    RunSpec(name, "benchmark", {}, (), utc_now(), mode=mode).save(run)
    run.log.touch()
    return run
