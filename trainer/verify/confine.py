"""`python -S -P -m trainer.verify.confine PLAN`: one program, confined and then outlived.

The first process stays outside as the keeper: whatever the program leaves running is its to kill,
also when whoever started it has died, which it learns by a pipe. The second one confines itself
and becomes the program. Standard library only: this starts for every test run.
"""

import ctypes
import json
import os
import resource
import select
import signal
import stat
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trainer.verify import ruleset, seccomp
from trainer.verify.ruleset import Access

COMPLAINT = "confine: "
NOT_STARTED = 126
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PR_SET_SECUREBITS, _NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
# What the keeper may take to see the last process die; less than it is given itself.
_PATIENCE_S = 4.0


class Plan(NamedTuple):
    """What to run, and what is allowed.

    Attributes:
        command: The program and its arguments, all paths the host's.
        environment: Its whole environment.
        directory: Its working directory.
        limits: RLIMIT_* and its value, in pairs.
        uid: Who it becomes; None: it stays who we are.
        readable, writable: Paths below which it may read and execute, or write; None for both
            where nothing is walled off.
        reads_all: It may read what is readable above even where its uid may not.
        by_descriptor: The program is opened before the walls stand, and made executable.
        control: The descriptor that ends when our starter does.
    """

    command: list[str]
    environment: dict[str, str]
    directory: str
    limits: list[tuple[int, int]]
    uid: int | None
    readable: list[str] | None
    writable: list[str] | None
    reads_all: bool
    by_descriptor: bool
    control: int

    def to_json(self) -> str:
        """As an argument."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Back from it."""
        return cls(**json.loads(text))


def main() -> int:
    """Run the plan; the program's exit status, 128 + N for a signal N."""
    plan = Plan.from_json(sys.argv[1])
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ended, ended_write = os.pipe()
    os.set_blocking(ended_write, False)
    signal.set_wakeup_fd(ended_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    program = os.fork()
    if program == 0:
        _become(plan)
    # Its end of file is what tells the reader that the program, with all its children, is gone.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    status = _wait(program, ended, plan.control)
    _kill_all(plan.uid)
    if status is None:
        return 128 + signal.SIGKILL
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(program: int, ended: int, control: int) -> int | None:
    """The program's wait status; None when the control pipe's end came first."""
    while True:
        ready, _, _ = select.select([ended, control], [], [])
        if ended in ready:
            os.read(ended, 4096)
            # Orphans that came to us are reaped by the way.
            while (found := _reap()) is not None:
                if found[0] == program:
                    return found[1]
        if control in ready:
            return None


def _reap() -> tuple[int, int] | None:
    """(pid, status) of a child that has ended; None when none has."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _kill_all(uid: int | None) -> None:
    """Kill our descendants until there is none; orphans among them come to us, the subreaper."""
    deadline = time.monotonic() + _PATIENCE_S
    while _has_children() and time.monotonic() < deadline:
        if uid is not None:
            _kill_user(uid)
        else:
            _kill_descendants()
        time.sleep(0.001)


def _has_children() -> bool:
    """Whether there are any, once those that have ended are reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _kill_user(uid: int) -> None:
    """Kill all processes of a uid that is nobody else's, at one instant: no fork can outrun it."""
    killer = os.fork()
    if killer == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(killer, 0)


def _kill_descendants() -> None:
    """Stop all of them, and only then kill: a stopped fork bomb still takes up its own limit."""
    stopped: set[int] = set()
    while new := _descendants() - stopped:
        stopped |= new
        _signal(new, signal.SIGSTOP)
    _signal(stopped, signal.SIGKILL)


def _signal(processes: set[int], number: int) -> None:
    for pid in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants() -> set[int]:
    """Our children and theirs: read off each process's parent, as not every kernel lists them."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            # Behind the last parenthesis, which ends the name: state, parent.
            parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1]
            parents[int(process.name)] = int(parent)
    found: set[int] = set()
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation} - found
        found |= generation
    return found


def _become(plan: Plan) -> None:
    """Confine this process, and replace it by the program; never returns."""
    try:
        os.close(plan.control)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):  # as Python has them set
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.chdir(plan.directory)
        program = _open_program(plan.command[0]) if plan.by_descriptor else plan.command[0]
        limits = _limits(plan)
        if plan.readable is not None and plan.writable is not None:
            _raise_walls(plan.readable, plan.writable)
        if plan.uid is not None:
            _drop_root(plan.uid, plan.reads_all)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the uid, whose change forgets it
        if plan.readable is not None:
            _filter_calls()
        for which, value in limits:
            resource.setrlimit(which, (value, value))
        os.execve(program, plan.command, plan.environment)  # noqa: S606 - the point of it all
    except (OSError, ValueError) as problem:
        os.write(1, f"{COMPLAINT}{plan.command[0]}: {problem}\n".encode(errors="replace"))
    finally:
        os._exit(NOT_STARTED)


def _limits(plan: Plan) -> list[tuple[int, int]]:
    """The plan's limits, where an ordinary user's limit on processes counts all that it has."""
    limits = dict(plan.limits)
    processes = limits[resource.RLIMIT_NPROC]
    # One means: no fork at all. That many the user has anyway, with us.
    if plan.uid is None and processes > 1:
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        processes += _tasks_of(os.getuid())
        limits[resource.RLIMIT_NPROC] = processes if hard < 0 else min(processes, hard)
    return list(limits.items())


def _open_program(path: str) -> int:
    """A descriptor to execute; a linker that may not change modes has left it unexecutable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and mode & 0o111 != 0o111:
        os.fchmod(descriptor, 0o755)
    return descriptor


def _tasks_of(uid: int) -> int:
    """Processes and threads of a user but this one, all of which RLIMIT_NPROC counts."""
    count = -1
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == uid:
                count += len(list((process / "task").iterdir()))
    return max(0, count)


def _raise_walls(readable: list[str], writable: list[str]) -> None:
    beneath = dict.fromkeys(readable, Access.READ) | dict.fromkeys(writable, Access.WRITE)
    beneath[os.devnull] = Access.READ_FILE | Access.WRITE_FILE
    for device in ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"):
        beneath[device] = Access.READ_FILE
    ruleset.restrict(beneath)


def _filter_calls() -> None:
    code = seccomp.program(sharing_as=os.getpid())
    if code is None:
        raise OSError("no seccomp filter is written for this processor")
    seccomp.install(code)


def _drop_root(uid: int, reads_all: bool) -> None:
    """Become `uid`, which owns nothing; keep at most the right to pass permissions by.

    Of that right the walls leave little: it opens what they leave readable, such as a toolchain in
    root's home, and nothing else.
    """
    if reads_all:
        # Capabilities then stay until _keep takes them, and access(2) counts them.
        _prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if reads_all and not (_keep(_CAP_DAC_READ_SEARCH) or _keep(_CAP_DAC_OVERRIDE)):
        raise OSError("what it needs lies where only root may read (such as root's home)")


def _keep(capability: int) -> bool:
    """Leave ourselves and what we execute this one capability; whether that can be."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    only = 1 << capability
    if libc.capset(header, struct.pack("<6I", only, only, only, 0, 0, 0)) != 0:
        return False
    return int(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)) == 0


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    sys.exit(main())
