"""Verdicts about Rust functions: parse, guard, compile in one batch, test one by one.

A candidate's verdict does not depend on what else is in the batch (build._limits has the one
exception), on the host's load (a deadline gives no verdict at all), or on what it prints.
"""

import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from trainer.verdict import Verdict
from trainer.verify import guard, harness
from trainer.verify.build import Builder, Group, settle
from trainer.verify.candidate import Candidate
from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.sandbox import Limits, Sandbox
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain
from trainer.verify.workspace import remove_stale, workspace

__all__ = ["Candidate", "RustVerifier", "VerifierUnavailable"]

_CACHE_SIZE = 10_000
# A test takes microseconds: 2 CPU seconds mean an endless loop. The wall deadline is far off, so
# that a busy host leaves few samples unscored.
TEST_LIMITS = Limits(
    cpu_s=2, wall_s=10, memory=512 << 20, file_size=0, processes=1, output=64 << 10
)


class RustVerifier:
    """Verifies candidates; remembers some 10,000 verdicts. Not for several threads at a time."""

    def __init__(self, toolchain: Toolchain, sandbox: Sandbox, workers: int = 2):
        self._toolchain = toolchain
        self._sandbox = sandbox
        self._workers = workers
        self._cache: OrderedDict[str, Verdict] = OrderedDict()

    @classmethod
    def find(cls, *, unsafe_no_sandbox: bool = False) -> "RustVerifier":
        """A verifier with this host's toolchain and sandbox, using up to 8 of our cores.

        Raises:
            VerifierUnavailable: rustc, a C linker or a working sandbox is missing.
        """
        remove_stale()
        workers = min(8, len(os.sched_getaffinity(0)))  # making namespaces does not scale further
        return cls(Toolchain.find(), find_sandbox(unsafe=unsafe_no_sandbox), workers)

    @property
    def sandbox_kind(self) -> str:
        """Which sandbox is in force: bubblewrap, landlock or none."""
        return self._sandbox.kind

    def verify(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict a candidate, in order. Never raises for what a candidate does."""
        keys = [self._key(candidate) for candidate in candidates]
        known = {key: self._cache[key] for key in keys if key in self._cache}
        fresh = {key: c for key, c in zip(keys, candidates, strict=True) if key not in known}
        known |= zip(fresh, self._judge(list(fresh.values())), strict=True)
        for key in keys:
            self._remember(key, known[key])
        return [known[key] for key in keys]

    def _key(self, candidate: Candidate) -> str:
        """A digest of everything the verdict depends on; lengths keep the parts apart."""
        digest = hashlib.sha256()
        parts = (self._toolchain.version, candidate.function, candidate.source, *candidate.tests)
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded) + encoded)
        return digest.hexdigest()

    def _remember(self, key: str, verdict: Verdict) -> None:
        """Keep the verdict, unless it is the host's failure, which may pass."""
        if verdict.unscored is not None:
            return
        self._cache[key] = verdict
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)

    def _judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Verdicts of distinct candidates."""
        verdicts = [_from_source(candidate) for candidate in candidates]
        if any(verdict.compiled is None for verdict in verdicts):
            with workspace() as directory:
                self._compile_and_run(candidates, verdicts, directory)
        return verdicts

    def _compile_and_run(
        self, candidates: Sequence[Candidate], verdicts: list[Verdict], directory: Path
    ) -> None:
        """Complete, in place, the verdicts whose `compiled` is still open."""
        undecided = [i for i, verdict in enumerate(verdicts) if verdict.compiled is None]
        builder = Builder(self._toolchain, self._sandbox, candidates, directory)
        checked = settle(undecided, builder.check)
        built = settle([i for group in checked.groups for i in group.indices], builder.program)
        for i, errors in (checked.errors | built.errors).items():
            verdicts[i] = replace(verdicts[i], compiled=False, errors=errors)
        for i, reason in (checked.unscored | built.unscored).items():
            verdicts[i] = replace(verdicts[i], unscored=reason)
        for i, outcome in self._run_all(built.groups):
            if isinstance(outcome, str):
                verdicts[i] = replace(verdicts[i], unscored=outcome)
            else:
                verdicts[i] = replace(verdicts[i], compiled=True, tests_passed=outcome)
        for group in checked.groups:
            for i in group.indices:
                if verdicts[i].compiled:
                    verdicts[i] = replace(verdicts[i], warnings=group.warnings[i])

    def _run_all(self, groups: Sequence[Group]) -> Iterator[tuple[int, int | str]]:
        """Each candidate's tests passed, or why it is unscored."""
        jobs = [(group.artifact, index) for group in groups for index in group.indices]
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="verify")
        try:
            outcomes = pool.map(partial(_run_tests, self._sandbox), jobs)
            yield from zip((index for _, index in jobs), outcomes, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _from_source(candidate: Candidate) -> Verdict:
    """The verdict as far as the source alone decides it; `compiled` is None where it does not."""
    reading = guard.read(candidate.source, candidate.function)
    total = len(candidate.tests)
    if reading.parsed and reading.refused is None:
        return Verdict(parsed=True, tests_total=total, trivial=reading.trivial)
    return Verdict(
        parsed=reading.parsed,
        compiled=False,
        errors=1,
        tests_total=total,
        trivial=reading.trivial,
        refused=reading.refused,
    )


def _run_tests(sandbox: Sandbox, job: tuple[Path, int]) -> int | str:
    """How many tests of candidate `index` pass; a string says why that is not known.

    A process that dies, or is killed for its CPU seconds or its output, has passed no test.
    """
    program, index = job
    nonce = secrets.token_hex(16)
    try:
        done = sandbox.run(
            ["/test", str(index)],
            TEST_LIMITS,
            read_only={program: "/test"},
            stdin=f"{nonce}\n".encode(),
        )
    except SandboxError as problem:
        return f"sandbox: {problem}"
    if done.timed_out:
        return "the tests did not finish in time"
    began, passed = harness.result(done.output, nonce)
    return passed if began else "the test program did not start"
