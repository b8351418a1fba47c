"""Choosing a sandbox: bubblewrap, else Landlock, else none, which somebody has to ask for."""

from collections.abc import Callable, Mapping

from trainer.verify.bubblewrap import Bubblewrap
from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.landlock import Landlock
from trainer.verify.sandbox import MIB, Limits, Sandbox
from trainer.verify.unconfined import Unconfined

KINDS: Mapping[str, Callable[[], Sandbox]] = {
    "bubblewrap": Bubblewrap.find,
    "landlock": Landlock.find,
    "none": Unconfined.find,
}
# Those that keep anything out, the better one first.
WALLED = ("bubblewrap", "landlock")
_TRY = Limits(cpu_s=5, wall_s=30, memory=256 * MIB, file_size=0, processes=1, output=4096)


def find_sandbox(kind: str | None = None, *, unsafe: bool = False) -> Sandbox:
    """The best sandbox that works on this host, tried out once.

    Args:
        kind: Take this one, of KINDS, and no other.
        unsafe: Where neither bubblewrap nor Landlock works, run without a sandbox.

    Raises:
        VerifierUnavailable: None works; the line says why, and what to do.
    """
    if kind is not None:
        return _tried(kind)
    reasons = []
    for name in WALLED:
        try:
            return _tried(name)
        except VerifierUnavailable as problem:
            reasons.append(str(problem))
    if unsafe:
        return _tried("none")
    raise VerifierUnavailable(
        f"no sandbox for what the model writes: {'; '.join(reasons)}"
        " (`--task arithmetic` needs none; --unsafe-no-sandbox runs without, at your own risk)"
    )


def _tried(kind: str) -> Sandbox:
    """The sandbox of a kind, in which `true` has run."""
    sandbox = KINDS[kind]()
    try:
        probe = sandbox.run(["/usr/bin/true"], _TRY)
    except SandboxError as problem:
        raise VerifierUnavailable(_unusable(kind, str(problem))) from problem
    if probe.returncode != 0:
        raise VerifierUnavailable(_unusable(kind, f"`true` exits with {probe.returncode}"))
    return sandbox


def _unusable(kind: str, why: str) -> str:
    remedy = "allow user namespaces, or run as root outside a restricted container"
    hint = f": {remedy}" if kind == "bubblewrap" else ""
    return f"{kind} cannot make a sandbox here ({why!r}){hint}"
