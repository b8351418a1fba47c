"""Running one program where it can harm nothing: bubblewrap plus rlimits.

Inside there is a read-only /usr, whatever is mounted explicitly, a private /tmp and nothing else:
no network, no environment, no process of the host. What the program may use up is bounded by
rlimits, how long it may take by a deadline, after which the whole sandbox is killed.

What is absent: no seccomp filter and no cgroup, so the kernel's own attack surface stays open.
"""

import os
import resource
import secrets
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.verify.errors import SandboxError, VerifierUnavailable

_MIB = 1 << 20
_NO_BWRAP = "bubblewrap is missing: `apt install bubblewrap` (or `--task arithmetic`)"
_NO_UTIL = "{} is missing: `apt install util-linux`"
# Their own messages are the only sign that the program never started.
_LAUNCHERS = (b"bwrap: ", b"setpriv: ", b"prlimit: ")
_SYSTEM = (Path("/bin"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/sbin"))
# Uids that no distribution, container manager or systemd hands out (systemd: UIDS-GIDS.md).
_FREE_UIDS = range(1_900_000_000, 2_100_000_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        cpu_s: CPU seconds of each of its processes, then SIGKILL; the host's load does not matter.
        wall_s: Seconds until the sandbox is killed. This one does depend on the host's load.
        memory: Bytes of address space of each process.
        file_size: Bytes of the largest file it may write.
        processes: Processes and threads at any one time.
        output: Bytes of stdout and stderr together, then the sandbox is killed.
    """

    cpu_s: int
    wall_s: float
    memory: int
    file_size: int
    processes: int
    output: int


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        returncode: Its exit status; 128 + N, or -N where the sandbox was killed, for a signal N.
        output: stdout and stderr in the order they came, at most `Limits.output` bytes.
        timed_out: It was killed at the wall deadline.
        truncated: It was killed because it wrote too much.
    """

    returncode: int
    output: bytes
    timed_out: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Starts programs in sandboxes; safe to use from several threads.

    Attributes:
        bwrap: bubblewrap.
        setpriv: util-linux's, which gives up root inside.
        prlimit: util-linux's, which sets the limits inside.
        uids: Where each sandbox gets a fresh uid from; None when not root.
    """

    bwrap: str
    setpriv: str
    prlimit: str
    uids: range | None

    @classmethod
    def find(cls) -> "Sandbox":
        """Find the programs, and try a sandbox out once.

        Raises:
            VerifierUnavailable: A program is missing, or this host does not allow sandboxes.
        """
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise VerifierUnavailable(_NO_BWRAP)
        tools = {}
        for name in ("setpriv", "prlimit"):
            # Looked up where the sandbox has them: it sees /usr and nothing else of the host.
            found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
            if found is None:
                raise VerifierUnavailable(_NO_UTIL.format(name))
            tools[name] = found
        uids = _free_uids(Path("/proc/self/uid_map").read_text("ascii")) if _is_root() else None
        sandbox = cls(bwrap, tools["setpriv"], tools["prlimit"], uids)
        limits = Limits(
            cpu_s=5, wall_s=30, memory=256 * _MIB, file_size=0, processes=1, output=4096
        )
        try:
            probe = sandbox.run(["/usr/bin/true"], limits)
        except SandboxError as problem:
            raise VerifierUnavailable(_unusable(str(problem))) from problem
        if probe.returncode != 0:
            raise VerifierUnavailable(_unusable(f"`true` exits with {probe.returncode}"))
        return sandbox

    def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        read_only: Mapping[Path, str] | None = None,
        writable: tuple[Path, str] | None = None,
        stdin: bytes = b"",
        chdir: str = "/",
    ) -> Finished:
        """Run `command` to its end, or kill it; nothing of it survives the call.

        Args:
            command: The program, by its absolute path inside, and its arguments.
            limits: What it may use.
            read_only: Host path -> path inside.
            writable: Host directory and path inside. As root its owner becomes the sandbox's uid.
            stdin: At most 4096 bytes (so that the pipe takes them at once), then end of file.
            chdir: Working directory inside.

        Raises:
            SandboxError: The program did not start; there is nothing to be said about it.
        """
        uid = None if self.uids is None else secrets.choice(self.uids)
        if writable is not None and uid is not None:
            os.chown(writable[0], uid, uid)
        arguments = [
            *self._walls(uid, read_only or {}, writable, chdir),
            *self._inside(uid, limits),
            *command,
        ]
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={},
                start_new_session=True,
                umask=0o022,  # a later sandbox, under another uid, executes what this one built
                bufsize=0,
            )
        except OSError as problem:
            raise SandboxError(f"bubblewrap did not start: {problem}") from problem
        finished = _collect(process, limits, stdin)
        if finished.returncode != 0 and finished.output.startswith(_LAUNCHERS):
            line = finished.output.partition(b"\n")[0].decode("utf-8", "replace")
            raise SandboxError(line)
        return finished

    def _walls(
        self,
        uid: int | None,
        read_only: Mapping[Path, str],
        writable: tuple[Path, str] | None,
        chdir: str,
    ) -> list[str]:
        """What exists inside: the part that bubblewrap does."""
        arguments = [self.bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"]
        arguments += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
        arguments += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "TMPDIR", "/tmp"]  # noqa: S108
        arguments += ["--setenv", "MALLOC_ARENA_MAX", "2", "--ro-bind", "/usr", "/usr"]
        for path in _SYSTEM:
            if path.is_symlink():
                arguments += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                arguments += ["--ro-bind", str(path), str(path)]
        for name in ("/etc/alternatives", "/etc/ld.so.cache"):
            arguments += ["--ro-bind-try", name, name]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777"]
        arguments += ["--size", str(64 * _MIB), "--tmpfs", "/tmp"]  # noqa: S108 - a private one
        for host, inside in read_only.items():
            arguments += ["--ro-bind", str(host), inside]
        if writable is not None:
            arguments += ["--bind", str(writable[0]), writable[1]]
        # Last: /dev and / are memory too, and would be writable for an ordinary user.
        arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", chdir]
        if uid is None:
            arguments += ["--unshare-user"]
        else:
            # A real uid change, in the host's own user namespace: see _inside.
            arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        return [*arguments, "--"]

    def _inside(self, uid: int | None, limits: Limits) -> list[str]:
        """The part that runs inside, before the program: give up root, set the limits.

        RLIMIT_NPROC never binds the host's root, however confined it is. So root becomes a uid
        that exists nowhere else, fresh for each sandbox, so that nobody else's processes count.
        An ordinary user stays itself in a new user namespace, where (since Linux 5.14) only the
        sandbox's own processes count, bubblewrap's init among them.
        """
        if uid is None:
            limits = replace(limits, processes=limits.processes + 1)
            drop = []
        else:
            drop = [self.setpriv, "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
            drop += ["--inh-caps=-all", "--no-new-privs", "--"]
        values = {
            "cpu": (resource.RLIMIT_CPU, limits.cpu_s),
            "as": (resource.RLIMIT_AS, limits.memory),
            "fsize": (resource.RLIMIT_FSIZE, limits.file_size),
            "nproc": (resource.RLIMIT_NPROC, limits.processes),
            "nofile": (resource.RLIMIT_NOFILE, 256),
            "stack": (resource.RLIMIT_STACK, 8 * _MIB),
            "core": (resource.RLIMIT_CORE, 0),
        }
        flags = [f"--{name}={_at_most_ours(which, n)}" for name, (which, n) in values.items()]
        return [*drop, self.prlimit, *flags, "--"]


def _collect(process: "subprocess.Popen[bytes]", limits: Limits, stdin: bytes) -> Finished:
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
        _kill(process)
    truncated = len(output) > limits.output
    return Finished(process.returncode, bytes(output[: limits.output]), timed_out, truncated)


def _feed(process: "subprocess.Popen[bytes]", stdin: bytes) -> None:
    """Write all of stdin, which fits into the pipe, and close it."""
    assert process.stdin is not None  # noqa: S101 - opened by run
    try:
        process.stdin.write(stdin)
    except BrokenPipeError:
        pass  # it ended first; its exit status says why
    finally:
        process.stdin.close()


def _read(
    process: "subprocess.Popen[bytes]", output: bytearray, limit: int, deadline: float
) -> bool:
    """Append to `output` until end of file or past `limit`; False when the deadline came first."""
    assert process.stdout is not None  # noqa: S101 - opened by run
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


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill bubblewrap's process group; its init dies with it, and takes all processes inside."""
    assert process.stdout is not None  # noqa: S101 - opened by run
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        process.wait()
    process.stdout.close()


def _is_root() -> bool:
    return os.geteuid() == 0


def _free_uids(uid_map: str) -> range | None:
    """Uids nobody has, by /proc/self/uid_map; None when root is the only uid there is.

    In a container's user namespace only some uids exist, and the topmost ones are unused.
    """
    ends = [int(fields[0]) + int(fields[2]) for fields in map(str.split, uid_map.splitlines())]
    end = min(max(ends, default=0), _FREE_UIDS.stop)
    if end == _FREE_UIDS.stop:
        return _FREE_UIDS
    # With root alone, the uid behind it is an ordinary user's, and RLIMIT_NPROC binds that.
    return range(end - end // 4, end) if end >= 1024 else None


def _at_most_ours(which: int, wanted: int) -> int:
    """`wanted`, or our own hard limit where that is lower: an ordinary user cannot raise it."""
    hard = resource.getrlimit(which)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _unusable(why: str) -> str:
    return (
        f"bubblewrap cannot make a sandbox here ({why!r}): allow user namespaces, or run as root"
        " outside a restricted container (or use `--task arithmetic`)"
    )
