"""A process that is spoken to in lines, and that ends at a deadline with everything it started.

It has a process group of its own, which is killed whole. The kernel kills it when the trainer dies,
however that happens: a reward that hangs must not outlive its run.
"""

import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

# Runs in the child, between its start and the program; 1 is PR_SET_PDEATHSIG of prctl(2). The
# parent that died before the call is told by the change of its id.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.stderr.write(f"{sys.argv[2]}: {error.strerror}\\n")
    os._exit(127)
"""
_CHUNK = 1 << 16


@dataclass(slots=True)
class Heard:
    """What a child said: whole lines, and why there are no more of them (None: it was its turn).

    Attributes:
        lines: Without their line ends.
        problem: Nothing more could be heard; the child is dead.
        returncode: Its exit status where it ended by itself, as subprocess gives it.
    """

    lines: list[bytes] = field(default_factory=list)
    problem: str | None = None
    returncode: int | None = None


class Child:
    """One process; `close` it, or use it in a `with`."""

    def __init__(self, command: Sequence[str], directory: Path | None = None) -> None:
        """Start `command`; its stderr is ours.

        Raises:
            OSError: No process can be started.
        """
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launch, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            process_group=0,
            bufsize=0,
        )
        self._exited = os.pidfd_open(self._process.pid)
        self._rest = b""
        os.set_blocking(self._stdin.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _stdin(self) -> "IO[bytes]":
        assert self._process.stdin is not None  # noqa: S101 - opened by __init__
        return self._process.stdin

    @property
    def _stdout(self) -> "IO[bytes]":
        assert self._process.stdout is not None  # noqa: S101 - opened by __init__
        return self._process.stdout

    def talk(
        self,
        data: bytes,
        seconds: float,
        limit: int,
        is_last: Callable[[bytes], bool] | None = None,
    ) -> Heard:
        """Say `data`, and listen.

        Args:
            data: What goes to its stdin.
            seconds: From now to the deadline, at which it is killed.
            limit: Bytes that it may say, beyond which it is killed.
            is_last: Which line is its last for now. Without this, its stdin is closed behind
                `data`, and it is listened to until it has ended.
        """
        deadline = time.monotonic() + seconds
        heard = Heard()
        problem = self._exchange(data, deadline, limit, is_last, heard)
        if problem is None and is_last is None:
            problem = self._await_exit(deadline, heard)
        if problem is not None:
            heard.problem = f"no verdict within {seconds:g} s" if problem == "late" else problem
            self.close()
        return heard

    def _exchange(
        self,
        data: bytes,
        deadline: float,
        limit: int,
        is_last: Callable[[bytes], bool] | None,
        heard: Heard,
    ) -> str | None:
        """Write and read at once: either side may wait for the other."""
        pending, said = memoryview(data), 0
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready and time.monotonic() >= deadline:
                    return "late"
                for key, _ in ready:
                    if key.fileobj is self._stdin:
                        pending = pending[self._write(pending) :]
                        if not pending:
                            selector.unregister(self._stdin)
                            if is_last is None:
                                self._stdin.close()
                        continue
                    chunk = os.read(self._stdout.fileno(), _CHUNK)
                    if not chunk:
                        return self._ended(deadline, is_last, heard)
                    said += len(chunk)
                    if self._take(chunk, heard, is_last):
                        return None
                    if said > limit:
                        return f"it wrote more than {limit >> 20} MiB"
                if time.monotonic() >= deadline:
                    return "late"

    def _write(self, pending: memoryview) -> int:
        try:
            return os.write(self._stdin.fileno(), pending[:_CHUNK])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            # It does not read on, which is its right; its answers and its exit status count.
            return len(pending)

    def _take(self, chunk: bytes, heard: Heard, is_last: Callable[[bytes], bool] | None) -> bool:
        """Take what was read apart; whether the last line was among it."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        heard.lines += lines
        return is_last is not None and any(is_last(line) for line in lines)

    def _ended(
        self, deadline: float, is_last: Callable[[bytes], bool] | None, heard: Heard
    ) -> str | None:
        if is_last is None:
            if self._rest:
                heard.lines.append(self._rest)
                self._rest = b""
            return None
        return self._await_exit(deadline, heard) or f"it ended with {_spell(heard.returncode)}"

    def _await_exit(self, deadline: float, heard: Heard) -> str | None:
        if not select.select([self._exited], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return "late"
        self.close()
        heard.returncode = self._process.returncode
        if heard.returncode:
            return f"it ended with {_spell(heard.returncode)}"
        return None

    def close(self) -> None:
        """Kill what is left of its group."""
        if self._process.returncode is not None:
            return
        # Not waited for yet, so that the number is still its own; its group may outlive it.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._exited)
        for pipe in (self._stdin, self._stdout):
            pipe.close()


def _spell(returncode: int | None) -> str:
    code = returncode or 0
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
