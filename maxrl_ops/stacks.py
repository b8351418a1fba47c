"""What every thread of a trainer that stands still is doing, for whoever asks why it did."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from maxrl_ops import reaping
from maxrl_ops.attempt import open_for_appending
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec, utc_now
from maxrl_ops.wire.rundir import RunDir

_MOST_BYTES = 1 << 20
_MOST_PROCESSES = 64
_PY_SPY_SECONDS = 5.0


def dump(run: RunDir, spec: RunSpec, leader: ProcessIdentity) -> None:
    """Ask every process of the trainer for its stacks, which go to stacks.log.

    Those of its group, and those that a launcher has put into a group of their own (torchrun).
    Our own trainer writes them on SIGUSR1; to a command of somebody's own that signal may mean
    anything, mostly death, so it gets none. py-spy needs nobody's help, where it is installed.
    """
    pids = sorted({*_group(leader.pid), *reaping.marked(run)})[:_MOST_PROCESSES]
    _begin(run, pids)
    py_spy = shutil.which("py-spy")
    for pid in pids:
        if not spec.command and _catches(pid, signal.SIGUSR1):
            with suppress(OSError):
                os.kill(pid, signal.SIGUSR1)
        elif py_spy is not None:
            _ask_py_spy(py_spy, pid, run)


def _begin(run: RunDir, pids: list[int]) -> None:
    with suppress(OSError):
        descriptor = open_for_appending(run.stacks)
        try:
            if os.fstat(descriptor).st_size > _MOST_BYTES:
                os.ftruncate(descriptor, 0)
            named = ", ".join(map(str, pids))
            os.write(descriptor, f"--- {utc_now()} stalled: pids {named}\n".encode())
        finally:
            os.close(descriptor)


def _group(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal: without one it would die of it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            key, _, value = line.partition(":")
            if key == "SigCgt":
                return bool(int(value, 16) >> (number - 1) & 1)
    return False


def _ask_py_spy(program: str, pid: int, run: RunDir) -> None:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "dump", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PY_SPY_SECONDS,
            check=False,
        )
        descriptor = open_for_appending(run.stacks)
        try:
            os.write(descriptor, done.stdout[: _MOST_BYTES // _MOST_PROCESSES])
        finally:
            os.close(descriptor)
