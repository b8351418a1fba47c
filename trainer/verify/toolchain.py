"""Finding a Rust compiler, past rustup's proxy."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trainer.verify.errors import VerifierUnavailable

_NO_RUSTC = (
    "rustc is missing: install it from https://rustup.rs or with `apt install rustc`"
    " (`--task arithmetic` needs no toolchain)"
)
_NO_LINKER = "a C linker (cc) is missing, which rustc needs: `apt install gcc libc6-dev`"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A Rust toolchain on this host.

    Attributes:
        sysroot: The directory that holds `bin/rustc` and the standard library.
        version: All of `rustc -vV`, so that a cached verdict never outlives its compiler.
        linker: The C compiler that links, with no symbolic link left in its path.
    """

    sysroot: Path
    version: str
    linker: Path

    @classmethod
    def find(cls) -> "Toolchain":
        """Ask the `rustc` on PATH (or in ~/.cargo/bin) for its sysroot.

        The real binary starts 20 ms faster than rustup's proxy, and needs no ~/.rustup to run.

        Raises:
            VerifierUnavailable: There is no rustc, it does not run, or there is no linker.
        """
        rustup = os.path.expanduser("~/.cargo/bin")  # noqa: PTH111 - Path's own raises for nobody's
        rustc = shutil.which("rustc") or shutil.which("rustc", path=rustup)
        if rustc is None:
            raise VerifierUnavailable(_NO_RUSTC)
        sysroot = Path(_ask(rustc, "--print", "sysroot").strip())
        real = sysroot / "bin" / "rustc"
        if not real.is_file():
            raise VerifierUnavailable(f"no compiler at {str(real)!r}: {_NO_RUSTC}")
        linker = shutil.which("cc")
        if linker is None:
            raise VerifierUnavailable(_NO_LINKER)
        # Resolved, because /etc/alternatives may not be there inside the sandbox.
        return cls(sysroot, _ask(str(real), "-vV"), Path(linker).resolve())


def _ask(rustc: str, *arguments: str) -> str:
    """What `rustc` answers; from /, so that no rust-toolchain.toml changes whom rustup calls."""
    try:
        done = subprocess.run(
            [rustc, *arguments], cwd="/", capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as problem:
        detail = getattr(problem, "stderr", None) or str(problem)
        line = detail.strip().partition("\n")[0]
        raise VerifierUnavailable(f"{rustc} does not run ({line!r}): {_NO_RUSTC}") from problem
    return done.stdout
