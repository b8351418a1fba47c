"""Prompts solved half the time are drawn more often, and nothing is forgotten by a checkpoint."""

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.difficulty import Difficulty
from trainer.tasks.base import Prompt


def prompts(*families: str) -> list[Prompt]:
    return [Prompt(f"{family}-{i}", family, "", ()) for i, family in enumerate(families)]


def alike(*ids: str) -> list[Prompt]:
    """Prompts of a task that has one family."""
    return [Prompt(each, "all", "", ()) for each in ids]


@pytest.mark.parametrize("make", [prompts, alike])
def test_what_is_solved_half_the_time_is_drawn_most(make: object) -> None:
    assert callable(make)
    offered = make("easy", "middle", "hard")
    known = Difficulty()
    for _ in range(20):
        known.observe(zip(offered, (8, 4, 0), (8, 8, 8), strict=True))
    drawn: Counter[str] = Counter()
    rng = Random(0)
    for _ in range(1000):
        drawn.update(p.id.split("-")[0] for p in known.choose(offered, 1, rng))
    # 4 p (1 - p) of 78 in 80 remembered samples, of 16 in 16: below or near the floor of 0.1, or
    # 0.2; of a half: 1.
    assert 700 < drawn["middle"] < 880
    assert drawn["easy"] > 40
    assert drawn["hard"] > 40
    # Never seen is as good as half: drawn as often as what is.
    more = [*offered, *make("never seen")]
    rest = Counter(p.id.split("-")[0] for _ in range(1000) for p in known.choose(more, 1, rng))
    assert abs(rest["never seen"] - rest["middle"]) < 120


def test_a_family_that_gets_easier_is_seen_to() -> None:
    known = Difficulty()
    hard, half = prompts("was hard", "always half")
    for _ in range(10):
        known.observe([(hard, 0, 8), (half, 4, 8)])
    for _ in range(10):
        known.observe([(hard, 4, 8), (hard, 4, 8), (half, 4, 8)])
    rng = Random(0)
    drawn = Counter(p.id for _ in range(1000) for p in known.choose([hard, half], 1, rng))
    assert drawn[hard.id] > 400


def test_a_prompt_is_taken_once_while_there_are_others() -> None:
    known = Difficulty()
    few = alike(*"abcaabbc")
    for count in (1, 2, 3):
        assert len({p.id for p in known.choose(few, count, Random(1))}) == count
    assert sorted(p.id for p in known.choose(few, 8, Random(1))) == sorted("abcaabbc")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.difficulty._MOST_REMEMBERED", 3)
    known = Difficulty()
    for each in "abcadef":
        known.observe([(prompt, 0, 8) for prompt in prompts(each)])
    assert list(known.families) == ["d", "e", "f"]
    assert list(known.prompts) == ["d-0", "e-0", "f-0"]
    # Seen last stays longest, also when it was first.
    for each in "dg":
        known.observe([(prompt, 0, 8) for prompt in prompts(each)])
    assert list(known.families) == ["f", "d", "g"]


counts = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda t: (min(t), max(t)))
iterations = st.lists(
    st.lists(st.tuples(st.sampled_from(prompts(*"abc")), counts), max_size=5), max_size=6
)


@given(
    iterations=iterations,
    families=st.sampled_from(["aabbccab", "aaaa"]),
    count=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_what_a_checkpoint_holds_goes_on_as_if_nothing_had_been(
    iterations: list[list[tuple[Prompt, tuple[int, int]]]], families: str, count: int, seed: int
) -> None:
    known = Difficulty()
    for groups in iterations:
        known.observe((prompt, *solved) for prompt, solved in groups)
    again = Difficulty.from_json(json.loads(json.dumps(known.to_json())))
    assert again == known
    assert list(again.prompts) == list(known.prompts)
    candidates = prompts(*families)
    chosen = known.choose(candidates, count, Random(seed))
    assert chosen == again.choose(candidates, count, Random(seed))
    assert len(chosen) == len({p.id for p in chosen}) == min(count, len(candidates))
