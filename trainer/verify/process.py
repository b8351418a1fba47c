"""One process from its start to its certain end, with an eye on the clock and on its output."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from trainer.verify.errors import SandboxError
from trainer.verify.sandbox import Finished, Limits

Process = subprocess.Popen[bytes]


def run_to_end(
    arguments: Sequence[str],
    limits: Limits,
    stdin: bytes,
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    end: Callable[[Process], None] | None = None,
) -> Finished:
    """Start a program in a session of its own, and read it until its end or its deadline.

    Args:
        arguments: The program and its arguments.
        limits: Of these, the wall deadline and the amount of output are kept here.
        stdin: What it reads.
        env: Its environment; empty by default.
        pass_fds: Descriptors that it inherits.
        end: Asked to end it, before its process group is killed.

    Raises:
        SandboxError: It did not start.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env or {}),
            pass_fds=pass_fds,
            start_new_session=True,
            umask=0o022,  # a later sandbox, under another uid, executes what this one built
            bufsize=0,
        )
    except OSError as problem:
        raise SandboxError(f"{arguments[0]} did not start: {problem}") from problem
    return _collect(process, limits, stdin, end)


def _collect(
    process: Process, limits: Limits, stdin: bytes, end: Callable[[Process], None] | None
) -> Finished:
    """Feed and read the process until it closes its output, writes too much, or is too late."""
    deadline = time.monotonic() + limits.wall_s
    output = bytearray()
    timed_out = False
    try:
        _feed(process, stdin)
        timed_out = not _read(process, output, limits.output, deadline)
        if not timed_out and len(output) <= limits.output:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                timed_out = True
    finally:
        _kill(process, end)
    truncated = len(output) > limits.output
    return Finished(process.returncode, bytes(output[: limits.output]), timed_out, truncated)


def _feed(process: Process, stdin: bytes) -> None:
    """Write all of stdin, which fits into the pipe, and close it."""
    assert process.stdin is not None  # noqa: S101 - opened by run_to_end
    try:
        process.stdin.write(stdin)
    except BrokenPipeError:
        pass  # it ended first; its exit status says why
    finally:
        process.stdin.close()


def _read(process: Process, output: bytearray, limit: int, deadline: float) -> bool:
    """Append to `output` until end of file or past `limit`; False when the deadline came first."""
    assert process.stdout is not None  # noqa: S101 - opened by run_to_end
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(output) <= limit:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return True
            output += chunk
    return True


def _kill(process: Process, end: Callable[[Process], None] | None) -> None:
    """Kill the process group of what was started; what else there is, is the sandbox's to end."""
    assert process.stdout is not None  # noqa: S101 - opened by run_to_end
    if process.poll() is None and end is not None:
        end(process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        process.wait()
    process.stdout.close()
