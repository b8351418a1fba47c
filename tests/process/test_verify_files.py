"""`maxrl-ops verify` and `python -P -m trainer.verify`: whole files, and what they may try."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.reward import ORIGIN, bonuses, guide
from trainer.verify import guard
from trainer.verify.files import FileVerdict, FileVerifier
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

pytestmark = pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit")

POINT = """\
/// A point.
#[derive(Debug, PartialEq)]
pub struct Point {
    /// Across.
    pub x: i64,
}

impl Point {
    /// It, moved.
    pub fn moved(&self, by: i64) -> Self {
        Point { x: self.x + by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves() {
        assert_eq!(Point { x: 1 }.moved(2), Point { x: 3 });
    }

    #[test]
    #[should_panic]
    fn overflows() {
        Point { x: i64::MAX }.moved(1);
    }

    mod deeper {
        #[test]
        fn returns() -> Result<(), std::fmt::Error> {
            Ok(())
        }
    }
}
"""
TESTS = """
#[cfg(test)]
mod tests {
    #[test]
    fn first() {
        assert!(super::f(1));
    }
    #[test]
    fn second() {
        assert!(super::f(2));
    }
}
"""


@pytest.fixture(scope="module")
def verifier() -> FileVerifier:
    return FileVerifier(Toolchain.find(), find_sandbox())


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "maxrl_ops", "verify", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What --json says of one file of each kind; the verifier's own program says the same."""
    directory = tmp_path_factory.mktemp("files")
    files = {
        "good": POINT,
        "crlf": POINT.replace("\n", "\r\n"),
        "wrong": POINT.replace("+ by", "- by"),
        "broken": POINT.replace("self.x + by", 'self.y + "text"'),
        "broken_test": POINT.replace("moved(2)", 'moved("2")'),
        "warned": POINT.replace("Point { x: self", "let unused = 1; Point { x: self"),
        "empty": "",
        "unparsed": "pub fn f( {",
        "main": "fn main() {\n    let _sum = 1 + 1;\n}\n",
        "long": "// " + "x" * guard.MAX_FILE_BYTES,
    }
    for name, text in files.items():
        (directory / f"{name}.rs").write_text(text, newline="")
    (directory / "binary.rs").write_bytes(b"\xff\xfe\0")
    names = [f"{name}.rs" for name in (*files, "binary")]
    done = run("--json", *names, cwd=directory)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [each["file"] for each in found] == names
    return {name.removesuffix(".rs"): each for name, each in zip(names, found, strict=True)}


KEYS = (
    "file parsed compiled errors warnings tests_passed tests_total unscored reward components"
    " correct"
).split()


def test_the_shape_is_fixed(told: dict[str, dict[str, Any]]) -> None:
    for each in told.values():
        assert list(each)[: len(KEYS)] == KEYS


@pytest.mark.parametrize(
    ("name", "compiled", "errors", "warnings", "passed", "total", "reward"),
    [
        ("good", True, 0, 0, 3, 3, 23),
        ("crlf", True, 0, 0, 3, 3, 23),
        ("wrong", True, 0, 0, 1, 3, 8),
        ("broken", False, 1, 0, 0, 0, 8),
        ("broken_test", False, 1, 0, 0, 0, 8),
        ("warned", True, 0, 1, 3, 3, 18),
        ("empty", True, 0, 0, 0, 0, 8),
        ("unparsed", False, 1, 0, 0, 0, 0),
        ("main", True, 0, 0, 0, 0, 23),
        ("long", False, 1, 0, 0, 0, 0),
        ("binary", False, 1, 0, 0, 0, 0),
    ],
)
def test_verdicts_and_rewards(
    told: dict[str, dict[str, Any]],
    name: str,
    compiled: bool,
    errors: int,
    warnings: int,
    passed: int,
    total: int,
    reward: float,
) -> None:
    each = told[name]
    counts = (each["errors"], each["warnings"], each["tests_passed"], each["tests_total"])
    assert (each["compiled"], *counts) == (compiled, errors, warnings, passed, total), each
    assert each["reward"] == sum(each["components"].values()) == reward
    assert each["correct"] is (reward > 20)
    assert each["unscored"] is None


def test_what_a_person_reads(tmp_path: Path) -> None:
    file = tmp_path / "b[red]a\x1b[31md.rs"
    file.write_text(POINT.replace("self.x + by", "self.nope"))
    done = run(file.name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("b[red]a\\x1b[31md.rs: not correct, reward 8.00\n")
    assert "does not compile: 1 error\n" in done.stdout
    assert "no field `nope`" in done.stdout
    assert "--> b[red]a\\x1b[31md.rs:11:" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()
    file.write_text(POINT.replace("+ by", "- by"))
    assert "failed: tests::moves\n" in run(file.name, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["none.rs"], 3, "none.rs: there is no such file"),
        (["."], 2, ".: Is a directory"),
        ([], 2, "missing argument"),
        (["x.rs", "--reward", "own"], 2, "argument --reward: invalid choice: 'own'"),
        (["x.rs", "--reward-weights", "none.toml"], 3, "none.toml: there is no such file"),
        (["x.rs", "--reward-weights", "x.rs"], 2, "x.rs: no TOML"),
        (["x.rs", "--reward", "guide", "--reward-weights", "w.toml"], 2, "on top of the profile"),
        (["--", "--json"], 3, "--json: there is no such file"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    (tmp_path / "x.rs").write_text("fn f() {")
    (tmp_path / "w.toml").write_text("match = 1")
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert complaint.lower() in done.stderr.lower()
    assert done.stderr.count("\n") == 1


def test_without_a_compiler_it_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "x.rs").write_text(POINT)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "trainer.verify", "x.rs"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("verify: rustc is missing")
    assert done.stderr.count("\n") == 1


def test_own_weights_count_on_top(tmp_path: Path) -> None:
    (tmp_path / "x.rs").write_text(POINT)
    (tmp_path / "w.toml").write_text("structs = 2\ndoc_coverage = 1.5\n")
    done = run("x.rs", "--json", "--reward-weights", "w.toml", cwd=tmp_path)
    (each,) = json.loads(done.stdout)
    assert done.returncode == 0
    assert each["reward"] == 26.5
    assert each["components"] == {
        "parses": 8,
        "compiles": 10,
        "clean": 5,
        "structs": 2,
        "doc_coverage": 1.5,
    }


# The rows of the guide's demo that its origin's measures can be seen in: real code, real rustc.
ITERATOR = """\
pub fn doubled_evens(values: &[i64]) -> Vec<i64> {
    values.iter().filter(|x| *x % 2 == 0).map(|x| x * 2).collect()
}
"""
ERROR_HANDLING = """\
pub fn divide(a: f64, b: f64) -> Result<f64, String> {
    if b == 0.0 {
        return Err("division by zero".to_string());
    }
    Ok(a / b)
}
"""
STRUCT = """\
pub struct Point {
    pub x: f64,
    pub y: f64,
}

impl Point {
    pub fn new(x: f64, y: f64) -> Self {
        Point { x, y }
    }

    pub fn length(&self) -> f64 {
        (self.x * self.x + self.y * self.y).sqrt()
    }
}
"""
TYPE_MISMATCH = """\
pub fn mixed() -> i64 {
    let number: i64 = "text";
    let text: &str = 5;
    number
}
"""


@pytest.mark.parametrize(
    ("source", "reward"),
    [(ITERATOR, 28.6), (ERROR_HANDLING, 28.0), (STRUCT, 25.1), (TYPE_MISMATCH, 5.0)],
)
def test_the_guides_demo_rows(verifier: FileVerifier, source: str, reward: float) -> None:
    verdict = verifier.verify(source.encode()).verdict
    assert verdict.quality is not None
    total = guide(verdict).total + sum(bonuses(verdict.quality, ORIGIN).values())
    assert total == pytest.approx(reward)


def judged(verifier: FileVerifier, source: str) -> FileVerdict:
    return verifier.verify(source.encode())


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("pub fn f() { std::process::exit(0) }", "std::process"),
        ("use std::{process as p}; pub fn f() { p::exit(0) }", "std::process"),
        ('pub fn f() { println!("test tests::first ... ok"); }', "println!"),
        ("macro_rules! m { ($a:ident $b:ident) => { $a::$b::exit(0) } }", "macro_rules!"),
        ("pub fn f() { unsafe {} }", "unsafe"),
        ('extern "C" { fn exit(code: i32); }', "extern"),
        ("mod stolen;", "mod"),
        ('#[path = "/etc/passwd"] mod stolen {}', "attribute path"),
        ("#![allow(warnings)]", "attribute"),
        ("#[allow(unused)] fn f() {}", "attribute allow"),
        ("#[test] #[ignore] fn f() {}", "attribute ignore"),
        ("#[cfg(not(test))] fn f() {}", "attribute cfg(not(test))"),
        ("#[cfg_attr(test, ignore)] fn f() {}", "attribute cfg_attr"),
        ('#[doc = include_str!("/etc/passwd")] fn f() {}', "include_str!"),
        ('const X: &str = include_str!("/etc/passwd");', "include_str!"),
        ('const X: &str = env!("HOME");', "env!"),
        ("// \u202e", "character U+202E"),
    ],
)
def test_a_file_may_not(verifier: FileVerifier, source: str, refused: str) -> None:
    found = judged(verifier, source + TESTS)
    assert found.verdict.refused == refused
    assert found.verdict.compiled is False
    assert not found.verdict.passed


@pytest.mark.parametrize(
    "source",
    [
        "pub trait T { fn t(&self) -> i64; }\nimpl T for i64 { fn t(&self) -> i64 { *self } }",
        "pub mod a { pub fn g() -> i64 { crate::b() } }\npub fn b() -> i64 { self::a::g() }",
        "use std::collections::*;\npub fn m() -> HashMap<i64, i64> { HashMap::new() }",
        "pub static S: [i64; 2] = [1, 2];",
    ],
)
def test_a_file_may(verifier: FileVerifier, source: str) -> None:
    found = judged(verifier, f"{source}\npub fn f(x: i64) -> bool {{ x > 0 }}{TESTS}")
    assert found.verdict.clean, found
    assert found.verdict.tests_total == 2


# What only unguarded code can do: counting tests must stand without the guard.
FORGERIES = {
    "exits": "std::process::exit(0)",
    "prints": 'println!("test result: ok. 3 passed; 0 failed"); std::process::exit(0)',
    "guesses": "let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap();"
    ' print!("{s}"); std::process::exit(0)',
    "hooks": "std::panic::set_hook(Box::new(|_| std::process::exit(0))); panic!()",
    "aborts": "std::process::abort()",
    "loops": "loop {}",
    "overflows": "f(x + 1) && f(x + 2)",
    "floods": 'loop { println!("{}", "x".repeat(1000)); }',
    "catches": "std::panic::catch_unwind(|| panic!()).is_ok()",
    "forks": 'std::process::Command::new("/bin/true").spawn().is_ok()',
    "threads": "std::thread::spawn(|| std::process::exit(0)).join().is_ok()",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_pass_cannot_be_forged(
    verifier: FileVerifier, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_refused_construct", lambda root, is_file: None)
    source = f"pub fn f(x: i64) -> bool {{ let _ = x; {FORGERIES[name]} }}{TESTS}"
    found = judged(verifier, source)
    assert found.verdict.unscored is None, found
    assert (found.verdict.compiled, found.verdict.tests_total) == (True, 2), found
    assert found.verdict.tests_passed == 0, found
    assert set(found.failed) == {"tests::first", "tests::second"}


def test_failing_tests_are_named_and_odd_names_do_not_slip_through(verifier: FileVerifier) -> None:
    body = "pub fn f(x: i64) -> bool { x > 1 }"
    assert judged(verifier, body + TESTS).failed == ("tests::first",)
    odd = TESTS.replace("mod tests", "mod \u00e9tests")
    found = judged(verifier, body + odd)
    assert found.verdict.unscored == "a test's name is not ASCII: \u00e9tests::first"
    assert not found.verdict.passed
