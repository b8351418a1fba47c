"""Starting a program by `confine`, whose paths are the host's: for the sandboxes without bwrap."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.verify.confine import COMPLAINT, NOT_STARTED, Plan
from trainer.verify.errors import SandboxError
from trainer.verify.process import Process, run_to_end
from trainer.verify.sandbox import SYSTEM, SYSTEM_FILES, Finished, Limits, resource_limits

# Our own package, and nothing of what is installed: half the start.
_CONFINE = (sys.executable, "-S", "-P", "-m", "trainer.verify.confine")
_IMPORTS = {"PYTHONPATH": str(Path(__file__).parents[2])}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "2"}
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
    if writable is not None and uid is not None:
        os.chown(writable[0], uid, uid)
    mounts = _Mounts(dict(read_only or {}), writable)
    read_end, write_end = os.pipe()

    def end(keeper: Process) -> None:
        nonlocal write_end
        os.close(write_end)
        write_end = -1
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_KEEPER_S)

    try:
        plan = Plan(
            command=[mounts.on_host(argument) for argument in command],
            environment=_ENVIRONMENT | ({"TMPDIR": str(writable[0])} if writable else {}),
            directory=mounts.on_host(chdir),
            limits=list(resource_limits(limits).items()),
            uid=uid,
            readable=mounts.readable() if walls else None,
            writable=[str(writable[0])] if writable else [],
            reads_all=uid is not None and not mounts.are_open_to_all(but=command[0]),
            by_descriptor=command[0] in mounts.read_only.values(),
            control=read_end,
        )
        arguments = [*_CONFINE, plan.to_json()]
        done = run_to_end(arguments, limits, stdin, env=_IMPORTS, pass_fds=(read_end,), end=end)
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
    if done.returncode == NOT_STARTED and done.output.startswith(COMPLAINT.encode()):
        raise SandboxError(done.output.partition(b"\n")[0].decode("utf-8", "replace"))
    return done


@dataclass(frozen=True, slots=True)
class _Mounts:
    """Where on the host the sandbox's paths are: Sandbox.run's `read_only` and `writable`."""

    read_only: dict[Path, str]
    writable: tuple[Path, str] | None

    def on_host(self, argument: str) -> str:
        """`argument`, or the host's path where it is one of the sandbox."""
        for host, name in (*self.read_only.items(), *([self.writable] if self.writable else [])):
            if argument == name or argument.startswith(f"{name}/"):
                return f"{host}{argument[len(name) :]}"
        return argument

    def readable(self) -> list[str]:
        """Everything that may be read."""
        system = [path for path in (Path("/usr"), *SYSTEM, *SYSTEM_FILES) if path.exists()]
        return [str(path) for path in (*system, *self.read_only)]

    def are_open_to_all(self, *, but: str) -> bool:
        """Whether any user may read all of it, `but`, the program, left out: it is opened by us."""
        needed = [host for host, name in self.read_only.items() if name != but]
        if self.writable is not None:
            needed.append(self.writable[0].parent)
        return all(map(_is_open_to_all, needed))


def _is_open_to_all(path: Path) -> bool:
    """Whether any user may read it and pass all directories on the way."""
    real = path.resolve()
    if not real.exists():
        return True  # it fails to open, whoever tries
    wanted = 0o005 if real.is_dir() else 0o004
    passable = all(directory.stat().st_mode & 0o001 for directory in real.parents)
    return passable and real.stat().st_mode & wanted == wanted
