"""Prompts solved half the time are drawn more often, and nothing is forgotten by a checkpoint."""

import json
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from trainer.difficulty import Difficulty
from trainer.tasks.base import Prompt


def prompts(*families: str) -> list[Prompt]:
    return [Prompt(f"{family}-{i}", family, "", ()) for i, family in enumerate(families)]


def test_what_is_solved_half_the_time_is_drawn_most() -> None:
    known = Difficulty()
    for _ in range(20):
        known.observe([("easy", 8, 8), ("middle", 4, 8), ("hard", 0, 8)])
    assert known.weight("middle") > 0.95
    # 78 of 80 remembered samples, 79/80 with the prior: 4 p (1 - p) is below the floor.
    assert known.weight("easy") == known.weight("hard") == 0.1
    assert known.weight("never seen") == 1.0
    drawn: Counter[str] = Counter()
    rng = Random(0)
    for _ in range(1000):
        drawn.update(p.family for p in known.choose(prompts("easy", "middle", "hard"), 1, rng))
    # In proportion 1 : 10 : 1 or nearly so.
    assert 780 < drawn["middle"] < 880
    assert drawn["easy"] > 40
    assert drawn["hard"] > 40


def test_a_family_that_gets_easier_is_seen_to() -> None:
    known = Difficulty()
    for _ in range(10):
        known.observe([("f", 0, 8)])
    for _ in range(10):
        known.observe([("f", 4, 8), ("f", 4, 8)])
    assert known.weight("f") > 0.8


counts = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda t: (min(t), max(t)))
iterations = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), counts).map(lambda t: (t[0], *t[1])), max_size=5),
    max_size=6,
)


@given(iterations=iterations, count=st.integers(0, 6), seed=st.integers(0, 99))
def test_what_a_checkpoint_holds_goes_on_as_if_nothing_had_been(
    iterations: list[list[tuple[str, int, int]]], count: int, seed: int
) -> None:
    known = Difficulty()
    for groups in iterations:
        known.observe(groups)
    again = Difficulty.from_json(json.loads(json.dumps(known.to_json())))
    assert again == known
    candidates = prompts(*"aabbccab")
    chosen = known.choose(candidates, count, Random(seed))
    assert chosen == again.choose(candidates, count, Random(seed))
    assert len(chosen) == len({p.id for p in chosen}) == min(count, len(candidates))
    assert all(0.1 <= known.weight(family) <= 1.0 for family in "abcd")
