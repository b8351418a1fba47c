"""Verdicts about whole Rust files, each with its own tests in a `#[cfg(test)]` module.

A file is compiled alone, so it may hold what a candidate in a batch may not: several items,
modules, traits, impls. Its tests are libtest's, run one a process. What such a process prints is
the file's to forge, so a test has passed only where the process exits with 0 and gave back, after
the test, a nonce that our own test read before it.
"""

import re
import secrets
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from trainer.verdict import Verdict
from trainer.verify import guard
from trainer.verify.build import CHECK, PROGRAM, compile_crate, link_flags
from trainer.verify.diagnostics import blame, rendered
from trainer.verify.errors import SandboxError
from trainer.verify.quality import measure
from trainer.verify.rust import TEST_LIMITS
from trainer.verify.sandbox import Finished, Sandbox
from trainer.verify.toolchain import Toolchain
from trainer.verify.workspace import workspace

# As trainer.verify.diagnostics knows a candidate's file.
_FILE = "c0.rs"
_MOST_MESSAGES, _MOST_TESTS = 20, 1000
_LISTED = re.compile(r"((?:\w+::)*\w+): test")

# libtest runs tests in the order of their names: `A0...` comes first, `zz...` last. The file cannot
# name either: both names are drawn for this build.
_SENTINELS = """
#[cfg(test)]
mod A0_{tag} {{
    #[test]
    fn begin() {{
        let mut line = ::std::string::String::new();
        ::std::io::stdin().read_line(&mut line).unwrap();
        *crate::zz_{tag}::NONCE.lock().unwrap() = line;
    }}
}}
#[cfg(test)]
mod zz_{tag} {{
    pub static NONCE: ::std::sync::Mutex<::std::string::String> =
        ::std::sync::Mutex::new(::std::string::String::new());
    #[test]
    fn end() {{
        let line = ::std::mem::take(&mut *NONCE.lock().unwrap());
        ::std::io::Write::write_all(&mut ::std::io::stdout(), line.as_bytes()).unwrap();
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """A file's verdict, and what a person needs to understand it.

    Attributes:
        verdict: As a candidate's.
        messages: What the compiler said, at most 20 texts.
        failed: Names of the tests that did not pass.
    """

    verdict: Verdict
    messages: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileVerifier:
    """Verifies files one by one, in a sandbox each; remembers nothing."""

    toolchain: Toolchain
    sandbox: Sandbox
    workers: int = 2

    def verify(self, source: bytes) -> FileVerdict:
        """Judge one file; never raises for what is in it."""
        reading = guard.read_file(source)
        verdict = Verdict(
            parsed=reading.parsed,
            compiled=None if reading.allowed else False,
            errors=1,
            trivial=reading.trivial,
            refused=reading.refused,
            quality=measure(source.decode()) if reading.allowed else None,
        )
        if verdict.refused is not None:
            return FileVerdict(verdict)
        with workspace() as directory:
            try:
                return self._judge(source.decode("utf-8", "replace"), verdict, directory)
            except SandboxError as problem:
                return FileVerdict(replace(verdict, unscored=f"sandbox: {problem}"))

    def _judge(self, source: str, verdict: Verdict, directory: Path) -> FileVerdict:
        began = time.monotonic()
        kind = "bin" if verdict.parsed and guard.has_main(source.encode()) else "lib"
        checked, _ = self._compile(directory / "check", source, (*CHECK, f"--crate-type={kind}"))
        messages = tuple(islice(rendered(checked.output), _MOST_MESSAGES))
        if checked.timed_out:
            late = "the compiler did not finish in time"
            return FileVerdict(replace(verdict, unscored=late), messages)
        found = blame(checked.output)
        if not verdict.parsed:  # what a candidate that does not parse is charged with
            return FileVerdict(verdict, messages)
        if checked.returncode != 0:
            errors = max(1, found.errors[0])
            return FileVerdict(replace(verdict, compiled=False, errors=errors), messages)
        tag = secrets.token_hex(16)
        flags = (*PROGRAM, "--test", *link_flags(self.toolchain))
        whole = source + _SENTINELS.format(tag=tag)
        built, program = self._compile(directory / "build", whole, flags)
        took = time.monotonic() - began
        if built.timed_out:
            late = "the compiler did not finish in time"
            return FileVerdict(replace(verdict, unscored=late), messages)
        if built.returncode != 0:
            errors = max(1, blame(built.output).errors[0])
            messages = tuple(islice(rendered(built.output), _MOST_MESSAGES))
            return FileVerdict(replace(verdict, compiled=False, errors=errors), messages)
        compiled = replace(verdict, compiled=True, errors=0, warnings=found.warnings[0])
        return self._test(compiled, messages, program, tag, took)

    def _compile(self, place: Path, source: str, flags: Sequence[str]) -> tuple[Finished, Path]:
        flags = (*flags, "--crate-name=file", "-F", "unsafe-code")
        return compile_crate(
            self.toolchain, self.sandbox, place, {_FILE: source}, flags, root=_FILE
        )

    def _test(
        self, verdict: Verdict, messages: tuple[str, ...], program: Path, tag: str, took: float
    ) -> FileVerdict:
        began = time.monotonic()
        tests = self._list(program, tag)
        if isinstance(tests, str):
            return FileVerdict(replace(verdict, unscored=tests), messages)
        with ThreadPoolExecutor(self.workers) as pool:
            results = pool.map(partial(self._run, program, tag), tests)
            outcomes = dict(zip(tests, results, strict=True))
        late = [name for name, passed in outcomes.items() if passed is None]
        failed = tuple(name for name, passed in outcomes.items() if not passed)
        judged = replace(
            verdict,
            tests_passed=len(tests) - len(failed),
            tests_total=len(tests),
            unscored=f"{late[0]} did not finish in time" if late else None,
            seconds={"compile": took, "tests": time.monotonic() - began},
        )
        return FileVerdict(judged, messages, failed)

    def _list(self, program: Path, tag: str) -> list[str] | str:
        """The names of the file's tests, or why they cannot be run; no code of the file runs."""
        command = ["/test", "--list", "--format", "terse"]
        done = self.sandbox.run(command, TEST_LIMITS, read_only={program: "/test"})
        lines = done.output.decode("utf-8", "replace").splitlines()
        names = [match[1] for line in lines if (match := _LISTED.fullmatch(line))]
        own = [name for name in names if tag not in name]
        if done.returncode != 0 or len(own) != len(names) - 2:
            return "the tests cannot be listed"
        if len(own) > _MOST_TESTS:
            return f"more than {_MOST_TESTS} tests"
        # Such a name might come after that of our last test.
        odd = next((name for name in own if not name.isascii()), None)
        return own if odd is None else f"a test's name is not ASCII: {odd}"

    def _run(self, program: Path, tag: str, test: str) -> bool | None:
        """Whether a test passes; None where the host was too slow to tell."""
        nonce = secrets.token_hex(16)
        names: Iterable[str] = (f"A0_{tag}::begin", test, f"zz_{tag}::end")
        done = self.sandbox.run(
            ["/test", "--exact", *names, "--test-threads=1"],
            TEST_LIMITS,
            read_only={program: "/test"},
            stdin=f"{nonce}\n".encode(),
        )
        if done.timed_out:
            return None
        return done.returncode == 0 and not done.truncated and nonce.encode() in done.output
