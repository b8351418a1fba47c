"""`doctor`: what a host needs to train, looked at and tried out, with what to do where it fails."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.printable import one_line
from maxrl_ops.daemon_file import running
from maxrl_ops.listening import DEFAULT_ADDRESS
from maxrl_ops.settings import Home

_GIB = 1 << 30
# A shipped model's run takes some 60 MiB: checkpoints, samples, log.
_LEAST_DISK = _GIB
_PATIENCE_S = 120.0
# In a process of its own: a command line must not load it, and it may crash.
_DEVICES = """
import json, os, torch
found = [f"cpu ({len(os.sched_getaffinity(0))} cores)"]
found += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
if torch.backends.mps.is_available():
    found.append("mps")
print(json.dumps(found))
"""
_REINSTALL = "install the package anew: pip install --force-reinstall maxrl-ops"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, whether it is as it has to be, and what to do about it."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(*, as_json: bool) -> int:
    """Look at everything, show it, and say whether all is well."""
    checks = []
    plain = as_json or not sys.stdout.isatty()
    console = Console(highlight=False)
    if plain:
        checks = list(_checks())
    else:
        with console.status("trying the sandbox with attacks"):
            checks = list(_checks())
    is_well = all(check.ok for check in checks)
    if as_json:
        told = {"ok": is_well, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    elif plain:
        sys.stdout.writelines(_line(check) for check in checks)
    else:
        console.print(_table(checks))
    return ExitCode.OK if is_well else ExitCode.BAD


def _checks() -> Iterator[Check]:
    yield _python()
    yield from _packages()
    yield from _verifier()
    yield from _home(home())
    yield _daemon(home())


def _python() -> Check:
    """Which one: an older one than we need could not have come this far."""
    return Check("python", True, f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")


def _packages() -> Iterator[Check]:
    """The heavy ones: torch with the devices it sees, and transformers."""
    for name in ("torch", "transformers"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, False, "is not installed", _REINSTALL)
            continue
        if name != "torch":
            yield Check(name, True, version)
            continue
        answer = _ask("-c", _DEVICES)
        if isinstance(answer, str):
            yield Check(name, False, f"{version} does not work: {answer}", _REINSTALL)
        else:
            yield Check(name, True, f"{version}, {', '.join(map(str, answer))}")


def _verifier() -> Iterator[Check]:
    """The toolchain, the sandbox, and the attacks it has to hold."""
    answer = _ask("-m", "trainer.verify.doctor")
    if isinstance(answer, str):
        yield Check("sandbox", False, f"its check does not run: {answer}", _REINSTALL)
        return
    for one in answer:
        yield Check(str(one["name"]), bool(one["ok"]), str(one["found"]), str(one["remedy"]))


def _ask(*arguments: str) -> "list[dict[str, object]] | str":
    """The list that a Python program prints; a text says why there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PATIENCE_S:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return last or f"it exits with {done.returncode}"
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    return answer if isinstance(answer, list) else "its answer is not what it should be"


def _home(where: Home) -> Iterator[Check]:
    """Whether runs can be written, and how much room they have."""
    existing = next(path for path in (where.path, *where.path.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    yield Check(
        "home",
        writable,
        str(where.path) + ("" if writable else " cannot be written"),
        ""
        if writable
        else f"chown or chmod {existing}, or set MAXRL_OPS_HOME to another directory",
    )
    free = shutil.disk_usage(existing).free
    yield Check(
        "disk",
        free >= _LEAST_DISK,
        f"{free / _GIB:.1f} GiB free in {existing}",
        "" if free >= _LEAST_DISK else "free 1 GiB, or set MAXRL_OPS_HOME to another disk",
    )


def _daemon(where: Home) -> Check:
    """Whether one runs; where none does, `start` brings it up, on another port where it must."""
    found = running(where)
    if found is not None:
        return Check("daemon", True, f"pid {found.process.pid}, metrics {found.metrics}")
    host, port = DEFAULT_ADDRESS
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            hint = "start will take another port; MAXRL_OPS_LISTEN=HOST:PORT chooses one"
            return Check("daemon", True, f"none runs, and port {port} is taken", hint)
    return Check("daemon", True, f"none runs, port {port} is free", "start brings one up")


def _line(check: Check) -> str:
    remedy = f" -> {check.remedy}" if check.remedy else ""
    return one_line(f"{_verdict(check)}  {check.name}: {check.found}{remedy}") + "\n"


def _verdict(check: Check) -> str:
    return "pass" if check.ok else "FAIL"


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "what", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in checks:
        style = "green" if check.ok else "bold red"
        cells = (check.name, check.found, check.remedy)
        table.add_row(Text(_verdict(check), style=style), *map(shown, cells))
    return table
