"""Starting a program by `confine`, whose paths are the host's: for the sandboxes without bwrap."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trainer.verify.confine import COMPLAINT, NOT_STARTED, Plan
from trainer.verify.errors import SandboxError
from trainer.verify.process import Process, run_to_end
from trainer.verify.sandbox import SYSTEM, SYSTEM_FILES, Finished, Limits, resource_limits

# Our own package, and nothing of what is installed: half the start.
_CONFINE = (sys.executable, "-S", "-P", "-m", "trainer.verify.confine")
_IMPORTS = {"PYTHONPATH": str(Path(__file__).parents[2])}
# What the keeper gets for killing what it started.
_KEEPER_S = 5.0


def run_confined(
    command: Sequence[str],
    limits: Limits,
    *,
    read_only: Mapping[Path, str] | None,
    writable: tuple[Path, str] | None,
    stdin: bytes,
    chdir: str,
    uid: int | None,
    walls: bool,
) -> Finished:
    """Sandbox.run, as the user `uid`, with Landlock and a seccomp filter where `walls` says so.

    Raises:
        SandboxError: The program did not start.
    """
    inside = {name: host for host, name in (read_only or {}).items()}
    by_descriptor = command[0] in inside
    needed = [
        path for path in inside.values() if not (by_descriptor and path == inside[command[0]])
    ]
    environment = {"PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "2"}
    if writable is not None:
        inside[writable[1]] = writable[0]
        environment["TMPDIR"] = str(writable[0])
        if uid is not None:
            os.chown(writable[0], uid, uid)
        needed.append(writable[0].parent)
    read_end, write_end = os.pipe()
    plan = Plan(
        command=[_on_host(argument, inside) for argument in command],
        environment=environment,
        directory=_on_host(chdir, inside),
        limits=list(resource_limits(limits).items()),
        uid=uid,
        readable=_readable(read_only or {}) if walls else None,
        writable=[str(writable[0])] if writable is not None else [],
        reads_all=uid is not None and not all(map(_open_to_all, needed)),
        by_descriptor=by_descriptor,
        control=read_end,
    )

    def end(keeper: Process) -> None:
        nonlocal write_end
        os.close(write_end)
        write_end = -1
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_KEEPER_S)

    try:
        arguments = [*_CONFINE, plan.to_json()]
        done = run_to_end(arguments, limits, stdin, env=_IMPORTS, pass_fds=(read_end,), end=end)
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
    if done.returncode == NOT_STARTED and done.output.startswith(COMPLAINT.encode()):
        raise SandboxError(done.output.partition(b"\n")[0].decode("utf-8", "replace"))
    return done


def _on_host(argument: str, inside: Mapping[str, Path]) -> str:
    """`argument`, or the host's path where it is one of the sandbox."""
    for name, host in inside.items():
        if argument == name or argument.startswith(f"{name}/"):
            return f"{host}{argument[len(name) :]}"
    return argument


def _readable(read_only: Mapping[Path, str]) -> list[str]:
    system = [path for path in (Path("/usr"), *SYSTEM, *SYSTEM_FILES) if path.exists()]
    return [str(path) for path in (*system, *read_only)]


def _open_to_all(path: Path) -> bool:
    """Whether any user may read it and pass all directories on the way."""
    real = path.resolve()
    if not real.exists():
        return True  # it fails to open, whoever tries
    wanted = 0o005 if real.is_dir() else 0o004
    passable = all(directory.stat().st_mode & 0o001 for directory in real.parents)
    return passable and real.stat().st_mode & wanted == wanted
