"""Compiling many candidates as one crate, and telling who is to blame when that fails."""

import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from trainer.verify import harness
from trainer.verify.candidate import Candidate
from trainer.verify.diagnostics import Blame, blame
from trainer.verify.errors import SandboxError
from trainer.verify.sandbox import Finished, Limits, Sandbox
from trainer.verify.toolchain import Toolchain

_MIB = 1 << 20
# Candidates in one crate. More would gain nothing, and come near the limits of a single one.
_MOST = 64
_TOOLCHAIN = "/toolchain"
EDITION = "2021"
_RUSTC = (f"{_TOOLCHAIN}/bin/rustc", "--sysroot", _TOOLCHAIN, "--edition", EDITION)
CHECK = ("--emit=metadata", "--error-format=json")
# Unoptimized builds fastest, and keeps an infinite recursion from becoming a loop. Linking the
# standard library statically takes no longer than dynamically once its debug sections are left out.
PROGRAM = ("-A", "warnings", "-C", "debuginfo=0", "-C", "strip=debuginfo", "--error-format=json")
# The same for one candidate and for a batch, so that no verdict depends on the batch: what is
# killed alone is killed in any company, and a batch that is killed is halved down to the culprit.
# One candidate takes 0.1 to 0.2 CPU seconds, 64 take about one. The processes are the compiler's
# and the linker's threads.
LIMITS = Limits(
    cpu_s=4,
    wall_s=60,
    memory=4096 * _MIB,
    file_size=64 * _MIB,
    processes=256,
    output=8 * _MIB,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the compiler on several candidates.

    Attributes:
        ok: It compiled; `blame` then holds warnings only.
        ordinary: It ended by itself, with or without errors: it neither crashed nor was killed.
        blame: Errors and warnings by candidate.
        artifact: What was built.
        unscored: Why the attempt says nothing about the candidates, or None.
    """

    ok: bool
    ordinary: bool
    blame: Blame
    artifact: Path
    unscored: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that compile together, without an error."""

    indices: tuple[int, ...]
    warnings: Counter[int]
    artifact: Path


@dataclass(slots=True)
class Settled:
    """Every candidate is in exactly one of these.

    Attributes:
        groups: Those that compile.
        errors: Those that do not, and how many errors each has.
        unscored: Those about which nothing is known, and why.
    """

    groups: list[Group] = field(default_factory=list)
    errors: dict[int, int] = field(default_factory=dict)
    unscored: dict[int, str] = field(default_factory=dict)


def settle(
    indices: Sequence[int],
    attempt: Callable[[Sequence[int]], Attempt],
    alone: Container[int] = (),
) -> Settled:
    """Compile all together, drop whoever has errors, and repeat until everybody left compiles.

    Where the compiler crashes, is killed, or complains about nobody, the batch is halved until the
    culprit is alone; its compiler's death is then its own error. What a dying compiler said before
    is not counted, because that would depend on the neighbours. Nor is what it said of others when
    somebody's errors stopped it early: they are tried again without those.

    Args:
        indices: Who is to be compiled.
        attempt: Compiles several.
        alone: Of `indices`, those that may hide a neighbour's errors whatever the compiler says.
    """
    settled = Settled()
    together = [index for index in indices if index not in alone]
    batches: list[tuple[int, ...]] = [(index,) for index in indices if index in alone]
    batches += [tuple(together[i : i + _MOST]) for i in range(0, len(together), _MOST)]
    while batches:
        batch = batches.pop()
        if not batch:
            continue
        tried = attempt(batch)
        guilty = tried.blame.errors
        if tried.unscored is not None:
            settled.unscored.update(dict.fromkeys(batch, tried.unscored))
        elif tried.ok:
            settled.groups.append(Group(batch, tried.blame.warnings, tried.artifact))
        elif tried.ordinary and any(guilty[index] for index in batch):
            found = [i for i in batch if guilty[i] and i in (tried.blame.stopping or batch)]
            settled.errors.update({index: guilty[index] for index in found})
            batches.append(tuple(index for index in batch if index not in settled.errors))
        elif len(batch) == 1:
            settled.errors[batch[0]] = max(1, guilty[batch[0]])
        else:
            middle = len(batch) // 2
            batches += [batch[middle:], batch[:middle]]
    return settled


class Builder:
    """Compiles numbered candidates below a directory of its own, sandboxed.

    Attributes:
        seconds: Wall seconds by candidate: an equal share of each compilation it took part in.
    """

    def __init__(
        self,
        toolchain: Toolchain,
        sandbox: Sandbox,
        candidates: Sequence[Candidate],
        directory: Path,
    ):
        self._toolchain = toolchain
        self._sandbox = sandbox
        self._candidates = candidates
        self._directory = directory
        self._numbers = count()
        self.seconds: dict[int, float] = {}

    def check(self, indices: Sequence[int]) -> Attempt:
        """Type-check the candidates as one library, warnings on."""
        return self._compile(
            indices, {"root.rs": harness.library(indices)}, (*CHECK, "--crate-type=lib")
        )

    def program(self, indices: Sequence[int]) -> Attempt:
        """Build the program that runs the candidates' tests; the artifact is that program.

        Some errors come only here, from code generation: `a % 0`, an array that is too large.
        """
        sources = {"root.rs": harness.main(indices)}
        for index in indices:
            candidate = self._candidates[index]
            sources[f"t{index}.rs"] = harness.tests(index, candidate.function, candidate.tests)
        return self._compile(indices, sources, (*PROGRAM, *link_flags(self._toolchain)))

    def _compile(
        self, indices: Sequence[int], sources: dict[str, str], flags: Sequence[str]
    ) -> Attempt:
        sources |= {f"c{index}.rs": self._candidates[index].source for index in indices}
        place = self._directory / str(next(self._numbers))
        began = time.monotonic()
        try:
            done, artifact = compile_crate(self._toolchain, self._sandbox, place, sources, flags)
        except SandboxError as problem:
            return Attempt(False, False, Blame(), place, f"sandbox: {problem}")
        share = (time.monotonic() - began) / len(indices)
        for index in indices:
            self.seconds[index] = self.seconds.get(index, 0.0) + share
        late = "the compiler did not finish in time" if done.timed_out else None
        ordinary = done.returncode in (0, 1) and not done.truncated
        return Attempt(done.returncode == 0, ordinary, blame(done.output), artifact, late)


def compile_crate(
    toolchain: Toolchain,
    sandbox: Sandbox,
    place: Path,
    sources: Mapping[str, str],
    flags: Sequence[str],
    root: str = "root.rs",
) -> tuple[Finished, Path]:
    """Run rustc on the `sources` (file name -> text), sandboxed, in the new directory `place`.

    Returns:
        How it ended, and where what it built lies.

    Raises:
        SandboxError: It did not start.
    """
    source_dir, output_dir = place / "src", place / "out"
    for directory in (place, source_dir, output_dir):
        directory.mkdir()
        directory.chmod(0o755)  # whatever our umask: the sandbox has another uid
    for name, text in sources.items():
        file = source_dir / name
        file.write_text(text, "utf-8", newline="")
        file.chmod(0o644)
    done = sandbox.run(
        [*_RUSTC, *flags, "-o", "/out/artifact", root],
        LIMITS,
        read_only={toolchain.sysroot: _TOOLCHAIN, source_dir: "/src"},
        writable=(output_dir, "/out"),
        chdir="/src",
    )
    return done, output_dir / "artifact"


def link_flags(toolchain: Toolchain) -> tuple[str, ...]:
    """What a build needs that is to be run, and checks itself for overflows as it runs."""
    return ("-C", f"linker={toolchain.linker}", "-C", "overflow-checks=on")
