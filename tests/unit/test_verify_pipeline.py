import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.verify.cache import Bounds, VerdictCache
from trainer.verify.errors import SandboxError
from trainer.verify.rust import Candidate, RustVerifier, VerifierUnavailable
from trainer.verify.sandbox import _FREE_UIDS, Finished, Sandbox, free_uids
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

TOOLCHAIN = Toolchain(Path("/nowhere"), "rustc 1.0", Path("/usr/bin/cc"))
GOOD = Candidate("pub fn f(x: i32) -> i32 { x }", "f", ("f(1) == 1", "f(2) == 2"))


class FakeSandbox(Sandbox):
    """Compiles everything at once; every test run ends as `end` says, given the nonce."""

    kind = "fake"

    def __init__(self, end: Callable[[str], Finished]):
        self.end = end
        self.commands: list[str] = []

    def run(self, command, limits, *, read_only=None, writable=None, stdin=b"", chdir="/"):  # type: ignore[no-untyped-def]
        self.commands.append(command[0])
        if not stdin:
            return Finished(0, b"", False, False)
        return self.end(stdin.decode().strip())


def verifier(
    end: Callable[[str], Finished], cache: VerdictCache | None = None
) -> tuple[RustVerifier, list[str]]:
    sandbox = FakeSandbox(end)
    return RustVerifier(TOOLCHAIN, sandbox, workers=1, cache=cache), sandbox.commands


def passing(nonce: str) -> Finished:
    return Finished(0, f"{nonce} begin\n\n{nonce} 2 2\n".encode(), False, False)


def failing(_: str) -> Finished:
    raise SandboxError("bwrap: no")


def test_equal_candidates_are_judged_once_and_remembered() -> None:
    subject, commands = verifier(passing)
    first, second = subject.verify([GOOD, GOOD])
    assert first == second
    assert first.clean
    assert commands == ["/toolchain/bin/rustc", "/toolchain/bin/rustc", "/test"]
    assert subject.verify([GOOD]) == [first]
    assert len(commands) == 3


def test_tests_and_names_are_part_of_what_is_remembered() -> None:
    subject, _ = verifier(passing)
    subject.verify([GOOD])
    keys = {subject._key(GOOD)}
    keys.add(subject._key(Candidate(GOOD.source, "g", GOOD.tests)))
    keys.add(subject._key(Candidate(GOOD.source, "f", GOOD.tests[:1])))
    keys.add(subject._key(Candidate(GOOD.source, "f", ("".join(GOOD.tests),))))
    keys.add(
        RustVerifier(Toolchain(Path("/"), "rustc 2.0", Path("/")), subject._sandbox)._key(GOOD)
    )
    assert len(keys) == 5


def test_memory_is_bounded_and_forgets_the_longest_unused() -> None:
    subject, commands = verifier(passing, VerdictCache(bounds=Bounds(entries=2)))
    a, b, c = (
        Candidate(f"pub fn f(x: i32) -> i32 {{ x + {n} }}", "f", ("true",)) for n in range(3)
    )
    for candidate in (a, b, a, c):
        subject.verify([candidate])
    commands.clear()
    subject.verify([a, c])
    assert commands == []
    subject.verify([b])
    assert commands != []


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda _: Finished(-9, b"", True, False), "the tests did not finish in time"),
        (lambda _: Finished(126, b"exec format error", False, False), "did not start"),
        (failing, "sandbox: bwrap: no"),
    ],
)
def test_the_hosts_failures_are_unscored_and_not_remembered(
    end: Callable[[str], Finished], reason: str
) -> None:
    subject, commands = verifier(end)
    [verdict] = subject.verify([GOOD])
    assert verdict.unscored is not None
    assert reason in verdict.unscored
    assert not verdict.passed
    commands.clear()
    subject.verify([GOOD])
    assert commands != []


@pytest.mark.parametrize(
    "end",
    [
        lambda n: Finished(137, f"{n} begin\n".encode(), False, False),
        lambda n: Finished(-9, f"{n} begin\n".encode() + b"x" * 65536, False, True),
        lambda n: Finished(0, f"{n} begin\n{n[1:]} 2 2\n".encode(), False, False),
    ],
)
def test_the_candidates_failures_are_no_passes(end: Callable[[str], Finished]) -> None:
    subject, _ = verifier(end)
    [verdict] = subject.verify([GOOD])
    assert (verdict.compiled, verdict.tests_passed, verdict.tests_total) == (True, 0, 2)
    assert verdict.unscored is None


def test_what_the_guard_stops_never_reaches_the_compiler() -> None:
    subject, commands = verifier(passing)
    sources = ["pub fn f() { unsafe {} }", "pub fn f() {", "", "pub fn f() { \ud800 }", "\0"]
    verdicts = subject.verify([Candidate(source, "f", ("true",)) for source in sources])
    assert commands == []
    assert [v.refused for v in verdicts] == ["unsafe", None, None, None, None]
    assert [v.parsed for v in verdicts] == [True, False, False, False, False]
    assert {(v.compiled, v.errors, v.tests_total) for v in verdicts} == {(False, 1, 1)}


def test_nothing_to_verify() -> None:
    assert verifier(passing)[0].verify([]) == []


def script(directory: Path, name: str, text: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(stat.S_IRWXU)


def test_missing_tools_are_named_with_their_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(VerifierUnavailable, match=r"https://rustup\.rs.*--task arithmetic"):
        RustVerifier.find()
    script(tmp_path, "rustc", "echo 'error: no default toolchain\nmore' >&2; exit 1")
    with pytest.raises(
        VerifierUnavailable, match=r"no default toolchain.*apt install rustc"
    ) as got:
        Toolchain.find()
    assert "\n" not in str(got.value)
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "rustc", "echo 'rustc 1.2.3'")
    script(tmp_path, "rustc", f"echo {tmp_path}")
    with pytest.raises(VerifierUnavailable, match=r"linker \(cc\) is missing"):
        Toolchain.find()
    script(tmp_path, "cc", "")
    assert Toolchain.find() == Toolchain(tmp_path, "rustc 1.2.3\n", (tmp_path / "cc").resolve())
    with pytest.raises(VerifierUnavailable, match="apt install bubblewrap"):
        find_sandbox("bubblewrap")


@pytest.mark.needs("setpriv", "prlimit")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'bwrap: No permissions\nmore' >&2; exit 1", "No permissions"),
        ("exit 7", "exits with 7"),
    ],
)
def test_a_host_without_sandboxes_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, why: str
) -> None:
    script(tmp_path, "bwrap", text)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VerifierUnavailable, match=why) as caught:
        find_sandbox("bubblewrap")
    assert "\n" not in str(caught.value)


def test_uids_come_from_where_nobody_has_one() -> None:
    assert free_uids("         0          0 4294967295\n") == _FREE_UIDS
    assert free_uids("0 1000 1\n1 100000 65536\n") == range(65537 - 16384, 65537)
    assert free_uids("0 1000 1\n") is None
