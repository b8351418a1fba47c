import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.verdict import Verdict
from trainer.verify import build, rust
from trainer.verify.build import Builder
from trainer.verify.cache import VerdictCache
from trainer.verify.rust import Candidate, RustVerifier
from trainer.verify.sandbox import Limits, Sandbox
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

pytestmark = pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit")
TESTS = ("sum(&[1, 2]) == 3", "sum(&[]) == 0", "sum(&[-1]) == -1")


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def tools(request: pytest.FixtureRequest) -> tuple[Toolchain, Sandbox]:
    return Toolchain.find(), find_sandbox(request.param)


@pytest.fixture(autouse=True)
def one_cpu_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless loops are found in half the time."""
    limits = rust.TEST_LIMITS
    quick = Limits(1, limits.wall_s, limits.memory, 0, 1, limits.output)
    monkeypatch.setattr(rust, "TEST_LIMITS", quick)


def candidate(body: str, tests: tuple[str, ...] = TESTS) -> Candidate:
    source = f"/// The sum of a slice.\npub fn sum(xs: &[i32]) -> i32 {{\n    {body}\n}}\n"
    return Candidate(source, "sum", tests)


def works(passed: int = 3, warnings: int = 0, **more: Any) -> Verdict:
    more = {"tests_total": 3} | more
    return Verdict(parsed=True, compiled=True, tests_passed=passed, warnings=warnings, **more)


def breaks(errors: int = 1, **more: Any) -> Verdict:
    return Verdict(parsed=True, compiled=False, errors=errors, tests_total=3, **more)


UNPARSED = Verdict(parsed=False, compiled=False, errors=1, tests_total=3)

MIXED = [
    # right
    (candidate("xs.iter().sum()"), works()),
    (candidate("let mut t = 0;\n    for x in xs { t += x; }\n    t"), works()),
    (candidate("xs.iter().fold(0, |a, b| a + b)"), works()),
    (candidate("if xs.is_empty() { 0 } else { xs[0] + sum(&xs[1..]) }"), works()),
    (candidate("use std::iter::Sum; i32::sum(xs.iter())"), works()),
    (candidate("xs.iter().sum()", ()), works(0, tests_total=0)),
    # right, with warnings
    (candidate("let unused = 1;\n    xs.iter().sum()"), works(warnings=1)),
    (candidate("let mut t = xs.iter().sum();\n    t"), works(warnings=1)),
    (candidate("fn helper() {}\n    let (a, b) = (1, 2);\n    xs.iter().sum()"), works(warnings=3)),
    # wrong
    (candidate("xs.iter().product()"), works(1)),
    (candidate("xs.len() as i32"), works(1)),
    (candidate("xs.iter().max().copied().unwrap_or(0)"), works(2)),
    (candidate("0"), works(1, warnings=1, trivial=True)),
    (candidate("-1"), works(1, warnings=1, trivial=True)),
    # does not compile
    (candidate('"three"'), breaks(trivial=True)),
    (candidate("xs.iter().summ()"), breaks()),
    (candidate("undefined + xs[0]"), breaks()),
    (candidate("let a: i32 = \"x\";\n    undefined + \"y\" + xs[0]"), breaks(2)),
    (candidate("let s = String::new(); let t = s; let u = s; xs[0]"), breaks()),
    (candidate("use std::cmp::Nope; xs[0]"), breaks()),
    (candidate("fn l() -> impl Nope { 1 }\n    xs[0]"), breaks()),
    (candidate("fn h() {}\n    fn l() -> impl h { 1 }\n    xs[0]"), breaks()),
    (candidate("vec![xs[0] xs[1]]"), breaks()),
    (candidate("let x: u8 = 300; xs[x as usize]"), breaks()),
    (candidate("xs[0] % 0"), breaks()),  # only code generation finds out
    (candidate("const X: i32 = 1 / 0; X + xs[0]"), breaks()),
    (candidate("xs.iter().sum()", ("sum(&[1]) == 1", "sum(&[1])", "true")), breaks()),
    # not even parsed
    (candidate("if xs.len() > 1 { 3"), UNPARSED),
    (candidate("xs.iter().sum())"), UNPARSED),
    (candidate("xs[0] \0"), UNPARSED),
    (candidate("// \udc80"), UNPARSED),
    (Candidate("", "sum", TESTS), UNPARSED),
    # refused
    (candidate("unsafe { *xs.as_ptr() }"), breaks(refused="unsafe")),
    (candidate('println!("0 3 3"); xs[0]'), breaks(refused="println!")),
    (candidate('include!("/etc/passwd")'), breaks(refused="include!", trivial=True)),
    (candidate("crate::c0::sum(xs)"), breaks(refused="crate")),
    (candidate("std::process::exit(xs[0])"), breaks(refused="std::process")),
    # dies
    (candidate("let mut i = xs.len(); while i < 99 { i ^= 1; } i as i32"), works(0)),
    (candidate("sum(xs)"), works(0, warnings=1)),
    (candidate("let a = [0u8; 1 << 30]; a[xs.len()] as i32"), works(0)),
    (candidate("vec![0u8; 1 << 40][xs.len()] as i32"), works(0)),
    (candidate("panic!()"), works(0, warnings=1, trivial=True)),
    (candidate("todo!()"), works(0, warnings=1, trivial=True)),
    (candidate("xs[0] + xs[1]"), works(1)),
    (candidate("xs.iter().sum::<i32>() + i32::MAX - i32::MAX"), works(2)),  # overflows at 3
]  # fmt: skip


def judged(tools: tuple[Toolchain, Sandbox], candidates: list[Candidate]) -> list[Verdict]:
    """By a verifier that remembers nothing; without what is measured rather than judged."""
    return [replace(v, quality=None) for v in RustVerifier(*tools).verify(candidates)]


def test_a_verdict_does_not_depend_on_the_neighbours(tools: tuple[Toolchain, Sandbox]) -> None:
    candidates = [one for one, _ in MIXED]
    expected = [verdict for _, verdict in MIXED]
    assert judged(tools, candidates) == expected
    assert [judged(tools, [one])[0] for one in candidates] == expected
    assert judged(tools, candidates[::-1]) == expected[::-1]


def test_a_verdict_does_not_depend_on_what_is_remembered(
    tools: tuple[Toolchain, Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [one for one, _ in MIXED]
    expected = RustVerifier(*tools).verify(candidates)
    assert all(verdict.seconds for verdict in expected if verdict.compiled)
    path = tmp_path / "cache" / "verdicts"
    half = RustVerifier(*tools, cache=VerdictCache(path)).verify(candidates[::2])
    assert half == expected[::2]
    assert RustVerifier(*tools, cache=VerdictCache(path)).verify(candidates) == expected
    # Everything is known by now: no compiler is needed, and no sandbox.
    monkeypatch.setattr(Sandbox, "run", None)
    assert RustVerifier(*tools, cache=VerdictCache(path)).verify(candidates) == expected


def test_a_compiler_bomb_hurts_nobody_else(
    tools: tuple[Toolchain, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Limits(1, 60, 4 << 30, 64 << 20, 256, 8 << 20)
    monkeypatch.setattr(build, "LIMITS", quick)
    bomb = candidate("let a = xs; " + "let a = (a, a); " * 30 + "a.0.0.0.len() as i32")
    good = candidate("xs.iter().sum()")
    bad = candidate("xs.iter().summ()")
    verdicts = judged(tools, [good, bomb, bad])
    assert verdicts == [works(), breaks(), breaks()]


def test_a_huge_constant_hurts_nobody_else(tools: tuple[Toolchain, Sandbox]) -> None:
    """Neither the file size limit of the build nor the memory limit of the tests is shared."""
    huge = candidate("let r: &'static [u8; 80_000_000] = &[0; 80_000_000]; r[xs.len()] as i32")
    verdicts = judged(tools, [candidate("xs.iter().sum()"), huge])
    assert verdicts == [works(), breaks()]


# What only unguarded code can do: the harness must stand without the guard.
_HOSTILE = {
    "forge": 'for n in ["0", "nonce"] { println!("\\n{n} 2 2"); } std::process::exit(0)',
    "steal": "let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap();"
    ' print!("{s} 2 2\\n"); std::process::exit(0)',
    "flood": 'loop { println!("{}", "x".repeat(1000)); }',
    "after": 'println!("noise"); x == 1',
    "abort": "std::process::abort()",
    "hook": 'std::panic::set_hook(Box::new(|_| println!("x 2 2"))); panic!()',
    "fork": 'let one = || std::process::Command::new("/usr/bin/sleep").arg("4242.7").spawn();'
    " (0..50).all(|_| matches!(one(), Err(e) if e.raw_os_error() == Some(11)))",
    "thread": "(0..50).all(|_| matches!(std::thread::Builder::new().spawn(|| loop {}),"
    " Err(e) if e.raw_os_error() == Some(11)))",
    "files": 'std::fs::write("/x", "x").is_err() && std::fs::read("/etc/passwd").is_err()',
    "fill": 'std::fs::write("/tmp/x", "x").is_ok()',
    "argument": 'std::env::vars().all(|(name, _)| !name.contains("HOME"))',
    "network": 'std::net::TcpStream::connect("127.0.0.1:22").is_err()',
    "wait": "loop { std::thread::park() }",
}
_PASSED = {"after": 1, "fork": 2, "thread": 2, "files": 2, "argument": 2, "network": 2}


def test_unguarded_code_cannot_forge_a_result(
    tools: tuple[Toolchain, Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = rust.TEST_LIMITS
    brief = Limits(limits.cpu_s, 2.0, limits.memory, 0, 1, limits.output)
    monkeypatch.setattr(rust, "TEST_LIMITS", brief)
    sources = [f"pub fn f(x: i32) -> bool {{ let _ = x; {body} }}" for body in _HOSTILE.values()]
    candidates = [Candidate(source, "f", ("f(1)", "f(2)")) for source in sources]
    builder = Builder(*tools, candidates, tmp_path)
    attempt = builder.program(range(len(candidates)))
    assert attempt.ok, attempt
    start = time.monotonic()
    outcomes = {
        name: rust._run_tests(tools[1], (attempt.artifact, index))
        for index, name in enumerate(_HOSTILE)
    }
    assert outcomes.pop("wait") == "the tests did not finish in time"
    assert outcomes == {name: _PASSED.get(name, 0) for name in outcomes}
    assert time.monotonic() - start < 20


def test_the_compiler_itself_forbids_unsafe_code(
    tools: tuple[Toolchain, Sandbox], tmp_path: Path
) -> None:
    builder = Builder(*tools, [Candidate("pub fn f() { unsafe {} }", "f", ())], tmp_path)
    assert builder.check([0]).blame.errors == {0: 1}
    assert builder.program([0]).blame.errors == {0: 1}


def test_no_files_are_left(
    tools: tuple[Toolchain, Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    RustVerifier(*tools).verify([candidate("xs.iter().sum()"), candidate("xs")])
    assert list(tmp_path.iterdir()) == []


def test_a_real_batch_is_fast(tools: tuple[Toolchain, Sandbox]) -> None:
    """About 0.5 s on two idle cores; the bound only catches a batch that is not one."""
    good = [candidate(f"xs.iter().sum::<i32>() + {n} - {n}") for n in range(15)]
    bad = [candidate(f"xs.iter().summ{n}()") for n in range(15)]
    start = time.monotonic()
    verdicts = RustVerifier(*tools).verify(good * 2 + bad * 2)
    assert sum(verdict.clean for verdict in verdicts) == 30
    assert time.monotonic() - start < 8
