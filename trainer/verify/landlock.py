"""The sandbox for hosts where bubblewrap does not work: Landlock, a seccomp filter, rlimits.

It takes no privilege, so it stands in containers and where user namespaces are forbidden. What it
lacks against bubblewrap is in docs/sandbox.md: above all, the program sees which files exist.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.verify import ruleset, seccomp
from trainer.verify.errors import VerifierUnavailable
from trainer.verify.launching import run_confined
from trainer.verify.sandbox import Finished, Limits, own_free_uids

# Without the second version a compiler cannot rename between two directories of its own.
_VERSION = 2


@dataclass(frozen=True, slots=True)
class Landlock:
    """The sandbox by Landlock.

    Attributes:
        uids: Where each sandbox gets a fresh uid from; None when not root.
    """

    uids: range | None

    kind = "landlock"

    @classmethod
    def find(cls) -> "Landlock":
        """See whether the kernel can do it.

        Raises:
            VerifierUnavailable: It cannot.
        """
        found = ruleset.version()
        if found < _VERSION:
            what = f"version {found} of Landlock" if found else "no Landlock"
            raise VerifierUnavailable(f"this kernel has {what} (Linux 5.19 has version {_VERSION})")
        if seccomp.program() is None:
            raise VerifierUnavailable("no seccomp filter is written for this processor")
        return cls(own_free_uids())

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
        return run_confined(
            command,
            limits,
            read_only=read_only,
            writable=writable,
            stdin=stdin,
            chdir=chdir,
            uid=None if self.uids is None else secrets.choice(self.uids),
            walls=True,
        )
