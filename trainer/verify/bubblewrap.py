"""The sandbox that is wanted: namespaces by bubblewrap, a seccomp filter, and rlimits.

Inside there is a read-only /usr, whatever is mounted explicitly, a private /tmp and nothing else:
no network, no environment, no process of the host. What the program may use up is bounded by
rlimits, how long it may take by a deadline, after which the whole sandbox is killed.
"""

import os
import resource
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.verify import seccomp
from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.process import run_to_end
from trainer.verify.sandbox import (
    MIB,
    SYSTEM,
    SYSTEM_FILES,
    Finished,
    Limits,
    own_free_uids,
    resource_limits,
)

_NO_BWRAP = "bubblewrap is missing: `apt install bubblewrap`"
_NO_UTIL = "{} is missing: `apt install util-linux`"
# Their own messages are the only sign that the program never started.
_LAUNCHERS = (b"bwrap: ", b"setpriv: ", b"prlimit: ")
_PRLIMIT_FLAGS = {
    resource.RLIMIT_CPU: "cpu",
    resource.RLIMIT_AS: "as",
    resource.RLIMIT_FSIZE: "fsize",
    resource.RLIMIT_NPROC: "nproc",
    resource.RLIMIT_NOFILE: "nofile",
    resource.RLIMIT_STACK: "stack",
    resource.RLIMIT_CORE: "core",
}


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The sandbox by bubblewrap.

    Attributes:
        bwrap: bubblewrap.
        setpriv: util-linux's, which gives up root inside.
        prlimit: util-linux's, which sets the limits inside.
        uids: Where each sandbox gets a fresh uid from; None when not root.
        seccomp: The filter's program; None where none is written for the processor.
    """

    bwrap: str
    setpriv: str
    prlimit: str
    uids: range | None
    seccomp: bytes | None

    kind = "bubblewrap"

    @classmethod
    def find(cls) -> "Bubblewrap":
        """Find the programs.

        Raises:
            VerifierUnavailable: A program is missing.
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
        return cls(bwrap, tools["setpriv"], tools["prlimit"], own_free_uids(), seccomp.program())

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
        """See Sandbox.run."""
        uid = None if self.uids is None else secrets.choice(self.uids)
        if writable is not None and uid is not None:
            os.chown(writable[0], uid, uid)
        walls = self._walls(uid, read_only or {}, writable, chdir)
        inside = [*self._inside(uid, limits), *command]
        with seccomp.as_file(self.seccomp or b"") as descriptor:
            refuse = ["--seccomp", str(descriptor)] if self.seccomp else []
            arguments = [*walls, *refuse, "--", *inside]
            finished = run_to_end(arguments, limits, stdin, pass_fds=(descriptor,))
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
        for path in SYSTEM:
            if path.is_symlink():
                arguments += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                arguments += ["--ro-bind", str(path), str(path)]
        for path in SYSTEM_FILES:
            arguments += ["--ro-bind-try", str(path), str(path)]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777"]
        arguments += ["--size", str(64 * MIB), "--tmpfs", "/tmp"]  # noqa: S108 - a private one
        for host, inside in read_only.items():
            arguments += ["--ro-bind", str(host), inside]
        if writable is not None:
            arguments += ["--bind", str(writable[0]), writable[1]]
        if uid is None:
            # bubblewrap's init would be a process of the same user to take over: one without
            # limits and filter, which could also forget to die with its parent.
            arguments += ["--tmpfs", "/proc/1", "--remount-ro", "/proc/1", "--unshare-user"]
        else:
            # A real uid change, in the host's own user namespace: see _inside.
            arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        # Last: /dev and / are memory too, and would be writable for an ordinary user.
        return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", chdir]

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
        values = resource_limits(limits)
        flags = [f"--{name}={values[which]}" for which, name in _PRLIMIT_FLAGS.items()]
        return [*drop, self.prlimit, *flags, "--"]
