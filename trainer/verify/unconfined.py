"""No sandbox: rlimits and a deadline, for who said --unsafe-no-sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.verify.launching import run_confined
from trainer.verify.sandbox import Finished, Limits


@dataclass(frozen=True, slots=True)
class Unconfined:
    """Programs run as we do; they read, write and reach whatever we can."""

    kind = "none"

    @classmethod
    def find(cls) -> "Unconfined":
        """It needs nothing."""
        return cls()

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
            uid=None,
            walls=False,
        )
