from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import load_config
from trainer.errors import ExitCode, TrainerError
from trainer.reward import (
    CLEAN_THRESHOLD,
    ORIGIN,
    PROFILES,
    Bonus,
    bonuses,
    guide,
    is_correct,
    load_weights,
    profile_of,
)
from trainer.verdict import Verdict
from trainer.verify.quality import MEASURES, measure

CLEAN = Verdict(True, True, tests_passed=2, tests_total=2)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", {"short": 1}),
        ("fn f() {}\nfn g() {}", {"functions": 2, "short": 1}),
        ("mod m { pub fn f() { fn inner() {} } }", {"functions": 1}),
        ("struct S; impl S { fn f(&self) {} }", {"structs": 1, "functions": 0}),
        ("enum E { A } trait T { fn f(); }", {"enums": 1, "traits": 1, "functions": 0}),
        ("/// Doc.\nfn f() {}\nfn g() {}", {"docs": 1, "doc_coverage": 0.5}),
        ("// No doc.\n//// None.\nfn f() {}", {"docs": 0, "doc_coverage": 0}),
        ("/** Doc. */\n#[inline]\nfn f() {}", {"docs": 1, "doc_coverage": 1}),
        ("fn f() -> Result<Option<i64>, ()> { g()?; Ok(None) }", {"result": 1, "option": 1}),
        ("fn f() -> io::Result<()> { g()?; Ok(()) }", {"result": 1, "question_mark": 1}),
        ("fn f() { panic!(); todo!(); vec![1]; }", {"panics": 2}),
        ('fn f() { "unsafe panic!() ?"; /* ? */ }', {"panics": 0, "unsafe": 0, "question_mark": 0}),
        ("unsafe fn f() { unsafe {} }", {"unsafe": 2}),
        ("fn f(v: &[i64]) { v.len(); }", {"iterators": 0, "chaining": 0, "closures": 0}),
        (
            "fn f(v: &[i64]) { v.iter().map(|x| x); }",
            {"iterators": 1, "chaining": 1, "closures": 1},
        ),
        ("fn f() { a.collect::<Vec<_>>(); }", {"iterators": 1, "turbofish": 1, "chaining": 0}),
        ("fn f() { match x { Some(_) => 1, _ => 2 }; }", {"match": 1, "destructuring": 0}),
        ("fn f() { let (a, b) = c; }", {"destructuring": 1}),
        ("fn f(P { x }: P) { for (i, y) in z {} }", {"destructuring": 1}),
        ("fn f() {\n" + "g();\n" * 9 + "}", {"medium": 1, "short": 0, "long": 0}),
        ("fn f() {\n" + "g();\n\n" * 200 + "}", {"medium": 0, "short": 0, "long": 1}),
        ("fn f() {" + "if a {}" * 11 + "}", {"cyclomatic_excess": 2, "nesting_excess": 0}),
        ("fn f() {" + "if a {" * 5 + "}" * 6, {"cyclomatic_excess": 0, "nesting_excess": 2}),
        ("fn f() { if a {} " + "else if b {}" * 6 + "}", {"nesting_excess": 0}),
        ("fn f() { match x {" + "_ => 1," * 12 + "} }", {"cyclomatic_excess": 2}),
        (
            "fn f() {}\n#[cfg(test)]\nmod t { fn g() { panic!(); } #[test] fn h() {} }",
            {"functions": 1, "panics": 0, "short": 1},
        ),
    ],
)
def test_measures(source: str, expected: dict[str, float]) -> None:
    found = measure(source)
    assert {name: found[name] for name in expected} == expected


@given(st.text(max_size=200))
def test_any_text_has_every_measure(source: str) -> None:
    assert measure(source.encode("utf-8", "ignore").decode()).keys() == set(MEASURES)


def test_deep_nesting_takes_no_stack() -> None:
    assert measure("fn f() {" + "{" * 10_000 + "}" * 10_001)["functions"] == 1
    many = "fn f() {}\n" * 10_000
    assert measure(many)["functions"] == 10_000


def test_the_table_is_complete_and_makes_the_origins_maximum() -> None:
    assert ORIGIN.keys() == set(MEASURES)
    best = {name: 0.0 if b.weight < 0 else (b.up_to or 1.0) for name, b in ORIGIN.items()}
    quality = sum(bonuses(best, ORIGIN).values())
    assert guide(CLEAN).total + quality == pytest.approx(54.3)


qualities = st.fixed_dictionaries({name: st.floats(0, 50) for name in MEASURES})
own_weights = st.dictionaries(
    st.sampled_from(MEASURES), st.builds(Bonus, st.floats(-100, 100), st.none() | st.floats(0, 9))
)


@given(qualities, own_weights, st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_bonuses_come_on_top_of_a_clean_pass_and_never_eat_it(
    quality: dict[str, float],
    weights: dict[str, Bonus],
    passed: int,
    warnings: int,
    compiled: bool,
) -> None:
    verdict = Verdict(True, compiled, 1 - compiled, warnings, passed * compiled, 2, quality=quality)
    reward = profile_of("tested", weights)(verdict)
    if verdict.clean:
        assert reward.total >= 23 - 1e-9
    else:
        assert reward == PROFILES["tested"](verdict)
    # What a threshold of 20 means stays the same.
    assert is_correct(verdict, reward, CLEAN_THRESHOLD) == verdict.clean


def test_weights_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text("# mine\niterators = 2\nshort = -0.5\nfunctions = 1.5\n")
    weights = load_weights(file)
    reward = profile_of("tested", weights)(
        Verdict(True, True, quality={"iterators": 1.0, "short": 1.0, "functions": 9.0})
    )
    assert reward.components == {
        "parses": 8,
        "compiles": 10,
        "clean": 5,
        "iterators": 2,
        "short": -0.5,
        "functions": 6,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("itterators = 1", "nothing is measured as 'itterators': did you mean iterators?"),
        ('"\\u001b[31m" = 1', r"nothing is measured as '\x1b[31m'"),
        ('iterators = "1"', "iterators is no number from -100 to 100"),
        ("iterators = true", "iterators is no number"),
        ("iterators = nan", "iterators is no number"),
        ("iterators = -inf", "iterators is no number"),
        ("iterators = 101", "iterators is no number"),
        ("iterators = [1]", "iterators is no number"),
        ("[iterators]\na = 1", "iterators is no number"),
        ("iterators 1", "no TOML"),
        ("\udcff", "no TOML"),
        ("# " + "x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_weights_that_cannot_be_used(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "w.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(TrainerError) as caught:
        load_weights(file)
    assert complaint in str(caught.value)
    assert str(file) in str(caught.value)
    assert str(caught.value).isprintable()


def test_weights_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text("match = 1")
    env = {"MAXRL_REWARD_WEIGHTS": str(file)}
    assert load_config(env)[0].reward_weights == {"match": Bonus(1.0)}
    assert load_config({})[0].reward_weights is None
    with pytest.raises(TrainerError, match="on top of the profile tested, and the reward is guide"):
        load_config({**env, "MAXRL_REWARD": "guide"})
    with pytest.raises(ValueError, match="only of rust's"):
        load_config({**env, "MAXRL_TASK": "arithmetic"})
    with pytest.raises(TrainerError, match="no such file") as caught:
        load_config({"MAXRL_REWARD_WEIGHTS": str(tmp_path / "none")})
    assert caught.value.code == ExitCode.NOT_FOUND
