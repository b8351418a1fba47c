"""`python -P -m trainer.verify.doctor`: can this host judge Rust, and does its sandbox hold?

Prints a JSON list of checks. The sandbox is not believed but tried: with attacks that need nothing
but a shell, so that it is proven where there is no compiler too. tests/attacks has the long list.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.sandbox import MIB, Finished, Limits, Sandbox
from trainer.verify.sandboxes import WALLED, find_sandbox
from trainer.verify.toolchain import Toolchain

_LIMITS = Limits(cpu_s=2, wall_s=5, memory=128 * MIB, file_size=MIB, processes=6, output=64 << 10)
_BRIEF = Limits(cpu_s=2, wall_s=0.5, memory=128 * MIB, file_size=MIB, processes=6, output=64 << 10)
_PLANTED_ENV = "MAXRL_DOCTOR_SECRET"
_DISTRUST = "do not train on Rust here: report this with the output of maxrl-ops doctor --json"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Attributes:
        name: What was looked at.
        ok: It is as it has to be.
        found: What there is.
        remedy: What to do where it is not ok; a hint where it is.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Planted:
    """What the attacks are after.

    Attributes:
        secret: A word that nobody inside may get to know.
        place: A directory for everybody, with the secret in its file `secret`.
        port: Where the listener is.
        victim: A process that must live.
        marker: Names of files and arguments that must be gone.
    """

    secret: str
    place: Path
    port: int
    listener: socket.socket
    victim: "subprocess.Popen[bytes]"
    marker: str


@dataclass(frozen=True, slots=True)
class _Attack:
    """A shell script, and what must be true once it has ended."""

    name: str
    script: str
    held: Callable[[Finished, _Planted], bool]
    limits: Limits = _LIMITS
    program: str = "/bin/sh"


# {place}, {port}, {victim} and {marker} are _Planted's.
_ATTACKS = (
    _Attack(
        "read a secret file",
        "cat {place}/secret /proc/1/root{place}/secret /proc/{victim}/root{place}/secret",
        lambda done, planted: planted.secret.encode() not in done.output,
    ),
    _Attack(
        "read a secret in the environment",
        "env; cat /proc/[0-9]*/environ",
        lambda done, planted: planted.secret.encode() not in done.output,
    ),
    _Attack(
        "reach the network",
        "echo {marker} > /dev/tcp/127.0.0.1/{port}",
        lambda _, planted: not _was_called(planted.listener),
        program="/bin/bash",
    ),
    _Attack(
        "write outside",
        "for d in {place} {home} / /usr /tmp /var/tmp /dev/shm; do"
        " echo x > $d/{marker}; ln -s /etc/passwd $d/{marker}-link; done",
        lambda _, planted: not list(_left(planted)),
    ),
    _Attack(
        "kill a process of the host",
        "kill -9 {victim}; kill -9 -{victim}; kill -9 $PPID",
        lambda _, planted: planted.victim.poll() is None,
    ),
    _Attack(
        "start more processes than allowed",
        "i=0; while [ $i -lt 60 ]; do sleep 600 & i=$((i+1)); echo started; done",
        lambda done, _: 0 < done.output.count(b"started") < _LIMITS.processes + 1,
    ),
    _Attack(
        "take more memory than allowed",
        "head -c 1000000000 /dev/zero | tail | wc -c",
        lambda done, _: b"1000000000" not in done.output,
    ),
    _Attack(
        "print without end",
        "yes {marker}",
        lambda done, _: len(done.output) <= _LIMITS.output,
    ),
    _Attack(
        "outlive the deadline",
        "trap '' TERM HUP INT; (setsid sh -c 'sleep 600' {marker} &) ; sh -c 'sleep 600' {marker}",
        lambda done, planted: done.timed_out and _is_gone(planted.marker),
        _BRIEF,
    ),
    _Attack(
        "leave a process behind",
        "(setsid sh -c 'sleep 600; :' {marker} > /dev/null 2>&1 &); exit 0",
        lambda _, planted: _is_gone(planted.marker),
    ),
)


def check_toolchain() -> list[Check]:
    """The compiler and the linker."""
    try:
        found = Toolchain.find()
    except VerifierUnavailable as problem:
        return [Check("rust", False, "cannot be used", str(problem))]
    version = found.version.partition("\n")[0]
    return [Check("rust", True, f"{version}, linker {found.linker}")]


def check_sandbox(kind: str | None = None) -> list[Check]:
    """Which sandbox is in force, and whether each attack is held."""
    try:
        sandbox = find_sandbox(kind)
    except VerifierUnavailable as problem:
        return [Check("sandbox", False, "none works", str(problem))]
    user = "an ordinary user" if os.geteuid() else "root, who becomes nobody inside"
    checks = [Check("sandbox", True, f"{sandbox.kind}, as {user}", _why_not_the_best(sandbox))]
    with ExitStack() as stack:
        planted = _plant(stack)
        checks += [_try(sandbox, attack, planted) for attack in _ATTACKS]
    return checks


def _why_not_the_best(sandbox: Sandbox) -> str:
    if sandbox.kind == "bubblewrap":
        return ""
    try:
        find_sandbox("bubblewrap")
    except VerifierUnavailable as problem:
        return str(problem)
    return ""


def _plant(stack: ExitStack) -> _Planted:
    secret = uuid.uuid4().hex
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maxrl-doctor-")))
    place.chmod(0o755)
    (place / "secret").write_text(secret)
    (place / "secret").chmod(0o644)
    os.environ[_PLANTED_ENV] = secret
    stack.callback(os.environ.pop, _PLANTED_ENV)
    victim = subprocess.Popen(
        ["/usr/bin/sleep", "600"], env={_PLANTED_ENV: secret}, start_new_session=True
    )
    stack.callback(victim.wait)
    stack.callback(victim.kill)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.setblocking(False)
    marker = f"maxrl-doctor-{uuid.uuid4().hex[:12]}"
    return _Planted(secret, place, listener.getsockname()[1], listener, victim, marker)


def _try(sandbox: Sandbox, attack: _Attack, planted: _Planted) -> Check:
    name = f"attack: {attack.name}"
    if not Path(attack.program).exists():
        return Check(name, True, f"not tried: there is no {attack.program}")
    script = attack.script.format(
        place=planted.place,
        home=Path.home(),
        port=planted.port,
        victim=planted.victim.pid,
        marker=planted.marker,
    )
    began = time.monotonic()
    try:
        done = sandbox.run([attack.program, "-c", script], attack.limits)
    except SandboxError as problem:
        return Check(name, False, f"the sandbox failed: {problem}", _DISTRUST)
    if time.monotonic() - began > attack.limits.wall_s + 1:
        return Check(name, False, "it ran past its deadline", _DISTRUST)
    if not attack.held(done, planted):
        return Check(name, False, "it got through", _DISTRUST)
    return Check(name, True, "held")


def _was_called(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _left(planted: _Planted) -> Iterator[Path]:
    """Files with the marker in places where a host's files are; they are removed."""
    for place in ("/", "/usr", "/tmp", "/var/tmp", "/dev/shm", Path.home(), planted.place):  # noqa: S108
        with suppress(OSError):
            for path in list(Path(place).glob(f"{planted.marker}*")):
                path.unlink()
                yield path


def _is_gone(marker: str) -> bool:
    """Whether no process has the marker among its arguments, or soon has none."""
    deadline = time.monotonic() + 3
    while any(marker in line for line in _command_lines()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _command_lines() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / "cmdline").read_bytes().decode("utf-8", "replace")


def main() -> None:
    """Print the checks; an argument names the kind of sandbox."""
    kind = sys.argv[1] if len(sys.argv) > 1 else None
    if kind is not None and kind not in WALLED:
        sys.exit(f"there is no sandbox {kind!r} to try: give {' or '.join(WALLED)}")
    checks = [*check_toolchain(), *check_sandbox(kind)]
    json.dump([asdict(check) for check in checks], sys.stdout)


if __name__ == "__main__":
    main()
