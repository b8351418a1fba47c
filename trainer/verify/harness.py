"""The Rust sources around the candidates: what is compiled, and what runs their tests."""

from collections.abc import Iterable, Sequence

# `t{i}` is apart from `c{i}` so that a candidate's file stays exactly what the model wrote. The
# outer parentheses keep a test one expression; the line break ends a comment inside it.
_TESTS = """\
use crate::c{index}::{function};
pub const TESTS: &[fn() -> bool] = &[
{tests}];
"""

# The nonce is read, and so gone from stdin, before any of the candidate's code runs. Whether
# `begin` came tells a candidate that died from a sandbox that never worked.
_MAIN = """\
#![forbid(unsafe_code)]
{modules}
use std::io::Write;

fn main() {{
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let nonce = line.trim_end();
    println!("{{nonce}} begin");
    std::io::stdout().flush().unwrap();
    std::panic::set_hook(Box::new(|_| {{}}));
    let tests: &[fn() -> bool] = match std::env::args().nth(1).as_deref() {{
{arms}        _ => return,
    }};
    let mut passed = 0;
    for test in tests {{
        match std::panic::catch_unwind(test) {{
            Ok(true) => passed += 1,
            Ok(false) => {{}}
            Err(payload) => std::mem::forget(payload),
        }}
    }}
    println!("\\n{{nonce}} {{passed}} {{}}", tests.len());
}}
"""


def library(indices: Iterable[int]) -> str:
    """The crate root that declares `c{i}` for each index, and nothing else."""
    modules = "".join(f"pub mod c{index};\n" for index in indices)
    return f"#![forbid(unsafe_code)]\n{modules}"


def main(indices: Sequence[int]) -> str:
    """The crate root of a program that runs the tests `t{i}` for the index i it is called with.

    It reads one line, a nonce, from stdin, prints `NONCE begin`, and last `NONCE PASSED TOTAL`.
    """
    modules = "".join(f"pub mod c{index};\nmod t{index};\n" for index in indices)
    arms = "".join(f'        Some("{index}") => t{index}::TESTS,\n' for index in indices)
    return _MAIN.format(modules=modules, arms=arms)


def tests(index: int, function: str, expressions: Sequence[str]) -> str:
    """The module `t{index}`: the boolean `expressions`, which call `function` unqualified."""
    lines = "".join(f"    || ({expression}\n),\n" for expression in expressions)
    return _TESTS.format(index=index, function=function, tests=lines)


def result(output: bytes, nonce: str) -> tuple[bool, int]:
    """(the harness began, tests passed) as the program's output says, by its nonce alone.

    Without a last line that carries the nonce no test counts as passed.
    """
    lines = output.decode("utf-8", "replace").split("\n")
    began = bool(lines) and lines[0] == f"{nonce} begin"
    last = lines[-2].split(" ") if len(lines) > 1 else []
    if began and len(last) == 3 and last[0] == nonce and last[1].isdecimal():
        return began, int(last[1])
    return began, 0
