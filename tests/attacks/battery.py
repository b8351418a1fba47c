"""Runs the attacks of programs.rs in a sandbox, and looks at the host after each.

As a program (`python battery.py PROGRAM KIND HOME`) it prints what was wrong as JSON, so
that it can run as another user; it needs `trainer.verify` and nothing that is not Python's own.
"""

import contextlib
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.sandbox import Finished, Limits, Sandbox
from trainer.verify.sandboxes import find_sandbox

LOOSE = Limits(
    cpu_s=1, wall_s=1.5, memory=128 << 20, file_size=1 << 20, processes=8, output=64 << 10
)
# What a test run gets: it may write nothing and start nothing.
STRICT = Limits(cpu_s=1, wall_s=1.5, memory=128 << 20, file_size=0, processes=1, output=64 << 10)
# They meet a deadline, which is the same in both.
_PATIENT = ("fork_bomb", "loop_forever", "sleep_forever", "close_everything_and_sleep")
SHARED = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev", "/usr", "/usr/bin", "/etc", "/run", "/home")  # noqa: S108
_SEGMENT = "1835104370"  # programs.rs: the key of share_memory


@dataclass(frozen=True)
class Host:
    """What is planted on the host, and what listens there."""

    secret: str
    secrets: tuple[Path, Path]
    victim: "subprocess.Popen[bytes]"
    listeners: tuple[socket.socket, ...]
    port: int
    socket_path: Path
    marker: str

    def problems(self) -> list[str]:
        """What an attack did to the host."""
        found = [f"changed {path}" for path in self.secrets if self._is_changed(path)]
        if self.victim.poll() is not None:
            found.append("the victim died")
        elif os.sched_getaffinity(self.victim.pid) != os.sched_getaffinity(0):
            found.append("the victim's affinity changed")
        ready, _, _ = select.select(self.listeners, [], [], 0)
        found += [f"somebody called {listener.getsockname()}" for listener in ready]
        places = {*map(Path, SHARED), *(path.parent for path in self.secrets), Path.cwd()}
        places |= {path.parent.parent for path in self.secrets}
        for place in places:
            with contextlib.suppress(OSError):
                found += [f"left {path}" for path in place.glob(f"{self.marker}-*")]
        with contextlib.suppress(OSError):
            if any(line.split()[0] == _SEGMENT for line in _lines("/proc/sysvipc/shm")):
                found.append("left a shared memory segment")
        return found + self._left_running()

    def _is_changed(self, path: Path) -> bool:
        if not path.is_file():
            return True
        found = path.stat()
        is_as_planted = (stat.S_IMODE(found.st_mode), found.st_mtime, found.st_uid) == (
            0o644,
            1e9,
            os.geteuid(),
        )
        return not is_as_planted or path.read_text() != self.secret

    def _left_running(self) -> list[str]:
        """A killed namespace is torn down within milliseconds, not within the call."""
        deadline = time.monotonic() + 5
        while (alive := list(_command_lines(self.marker))) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [f"left running: {line!r}" for line in alive]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:]


def _command_lines(marker: str) -> Iterator[str]:
    """Command lines with the marker, but our own."""
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if marker.encode() in line:
                    yield line.decode(errors="replace")


@contextlib.contextmanager
def host(home: Path) -> Iterator[Host]:
    """Plant a secret in /tmp, in `home`, in our environment and in another process's."""
    marker = f"maxrl-attack-{uuid.uuid4().hex[:12]}"
    secret = f"s3cr3t-{uuid.uuid4().hex}"
    os.environ["ATTACK_SECRET"] = secret
    with contextlib.ExitStack() as stack:
        places = []
        for parent in (None, home):
            place = Path(tempfile.mkdtemp(prefix="maxrl-planted-", dir=parent))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            place.chmod(0o755)
            (place / "secret").write_text(secret)
            (place / "secret").chmod(0o644)
            os.utime(place / "secret", (1e9, 1e9))
            places.append(place / "secret")
        victim = subprocess.Popen(["/usr/bin/sleep", "600"], env={"ATTACK_SECRET": secret})
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        path = places[0].with_name("socket")
        listeners = [
            socket.socket(socket.AF_INET, socket.SOCK_STREAM),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        ]
        for listener in listeners:
            stack.callback(listener.close)
        listeners[0].bind(("127.0.0.1", 0))
        port = listeners[0].getsockname()[1]
        listeners[1].bind(("127.0.0.1", port))
        listeners[2].bind(str(path))
        path.chmod(0o777)
        listeners[3].bind(f"\0{marker}")
        for listener in (listeners[0], *listeners[2:]):
            listener.listen()
        stack.callback(os.environ.pop, "ATTACK_SECRET")
        yield Host(secret, (places[0], places[1]), victim, tuple(listeners), port, path, marker)


def attack(sandbox: Sandbox, program: Path, name: str, target: Host, limits: Limits) -> list[str]:
    """Run one attack; what it did that it must not."""
    output_dir = Path(tempfile.mkdtemp(prefix="maxrl-battery-"))
    facts = [*map(str, target.secrets), str(target.victim.pid), str(target.port)]
    facts += [str(target.socket_path), target.marker]
    start = time.monotonic()
    try:
        done = sandbox.run(
            ["/programs", name, *facts],
            limits,
            read_only={program: "/programs"},
            writable=(output_dir, "/out") if limits.file_size else None,
        )
    except SandboxError as problem:
        return [f"did not start: {problem}"]
    finally:
        elapsed = time.monotonic() - start
        shutil.rmtree(output_dir, ignore_errors=True)
    found = said(done, target.secret, limits) + target.problems()
    if not done.output.startswith(f"BEGIN {name}\n".encode()):
        found.append(f"never began: {done}")
    if elapsed > limits.wall_s + 1:
        found.append(f"took {elapsed:.1f} s")
    return found


def said(done: Finished, secret: str, limits: Limits) -> list[str]:
    """What the program's own words give away."""
    text = done.output.decode(errors="replace")
    found = [line for line in text.splitlines() if "BREACH" in line]
    if secret in text:
        found.append("read the secret")
    for line in text.splitlines():
        if line.startswith("children ") and int(line.split()[1]) >= limits.processes:
            found.append(f"{line} at a limit of {limits.processes}")  # noqa: PERF401
    return found


def names(program: Path, limits: Limits) -> list[str]:
    """Every attack that is worth trying at these limits."""
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    left_out = _PATIENT if limits == STRICT else ()
    return [name for name in listed.stdout.split() if name not in left_out]


def run(
    kind: str, program: Path, home: Path, chosen: list[str], limits: Limits
) -> dict[str, list[str]]:
    """What was wrong, by attack; those that were held are not named."""
    sandbox = find_sandbox(kind)
    wrong = {}
    with host(home) as target:
        assert target.problems() == []
        for name in chosen:
            if found := attack(sandbox, program, name, target, limits):
                wrong[name] = found
    return wrong


if __name__ == "__main__":
    given, kind, home = sys.argv[1:]
    result: dict[str, list[str]] = {}
    try:
        for each in (LOOSE, STRICT):
            result |= run(kind, Path(given), Path(home), names(Path(given), each), each)
        json.dump(result, sys.stdout)
    except VerifierUnavailable as problem:
        sys.exit(f"unavailable: {problem}")
