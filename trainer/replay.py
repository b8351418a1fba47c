"""Correct completions of earlier iterations, which are learned from again. Pure.

MaxRL's gradient is that of the log-probability of a correct answer: the mean of grad log pi(y) over
the correct answers y, however few of the samples they are (arXiv 2602.02710, Eq. 9). Those of an
earlier policy stand in for those that the present one would draw, at no cost of sampling. Where a
prompt has one right answer they are the same, and nothing is approximated; where it has several,
each that was found counts, though the present policy would draw some of them more often.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

# Of the prompts as of the answers to each, those met last are remembered: a checkpoint holds them.
_MOST_TOKENS = 1 << 20
_MOST_ANSWERS = 8

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids of a prompt and of a completion that was correct, and its reward."""

    prompt_ids: Ids
    ids: Ids
    reward: float


@dataclass(slots=True)
class Replay:
    """Answers by the prompt's id, what was met last at the end."""

    prompts: dict[str, dict[Ids, Answer]] = field(default_factory=dict)
    _tokens: int = 0

    def choose(self, count: int, threshold: float, rng: Random) -> list[list[Answer]]:
        """The answers above the threshold of up to `count` prompts, drawn evenly."""
        known = [
            found
            for answers in self.prompts.values()
            if (found := [each for each in answers.values() if each.reward > threshold])
        ]
        return rng.sample(known, min(count, len(known)))

    def remember(self, answers: Iterable[tuple[str, Answer]]) -> None:
        """Add the correct answers of an iteration, each with its prompt's id."""
        for key, answer in answers:
            known = self.prompts.pop(key, {})
            self._tokens -= sum(map(_size, known.values()))
            known.pop(answer.ids, None)
            known[answer.ids] = answer
            if len(known) > _MOST_ANSWERS:
                del known[next(iter(known))]
            self.prompts[key] = known
            self._tokens += sum(map(_size, known.values()))
        while self._tokens > _MOST_TOKENS:
            oldest = self.prompts.pop(next(iter(self.prompts)))
            self._tokens -= sum(map(_size, oldest.values()))

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint; rewards and the order of everything survive exactly."""
        return {
            key: [[a.prompt_ids, a.ids, a.reward] for a in answers.values()]
            for key, answers in self.prompts.items()
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Replay":
        """What `to_json` gave."""
        replay = cls()
        replay.remember(
            (key, Answer(tuple(prompt_ids), tuple(ids), float(reward)))
            for key, answers in raw.items()
            for prompt_ids, ids, reward in answers
        )
        return replay


def _size(answer: Answer) -> int:
    return len(answer.prompt_ids) + len(answer.ids)
