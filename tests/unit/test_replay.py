"""Correct completions are remembered, drawn again, and survive a checkpoint."""

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.replay import Answer, Replay


def answer(*ids: int, reward: float = 23.0) -> Answer:
    return Answer((1, 2), ids, reward)


def test_every_prompt_is_drawn_as_often_and_with_all_its_answers() -> None:
    known = Replay()
    known.remember([("a", answer(3)), ("b", answer(3)), ("b", answer(4)), ("c", answer(5))])
    # Drawn again, it is the same answer, met last.
    known.remember([("b", answer(3))])
    rng = Random(0)
    drawn: Counter[tuple[tuple[int, ...], ...]] = Counter()
    for _ in range(300):
        drawn.update(tuple(each.ids for each in group) for group in known.choose(2, 20.0, rng))
    assert set(drawn) == {((3,),), ((4,), (3,)), ((5,),)}
    assert all(150 < count < 250 for count in drawn.values())
    assert len(known.choose(9, 20.0, rng)) == 3


def test_what_a_raised_threshold_no_longer_takes_for_correct_is_not_drawn() -> None:
    known = Replay()
    known.remember([("a", answer(3)), ("a", answer(4, reward=27.0)), ("b", answer(5))])
    assert known.choose(9, 25.0, Random(0)) == [[answer(4, reward=27.0)]]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.replay._MOST_TOKENS", 9)
    monkeypatch.setattr("trainer.replay._MOST_ANSWERS", 2)
    known = Replay()
    known.remember(("a", answer(i)) for i in range(5))
    assert list(known.prompts["a"]) == [(3,), (4,)]
    # Three tokens each: of the prompts, the one met last stays.
    known.remember([("b", answer(7)), ("a", answer(3)), ("c", answer(8))])
    assert list(known.prompts) == ["a", "c"]
    assert list(known.prompts["a"]) == [(4,), (3,)]


pairs = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.builds(answer, st.integers(0, 9), reward=st.floats(-1e9, 1e9)),
    )
)


@given(iterations=st.lists(pairs, max_size=4), later=pairs, seed=st.integers(0, 99))
def test_what_a_checkpoint_holds_goes_on_as_if_nothing_had_been(
    iterations: list[list[tuple[str, Answer]]], later: list[tuple[str, Answer]], seed: int
) -> None:
    known = Replay()
    for found in iterations:
        known.remember(found)
    again = Replay.from_json(json.loads(json.dumps(known.to_json())))
    for each in (known, again):
        each.remember(later)
    assert again == known
    assert json.dumps(again.to_json()) == json.dumps(known.to_json())
    assert known.choose(2, 0.0, Random(seed)) == again.choose(2, 0.0, Random(seed))
