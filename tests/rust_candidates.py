"""Candidates for the Rust verifier, right, broken and hostile, all from one seed."""

import re
from random import Random

from trainer.tasks.rust.corpus import draw_problem
from trainer.tasks.rust.families import FAMILIES
from trainer.verify.candidate import Candidate

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_TYPES = ("i64", "u8", "&str", "String", "Vec<i64>", "Option<i64>", "usize", "&[i64]", "()", "f64")
_BRACKETS = "(){}[]<>"

# One error or warning each, from every stage that rustc has: a compiler that gives up after a
# stage must not make one candidate's count depend on another's mistakes.
_STAGES = (
    "use std::cmp::Nope;",
    "use std::collections::{HashMap, Nope};",
    "nope!();",
    "let _: Nope = 1;",
    "undefined_name;",
    "undefined_call(1);",
    'let _: i64 = "text";',
    "let _: u8 = 1i64;",
    "1i64.nope();",
    "let s = String::new(); let _t = s; let _u = s;",
    "let v = vec![1]; v.push(2);",
    "let r; { let x = 1; r = &x; } let _ = r;",
    "const X: i64 = 1 / 0; let _ = X;",
    "const A: [i64; 1] = [0]; let _ = A[3];",
    "let _ = 1u8 << 9;",
    "let _ = 300u8;",
    "let _ = 1i64 % 0;",
    "let a = [1, 2]; let _ = a[5];",
    "let _ = [1].iter().collect();",
    "break;",
    "return 1u8 + 1u16;",
    "let x: Option<i64> = None; match x { Some(_) => {} }",
    "struct R { r: R }",
    "enum E { A(E) }",
    "fn g<T>(t: T) -> T { g((t, 1)).0 } let _ = g(1);",
    "fn h<'a>() -> &'a i64 { let x = 1; &x } let _ = h();",
    "fn i(x: &i64, y: &i64) -> &i64 { x } let _ = i(&1, &2);",
    "fn j<T: Copy>(_: T) {} j(String::new());",
    "let c = |x| x; c(1); c(true);",
    "let x = 5; x = 6; let _ = x;",
    "let _ = { let mut z = 1; &mut z as &mut dyn std::any::Any };",
    "let _ = [0u8; 1 << 62];",
    "let _ = vec![0u8; 1 << 40].len();",
    "let _: [i64; 2] = [1, 2, 3];",
    'let _ = format!("{} {}", 1);',
    'let _ = format!("{missing}");',
    'let _ = write!(String::new(), "x");',
    "let (a, b) = 1;",
    "let _ = 1 + true;",
    "let _ = -1usize;",
    "let _ = !1.5;",
    "let _ = 1 as String;",
    "let _ = &1 as *const i64 as u8;",
    "const fn k(n: u64) -> u64 { k(n + 1) } const K: u64 = k(0); let _ = K;",
    "fn l() -> impl Fn() { l() } let _ = l;",
    "async fn m() {} let _ = m().await;",
    "let unused = 1;",
    "let mut never = 1; let _ = never;",
    "fn helper() {}",
    "struct Unused { field: i64 }",
    "use std::collections::HashMap;",
    "if (true) {}",
    "while true { break; }",
    "loop { break } ;",
    "1 == 1;",
    "let camelCase = 1; let _ = camelCase;",
    "panic!();",
    "return todo!();",
)
# What reaches for a neighbour, for the crate, or for the host.
_POISON = (
    "crate::c0::{f}(Default::default());",
    "super::c0::{f}(Default::default());",
    "c0::{f}(Default::default());",
    "c1::{f}(Default::default());",
    "use c0::*;",
    "use crate::*;",
    "use super::*;",
    "use super::super::*;",
    "self::{f};",
    "root::c0::{f}();",
    "use r#super::c0;",
    "macro_rules! vec {{ () => {{ compile_error!() }} }}",
    "macro_rules! m {{ ($($t:tt)*) => {{ $($t)* }} }} m!(crate::c0::{f});",
    "trait Extra {{ fn copied(self) -> i64; }}",
    "impl Drop for i64 {{ fn drop(&mut self) {{}} }}",
    "struct S; impl std::ops::Add for S {{ type Output = i64; fn add(self, _: S) -> i64 {{ 1 }} }}",
    "impl PartialEq<i64> for [i64] {{ fn eq(&self, _: &i64) -> bool {{ true }} }}",
    "impl Iterator for () {{ type Item = (); fn next(&mut self) -> Option<()> {{ None }} }}",
    "extern crate self as c0;",
    "extern crate std as core;",
    "extern crate alloc;",
    "mod c0 {{}}",
    '#[path = "c0.rs"] mod stolen;',
    'include!("c0.rs");',
    'include_str!("c0.rs");',
    '#[export_name = "main"] fn x() {{}}',
    "#[no_mangle] fn malloc() {{}}",
    "#![allow(warnings)]",
    "#[global_allocator] static A: i64 = 1;",
    "static mut N: i64 = 0;",
    "std::process::exit(0);",
    'println!("0 9 9");',
    "unsafe {{ std::hint::unreachable_unchecked() }}",
    'compile_error!("x");',
    'std::compile_error!("x");',
    'let _ = env!("HOME");',
)
# Before or after the function: `{f}` is its name.
_OUTSIDE = (
    "#![allow(warnings)]\n{s}",
    "#![no_std]\n{s}",
    "#![no_implicit_prelude]\n{s}",
    "#![recursion_limit = \"1\"]\n{s}",
    "#[macro_use]\n{s}",
    "#[inline]\n{s}",
    "extern crate self as c1;\n{s}",
    "use crate::*;\n{s}",
    "{s}\nimpl Clone for i64 {{}}",
    "{s}\nmacro_rules! vec {{ () => {{}} }}",
    "{s}\n#[macro_export] macro_rules! m {{ () => {{}} }}",
    "{s}\npub fn {f}() {{}}",
    "{s}\nmod c0;",
    "{s}\n}}",
    "{s}\n/*",
    '{s}\nconst X: &str = "',
    "{s}\n// \u202e",
    "\ufeff{s}",
    "#!/bin/sh\n{s}",
    "{s}\0",
    "r#\"{s}",
)  # fmt: skip


def draw(rng: Random) -> Candidate:
    """One candidate: a right, lazy or wrong body, mutated up to three times."""
    problem = draw_problem(rng.choice(FAMILIES), rng)
    family = problem.family
    bodies = rng.choice((family.right, family.right, family.lazy, family.wrong))
    source = problem.prompt.text + problem.completion(rng.choice(bodies))
    function = problem.words["f"]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        source = rng.choice(_MUTATIONS)(source, function, rng)
    return Candidate(source, function, problem.prompt.tests)


def _at_token(source: str, rng: Random) -> tuple[list[str], int]:
    """The source's tokens, and the place of one in the body that is no blank."""
    tokens = _TOKEN.findall(source)
    start = tokens.index("{") if "{" in tokens else 0
    places = [i for i in range(start, len(tokens)) if not tokens[i].isspace()]
    return tokens, rng.choice(places or [0])


def _delete(source: str, _: str, rng: Random) -> str:
    tokens, place = _at_token(source, rng)
    return "".join(tokens[:place] + tokens[place + 1 :])


def _swap(source: str, _: str, rng: Random) -> str:
    tokens, place = _at_token(source, rng)
    other = rng.randrange(len(tokens))
    tokens[place], tokens[other] = tokens[other], tokens[place]
    return "".join(tokens)


def _retype(source: str, _: str, rng: Random) -> str:
    old = rng.choice(_TYPES)
    return source.replace(old, rng.choice(_TYPES), rng.choice((1, -1)))


def _bracket(source: str, _: str, rng: Random) -> str:
    place = rng.randrange(len(source) + 1)
    return source[:place] + rng.choice(_BRACKETS) + source[place:]


def _into_body(source: str, text: str) -> str:
    head, brace, rest = source.partition(" {\n")
    return f"{head}{brace}    {text}\n{rest}"


def _mistake(source: str, _: str, rng: Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 3))):
        source = _into_body(source, rng.choice(_STAGES))
    return source


def _poison(source: str, function: str, rng: Random) -> str:
    return _into_body(source, rng.choice(_POISON).format(f=function))


def _surround(source: str, function: str, rng: Random) -> str:
    return rng.choice(_OUTSIDE).format(s=source, f=function)


_MUTATIONS = (_delete, _swap, _retype, _bracket, _mistake, _mistake, _poison, _surround)
