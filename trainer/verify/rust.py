"""Verdicts about Rust functions: parse, guard, compile in one batch, test one by one.

A candidate's verdict does not depend on what else is in the batch, on the host's load (a deadline
gives no verdict at all), or on what it prints.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from trainer.verdict import Verdict
from trainer.verify import guard, harness
from trainer.verify.build import EDITION, Builder, Group, settle
from trainer.verify.cache import VerdictCache
from trainer.verify.candidate import Candidate
from trainer.verify.errors import SandboxError, VerifierUnavailable
from trainer.verify.quality import measure
from trainer.verify.sandbox import Limits, Sandbox
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain
from trainer.verify.workspace import remove_stale, workspace

__all__ = ["Candidate", "RustVerifier", "VerifierUnavailable"]

# Goes up whenever the same candidate may get another verdict from this package: guard, limits,
# flags, harness, measures. It keeps remembered verdicts of older versions out.
PIPELINE = "2"
# A test takes microseconds: 2 CPU seconds mean an endless loop. The wall deadline is far off, so
# that a busy host leaves few samples unscored.
TEST_LIMITS = Limits(
    cpu_s=2, wall_s=10, memory=512 << 20, file_size=0, processes=1, output=64 << 10
)


class RustVerifier:
    """Verifies candidates, and remembers verdicts. Not for several threads at a time."""

    def __init__(
        self,
        toolchain: Toolchain,
        sandbox: Sandbox,
        workers: int = 2,
        cache: VerdictCache | None = None,
    ):
        self._toolchain = toolchain
        self._sandbox = sandbox
        self._workers = workers
        self._cache = VerdictCache() if cache is None else cache

    @classmethod
    def find(cls, *, unsafe_no_sandbox: bool = False) -> "RustVerifier":
        """A verifier with this host's toolchain, sandbox and cache, using up to 8 of our cores.

        Raises:
            VerifierUnavailable: rustc, a C linker or a working sandbox is missing.
        """
        remove_stale()
        workers = min(8, len(os.sched_getaffinity(0)))  # making namespaces does not scale further
        sandbox = find_sandbox(unsafe=unsafe_no_sandbox)
        return cls(Toolchain.find(), sandbox, workers, VerdictCache.find(os.environ))

    @property
    def sandbox_kind(self) -> str:
        """Which sandbox is in force: bubblewrap, landlock or none."""
        return self._sandbox.kind

    def verify(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict a candidate, in order. Never raises for what a candidate does."""
        keys = [self._key(candidate) for candidate in candidates]
        distinct = dict(zip(keys, candidates, strict=True))
        known = self._cache.get(list(distinct))
        missing = {key: c for key, c in distinct.items() if key not in known}
        fresh = dict(zip(missing, self._judge(list(missing.values())), strict=True))
        self._cache.put(fresh)
        return [known[key] if key in known else fresh[key] for key in keys]

    def _key(self, candidate: Candidate) -> str:
        """A digest of everything the verdict depends on; lengths keep the parts apart."""
        digest = hashlib.sha256()
        ours = (PIPELINE, EDITION, self._toolchain.version)
        for part in (*ours, candidate.function, candidate.source, *candidate.tests):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded) + encoded)
        return digest.hexdigest()

    def _judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Verdicts of distinct candidates."""
        readings = [guard.read(c.source, c.function) for c in candidates]
        pairs = zip(candidates, readings, strict=True)
        verdicts = [_from_source(candidate, reading) for candidate, reading in pairs]
        if any(verdict.compiled is None for verdict in verdicts):
            alone = {i for i, reading in enumerate(readings) if reading.alone}
            with workspace() as directory:
                self._compile_and_run(candidates, verdicts, alone, directory)
        return verdicts

    def _compile_and_run(
        self,
        candidates: Sequence[Candidate],
        verdicts: list[Verdict],
        alone: set[int],
        directory: Path,
    ) -> None:
        """Complete, in place, the verdicts whose `compiled` is still open."""
        undecided = [i for i, verdict in enumerate(verdicts) if verdict.compiled is None]
        builder = Builder(self._toolchain, self._sandbox, candidates, directory)
        checked = settle(undecided, builder.check, alone)
        built = settle([i for group in checked.groups for i in group.indices], builder.program)
        seconds = {i: {"compile": builder.seconds.get(i, 0.0)} for i in undecided}
        for i, errors in (checked.errors | built.errors).items():
            verdicts[i] = replace(verdicts[i], compiled=False, errors=errors)
        for i, reason in (checked.unscored | built.unscored).items():
            verdicts[i] = replace(verdicts[i], unscored=reason)
        for i, outcome, took in self._run_all(built.groups):
            seconds[i]["tests"] = took
            if isinstance(outcome, str):
                verdicts[i] = replace(verdicts[i], unscored=outcome)
            else:
                verdicts[i] = replace(verdicts[i], compiled=True, tests_passed=outcome)
        for group in checked.groups:
            for i in group.indices:
                if verdicts[i].compiled:
                    verdicts[i] = replace(verdicts[i], warnings=group.warnings[i])
        for i in undecided:
            verdicts[i] = replace(verdicts[i], seconds=seconds[i])

    def _run_all(self, groups: Sequence[Group]) -> Iterator[tuple[int, int | str, float]]:
        """Each candidate's tests passed, or why it is unscored, and the seconds they took."""
        jobs = [(group.artifact, index) for group in groups for index in group.indices]
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="verify")
        try:
            outcomes = pool.map(partial(_timed, self._sandbox), jobs)
            for (_, index), (outcome, took) in zip(jobs, outcomes, strict=True):
                yield index, outcome, took
        finally:
            pool.shutdown(cancel_futures=True)


def _from_source(candidate: Candidate, reading: guard.Reading) -> Verdict:
    """The verdict as far as the source alone decides it; `compiled` is None where it does not."""
    undecided = Verdict(
        parsed=reading.parsed,
        tests_total=len(candidate.tests),
        trivial=reading.trivial,
        quality=measure(candidate.source) if reading.allowed else None,
    )
    if reading.allowed:
        return undecided
    return replace(undecided, compiled=False, errors=1, refused=reading.refused)


def _timed(sandbox: Sandbox, job: tuple[Path, int]) -> tuple[int | str, float]:
    began = time.monotonic()
    outcome = _run_tests(sandbox, job)
    return outcome, time.monotonic() - began


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
