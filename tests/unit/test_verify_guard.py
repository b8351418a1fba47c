import time

import pytest

from trainer.verify import guard


def function(body: str, signature: str = "f(xs: &[i32]) -> i32") -> str:
    return f"/// Does something.\npub fn {signature} {{\n    {body}\n}}\n"


@pytest.mark.parametrize(
    "body",
    [
        "xs.iter().sum()",
        'let v = vec![1, 2]; assert!(!v.is_empty(), "{v:?}"); v[0]',
        "if matches!(xs.first(), Some(x) if !(*x > 1)) { 1 } else { 2 }",
        "use std::collections::HashMap; let m: HashMap<i32, i32> = HashMap::new(); m.len() as i32",
        "use std::{cmp::{max, min}, collections::{HashMap, HashSet},}; max(1, min(2, xs[0]))",
        'use std::fmt::{self, Write}; let mut s = String::new(); write!(s, "a").unwrap(); 1',
        "std::cmp::max(xs[0], core::cmp::min(1, 2)) + i32::MAX",
        "let core = xs[0]; let alloc = core; alloc + core",
        'let s: &\'static str = "unsafe { std::env::var() }"; s.len() as i32',
        'let v: Vec<&\'static str> = vec![]; v.len() as i32 // unsafe crate:: include!("x")',
        "fn g() -> impl Fn(i32) -> i32 { |x| x + 1 } g()(xs[0])",
        "struct P { x: i32 } enum E { A } const K: i32 = 2; let p = P { x: K }; p.x + E::A as i32",
        "/* unsafe */ xs[0]",
        'let s = "h\u00e9llo"; s.len() as i32',
    ],
)
def test_ordinary_bodies_are_let_through(body: str) -> None:
    assert guard.read(function(body), "f").refused is None
    assert guard.read(function(body), "f").parsed


@pytest.mark.parametrize(
    ("body", "construct"),
    [
        ("unsafe { 1 }", "unsafe"),
        ("vec![unsafe { 1 }][0]", "unsafe"),
        ("extern crate std as s; 1", "extern"),
        ('extern "C" { fn getpid() -> i32; } 1', "extern"),
        ("mod m; 1", "mod"),
        ("mod m { pub fn g() {} } 1", "mod"),
        ("trait T {} 1", "trait"),
        ("struct S; impl Drop for S { fn drop(&mut self) {} } 1", "impl"),
        ("vec![{ struct S; impl S {} 1 }][0]", "impl"),
        ("static X: [u8; 1 << 31] = [0; 1 << 31]; 1", "static"),
        ("macro_rules! m { () => { 1 } } m!()", "macro_rules!"),
        ("crate::c1::f(xs)", "crate"),
        ("super::c1::f(xs)", "super"),
        ("self::f(xs)", "self::"),
        ("use self::f as g; g(xs)", "self::"),
        ("#[allow(warnings)] let x = 1; 2", "attribute"),
        ("#![allow(warnings)] 2", "attribute"),
        ("vec![#[cfg(x)] 1, 2][0]", "attribute"),
        ('include!("/etc/passwd")', "include!"),
        ('include_str!("/etc/passwd").len() as i32', "include_str!"),
        ('vec![include_bytes!("/etc/passwd")].len() as i32', "include_bytes!"),
        ('env!("HOME").len() as i32', "env!"),
        ('option_env ! ("HOME").is_some() as i32', "option_env!"),
        ('core::arch::asm!("nop"); 1', "core::arch"),
        ('println!("{}", 1); 1', "println!"),
        ('std::vec!["a"].len() as i32', "vec!"),
        ('compile_error!("x")', "compile_error!"),
        ('std::env::var("HOME").is_ok() as i32', "std::env"),
        ('std :: /* */ fs::read("/etc/passwd").is_ok() as i32', "std::fs"),
        ("::std::process::exit(0)", "std::process"),
        ("r#std::process::exit(0)", "std::process"),
        ("vec![std::process::id()][0] as i32", "std::process"),
        ("use std::io; 1", "std::io"),
        ("use std::{cmp, net}; 1", "std::net"),
        ("use std::{collections::{HashMap, HashSet}, thread}; 1", "std::thread"),
        ("use std::*; 1", "std::*"),
        ("use std::{cmp, *}; 1", "std::*"),
        ("use std::{self as s}; 1", "std::self"),
        ("use std as s; 1", "std"),
        ("use {std as s}; 1", "std"),
        ("use core as s; 1", "core"),
        ("let x: std::os::raw::c_int = 1; x", "std::os"),
        ("std::ptr::null::<i32>() as i32", "std::ptr"),
        ('// \r "\n 1 //"', "character U+000D"),
        ("1 // \u202e", "character U+202E"),
        ("(" * 250 + "1" + ")" * 250, "nesting deeper than 200"),
        ("-" * 250 + "1", "nesting deeper than 200"),
    ],
)
def test_refusals_name_the_construct(body: str, construct: str) -> None:
    reading = guard.read(function(body), "f")
    assert (reading.parsed, reading.refused) == (True, construct)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "   ",
        "// nothing but a comment",
        function("if xs.len() > 1 { 3"),
        function("1 }"),
        function("let = 3;"),
        function("1 \0"),
        function("1 // \0"),
        function("1 // \ud800"),
        function("1", "g() -> i32"),
        function("1") + function("2"),
        function("1") + "struct S;",
        "use std::fmt;\n" + function("1"),
        "pub fn f(xs: &[i32]) -> i32;",
    ],
)
def test_anything_but_the_one_function_is_not_parsed(source: str) -> None:
    assert not guard.read(source, "f").parsed


def test_attributes_on_the_function_are_refused() -> None:
    assert guard.read("#[no_mangle]\npub fn f() {}", "f").refused == "attribute"
    assert guard.read("#![no_std]\npub fn f() {}", "f").refused == "attribute"


def test_a_long_source_is_not_even_parsed() -> None:
    reading = guard.read(function("1 // " + "x" * guard.MAX_BYTES), "f")
    assert (reading.parsed, reading.refused) == (False, "more than 32768 bytes")


@pytest.mark.parametrize("opening", ["(", "[", "{", "&", "f(", "/*", "vec![", "if a {", '"', "<"])
def test_deep_or_broken_nesting_neither_raises_nor_hangs(opening: str) -> None:
    start = time.monotonic()
    count = guard.MAX_BYTES // (len(opening) + 1) - 100
    guard.read(function(opening * count), "f")
    guard.read("pub fn f() { " + opening * count, "f")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("body", "alone"),
    [
        ("use std::collections::*; 1", True),
        ("use std::fmt::{self, *}; 1", True),
        ("vec![{ use c0::*; 1 }][0]", True),
        ("use std::cmp::max; max(xs[0] * 2, 1)", False),
        ("xs[0] * xs[1]", False),
    ],
)
def test_glob_imports_are_compiled_alone(body: str, alone: bool) -> None:
    assert guard.read(function(body), "f").alone is alone


@pytest.mark.parametrize(
    ("source", "trivial"),
    [
        ("", True),
        ("pub struct S;", True),
        ("fn f() {}", True),
        ("pub fn f(x: i64) -> i64 { 1 }", True),
        ("pub fn f(x: i64) -> i64 { x }", False),
        ("impl S { fn f(&self) -> i64 { self.x } }", False),
        ("impl S { fn f(&self) -> i64 { 1 } }", True),
        ("#[cfg(test)]\nmod t { fn f(x: i64) -> i64 { x } }", True),
    ],
)
def test_a_file_is_trivial_where_no_function_does_anything(source: str, trivial: bool) -> None:
    assert guard.read_file(source.encode()).trivial is trivial


@pytest.mark.parametrize(
    ("body", "trivial"),
    [
        ("xs.len() as i32", False),
        ("0", True),
        ("", True),
        ("todo!()", True),
        ("return unimplemented!();", True),
        ('panic!("{:?}", xs)', True),
        ("loop {}", True),
        ("loop { /* xs */ }", True),
        ("loop { if xs.is_empty() { return 1; } }", False),
        ("let y = 3; y", True),
        ("let xs = 3; 1", True),
        ("let _ = xs; 1", True),
        ("let _unused = xs.len(); 1", True),
        ("let n = xs.len(); n as i32", False),
        ('format!("{xs:?}").len() as i32', False),
        ("vec![xs].len() as i32", False),
        ("// xs\n1", True),
    ],
)
def test_trivial_bodies(body: str, trivial: bool) -> None:
    assert guard.read(function(body), "f").trivial is trivial


def test_without_parameters_only_giving_up_is_trivial() -> None:
    assert not guard.read(function("42", "f() -> i32"), "f").trivial
    assert guard.read(function("unreachable!()", "f() -> i32"), "f").trivial


def test_a_destructured_parameter_counts() -> None:
    assert not guard.read(function("a", "f((a, b): (i32, i32)) -> i32"), "f").trivial
    assert guard.read(function("1", "f((a, b): (i32, i32)) -> i32"), "f").trivial
