"""Tasks at their edges: the end of the evaluation set, comments in comments, subtle mutants."""

from random import Random

import pytest

from trainer.tasks import load_task
from trainer.tasks.rust.corpus import draw_problem
from trainer.tasks.rust.families import FAMILIES
from trainer.tasks.rust.task import RustTask


@pytest.mark.parametrize(("name", "size"), [("rust", 960), ("arithmetic", 258)])
def test_the_evaluation_set_ends(name: str, size: int) -> None:
    """Asking for more than there is gives all there is; it used to search for ever."""
    prompts = load_task(name).held_out_prompts(100_000)
    assert len(prompts) == size
    assert len({p.text for p in prompts}) == size
    assert prompts[:96] == load_task(name).held_out_prompts(96)


@pytest.mark.parametrize(
    ("completion", "end"),
    [(" /* /* } */ } */ }", 18), (" /* /* } */ }", None), (" /**/ }", 7), (" b'}'; }", 8)],
)
def test_block_comments_nest(completion: str, end: int | None) -> None:
    [prompt] = RustTask().held_out_prompts(1)
    assert RustTask().answer_end(prompt, completion) == end


# Not equivalent to the right body, and alive under inputs of at most three positive values.
_SUBTLE = {
    "sum": ["$p.iter().take(3).sum()"],
    "sum_of_squares": ["$p.iter().take(3).map(|x| x * x).sum()"],
    "max": ["$p.iter().take(3).copied().max()", "$p.iter().copied().filter(|x| *x != 0).max()"],
    "or_default": ["$p.filter(|x| *x != 0).unwrap_or($c)", "$p.unwrap_or($c).abs()"],
    "prefix": ["$p.trim().chars().take($c).collect()", "$p[..$c.min($p.len())].to_string()"],
    "reverse": ["let mut v = $p.to_vec();\nv.sort_by(|a, b| b.cmp(a));\nv"],
    "map": ["$p.iter().take(3).map(|x| x * $c).collect()"],
    "increment": ["for x in $p.iter_mut().skip(1) {\n    *x += $c;\n}"],
    "filter": [
        "$p.iter().copied().take(3).filter(|&x| x > $c).collect()",
        "let mut v: Vec<i64> = $p.iter().copied().filter(|&x| x > $c).collect();\nv.sort();\nv",
    ],
    "count": [
        "$p.iter().filter(|x| x.abs() < $c).count()",
        "$p.iter().skip_while(|x| **x == 0).filter(|x| **x < $c).count()",
    ],
    "first_greater": [
        "$p.iter().copied().take(3).find(|&x| x > $c)",
        "$p.iter().copied().filter(|&x| x > $c).min()",
    ],
    "get_or": ["if $i != $p.len() {\n    $p[$i]\n} else {\n    $c\n}"],
}


@pytest.mark.needs("rustc", "bwrap", "cc")
def test_subtle_mutants_compile_and_fail() -> None:
    assert set(_SUBTLE) == {family.name for family in FAMILIES}
    problems = {f.name: draw_problem(f, Random(f.name), held_out=True) for f in FAMILIES}
    cases = [(problems[name], body) for name, bodies in _SUBTLE.items() for body in bodies]
    verdicts = RustTask().verify([p.prompt for p, _ in cases], [p.completion(b) for p, b in cases])
    for (problem, body), verdict in zip(cases, verdicts, strict=True):
        assert verdict.compiled, problem.completion(body)
        assert verdict.unscored is None, problem.completion(body)
        assert not verdict.passed, problem.completion(body)
