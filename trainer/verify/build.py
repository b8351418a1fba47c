"""Compiling many candidates as one crate, and telling who is to blame when that fails."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from trainer.verify import harness
from trainer.verify.candidate import Candidate
from trainer.verify.diagnostics import Blame, blame
from trainer.verify.errors import SandboxError
from trainer.verify.sandbox import Limits, Sandbox
from trainer.verify.toolchain import Toolchain

_MIB = 1 << 20
_TOOLCHAIN = "/toolchain"
_RUSTC = (f"{_TOOLCHAIN}/bin/rustc", "--sysroot", _TOOLCHAIN, "--edition", "2021")
_CHECK = ("--crate-type", "lib", "--emit=metadata", "--error-format=json")
# Unoptimized builds fastest, and keeps an infinite recursion from becoming a loop. Linking the
# standard library statically takes no longer than dynamically once its debug sections are left out.
_PROGRAM = ("-A", "warnings", "-C", "debuginfo=0", "-C", "strip=debuginfo", "--error-format=json")


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


def settle(indices: Sequence[int], attempt: Callable[[Sequence[int]], Attempt]) -> Settled:
    """Compile all together, drop whoever has errors, and repeat until everybody left compiles.

    Where the compiler crashes, is killed, or complains about nobody, the batch is halved until the
    culprit is alone; its compiler's death is then its own error. What a dying compiler said before
    is not counted, because that would depend on the neighbours.
    """
    settled = Settled()
    batches = [tuple(indices)]
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
            settled.errors.update({index: guilty[index] for index in batch if guilty[index]})
            batches.append(tuple(index for index in batch if not guilty[index]))
        elif len(batch) == 1:
            settled.errors[batch[0]] = max(1, guilty[batch[0]])
        else:
            middle = len(batch) // 2
            batches += [batch[middle:], batch[:middle]]
    return settled


class Builder:
    """Compiles numbered candidates below a directory of its own, sandboxed."""

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

    def check(self, indices: Sequence[int]) -> Attempt:
        """Type-check the candidates as one library, warnings on."""
        return self._compile(indices, {"root.rs": harness.library(indices)}, _CHECK)

    def program(self, indices: Sequence[int]) -> Attempt:
        """Build the program that runs the candidates' tests; the artifact is that program.

        Some errors come only here, from code generation: `a % 0`, an array that is too large.
        """
        sources = {"root.rs": harness.main(indices)}
        for index in indices:
            candidate = self._candidates[index]
            sources[f"t{index}.rs"] = harness.tests(index, candidate.function, candidate.tests)
        link = ("-C", f"linker={self._toolchain.linker}", "-C", "overflow-checks=on")
        return self._compile(indices, sources, (*_PROGRAM, *link))

    def _compile(
        self, indices: Sequence[int], sources: dict[str, str], flags: Sequence[str]
    ) -> Attempt:
        sources |= {f"c{index}.rs": self._candidates[index].source for index in indices}
        place = self._directory / str(next(self._numbers))
        source_dir, output_dir = place / "src", place / "out"
        for directory in (place, source_dir, output_dir):
            directory.mkdir()
            directory.chmod(0o755)  # whatever our umask: the sandbox has another uid
        for name, text in sources.items():
            file = source_dir / name
            file.write_text(text, "utf-8", newline="")
            file.chmod(0o644)
        artifact = output_dir / "artifact"
        try:
            done = self._sandbox.run(
                [*_RUSTC, *flags, "-o", "/out/artifact", "root.rs"],
                _limits(len(indices)),
                read_only={self._toolchain.sysroot: _TOOLCHAIN, source_dir: "/src"},
                writable=(output_dir, "/out"),
                chdir="/src",
            )
        except SandboxError as problem:
            return Attempt(False, False, Blame(Counter()), artifact, f"sandbox: {problem}")
        late = "the compiler did not finish in time" if done.timed_out else None
        ordinary = done.returncode in (0, 1) and not done.truncated
        return Attempt(done.returncode == 0, ordinary, blame(done.output), artifact, late)


def _limits(candidates: int) -> Limits:
    """Limits of one compilation.

    One candidate takes 0.1 to 0.2 CPU seconds, thirty take 0.5; more would only prolong the halving
    of a batch with a compiler bomb in it. A candidate that alone takes seconds, between the share
    of one and that of its batch, is the one whose verdict may depend on the batch. The processes
    are the compiler's and linker's threads.
    """
    return Limits(
        cpu_s=3 + candidates // 8,
        wall_s=60,
        memory=4096 * _MIB,
        file_size=64 * _MIB,
        processes=256,
        output=8 * _MIB,
    )
