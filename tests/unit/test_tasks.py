"""Tasks: prompts are even and disjoint, answers end where they end, mutants die."""

import re
from random import Random

import pytest

from trainer.tasks import load_task
from trainer.tasks.arithmetic.task import ArithmeticTask
from trainer.tasks.base import Prompt
from trainer.tasks.rust.corpus import draw_document, draw_problem
from trainer.tasks.rust.families import FAMILIES
from trainer.tasks.rust.task import RustTask


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="'cobol': give rust or arithmetic"):
        load_task("cobol")


@pytest.mark.parametrize("name", ["rust", "arithmetic"])
def test_held_out_prompts_are_fixed_balanced_and_never_trained_on(name: str) -> None:
    task = load_task(name)
    held_out = task.held_out_prompts(96)
    assert held_out == load_task(name).held_out_prompts(96)
    assert len({p.id for p in held_out}) == 96
    counts = [sum(p.family == f for p in held_out) for f in {p.family for p in held_out}]
    assert max(counts) == min(counts)
    rng = Random(1)
    trained = {p.text for _ in range(300) for p in task.training_prompts(rng, 8)}
    assert trained.isdisjoint(p.text for p in held_out)
    corpus = {task.draw_document(rng)[0] for _ in range(2000)}
    assert corpus.isdisjoint(p.text for p in held_out)


def test_training_prompts_cover_the_families_evenly() -> None:
    task = RustTask()
    families = [p.family for p in task.training_prompts(Random(3), 24)]
    assert sorted(families) == sorted(f.name for f in FAMILIES for _ in range(2))
    assert task.training_prompts(Random(3), 8) == task.training_prompts(Random(3), 8)


def test_a_prompt_does_not_end_in_a_newline() -> None:
    assert all(p.text.endswith("{") for p in RustTask().held_out_prompts(24))


@pytest.mark.parametrize(
    ("completion", "end"),
    [
        ("\n    1\n}", 8),
        ("\n    1\n} fn more() {}", 8),
        (" if x { 1 } else { 2 } }", 24),
        (" '}' }", 6),
        (' "}\\"}" }', 9),
        (' r#"}"}"# }', 11),
        (" // }\n}", 7),
        (" /* } */ }", 10),
        (" let a: &'static str = x; }", 27),
        (" { }", None),
        (' "}', None),
        ("", None),
    ],
)
def test_where_an_answer_ends(completion: str, end: int | None) -> None:
    [prompt] = RustTask().held_out_prompts(1)
    assert RustTask().answer_end(prompt, completion) == end


@pytest.mark.needs("rustc", "bwrap", "cc")
def test_right_bodies_are_clean_and_careless_ones_fail() -> None:
    task = RustTask()
    cases: list[tuple[str, Prompt, str]] = []
    for family in FAMILIES:
        for held_out in (False, True):
            problem = draw_problem(family, Random(family.name), held_out=held_out)
            for kind in ("right", "lazy", "wrong"):
                bodies = getattr(family, kind)
                cases += [(kind, problem.prompt, problem.completion(body)) for body in bodies]
    verdicts = task.verify([p for _, p, _ in cases], [c for _, _, c in cases])
    for (kind, _, completion), verdict in zip(cases, verdicts, strict=True):
        assert verdict.compiled, completion
        assert verdict.clean == (kind == "right"), completion


def _mutants(completion: str) -> set[str]:
    """Every single change of an operator, a number or a telling word."""
    swaps = [
        (r"(?<![-=|])>(?!=)", ">="),
        (r"(?<![-=])>(?!=)", "<"),
        (r"<(?![=A-Z])", "<="),
        (r" \+ ", " - "),
        (r"\+=", "-="),
        (r" \* ", " + "),
        (r"\bmax\b", "min"),
        (r"\.rev\(\)", ""),
        (r"\btake\b", "skip"),
        (r"\breverse\b", "sort"),
        (r"\bnone\b|\bNone\b", "Some(0)"),
    ]
    found = set()
    for pattern, new in swaps:
        for match in re.finditer(pattern, completion):
            found.add(completion[: match.start()] + new + completion[match.end() :])
    for match in re.finditer(r"\b\d+\b", completion):
        for step in (-1, 1):
            number = str(int(match[0]) + step)
            found.add(completion[: match.start()] + number + completion[match.end() :])
    return found


@pytest.mark.needs("rustc", "bwrap", "cc")
def test_mutants_of_right_bodies_die() -> None:
    """No mutant of a body passes; all of these change what the function returns."""
    task = RustTask()
    prompts, mutants = [], []
    for family in FAMILIES:
        problem = draw_problem(family, Random(family.name))
        for body in family.right:
            for mutant in sorted(_mutants(problem.completion(body))):
                prompts.append(problem.prompt)
                mutants.append(mutant)
    assert len(mutants) > 100
    verdicts = task.verify(prompts, mutants)
    assert sum(bool(v.compiled) for v in verdicts) > len(mutants) / 2
    alive = [m for m, v in zip(mutants, verdicts, strict=True) if v.passed or v.unscored]
    assert alive == []


def test_the_corpus_is_reproducible() -> None:
    assert [draw_document(Random(5)) for _ in range(3)] == [draw_document(Random(5))] * 3


@pytest.mark.parametrize(
    ("text", "parsed", "passed"),
    [("62", True, True), ("61", True, False), ("6 2", False, False), ("", False, False)],
)
def test_arithmetic_verdicts(text: str, parsed: bool, passed: bool) -> None:
    prompt = Prompt("37+25=", "add", "37+25=", ("62",))
    [verdict] = ArithmeticTask().verify([prompt], [text])
    assert (verdict.parsed, verdict.passed, verdict.compiled) == (parsed, passed, None)
