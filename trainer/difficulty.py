"""Prompts that teach most, drawn more often: those that the model solves about half the time. Pure.

A group of n samples carries signal when some are right and some wrong; at a success rate p its
gradient's variance goes with p (1 - p), which is what decides here how likely a prompt is drawn.
Success is remembered by family, and where all prompts are of one family, by prompt. It is forgotten
bit by bit, for the model changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from trainer.tasks.base import Prompt

# How often as many prompts are drawn from the task as are trained on.
CANDIDATES = 4
# What is left of a count when it is seen again. A family comes every few iterations, and the last
# ten times or so matter; a prompt comes rarely, and its model of two times ago is another one.
_OF_FAMILY, _OF_PROMPT = 0.9, 0.5
# Nothing is ever given up, neither what is always solved nor what never is.
_LEAST_WEIGHT = 0.1
# Of the families as of the prompts, those seen last are remembered: a checkpoint has to hold them.
_MOST_REMEMBERED = 10_000

# (correct, samples), decayed.
Counts = dict[str, tuple[float, float]]


@dataclass(slots=True)
class Difficulty:
    """How often each family and each prompt was solved lately, what was seen last at the end."""

    families: Counts = field(default_factory=dict)
    prompts: Counts = field(default_factory=dict)

    def choose(self, candidates: Sequence[Prompt], count: int, rng: Random) -> list[Prompt]:
        """Draw `count` of the candidates without replacement, by weight.

        A prompt that is among them twice is drawn twice only once there is no other left.
        Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.
        """
        is_one_family = len({prompt.family for prompt in candidates}) == 1
        keyed, met = [], set()
        for i, prompt in enumerate(candidates):
            weight = (
                _weight(self.prompts.get(prompt.id))
                if is_one_family
                else _weight(self.families.get(prompt.family))
            )
            keyed.append((prompt.id not in met, rng.random() ** (1 / weight), i))
            met.add(prompt.id)
        chosen = sorted(keyed, reverse=True)[:count]
        return [candidates[i] for i in sorted(i for *_, i in chosen)]

    def observe(self, groups: Iterable[tuple[Prompt, int, int]]) -> None:
        """Count the groups (prompt, correct, samples) of an iteration."""
        families: Counts = {}
        prompts: Counts = {}
        for prompt, correct, samples in groups:
            for now, key in ((families, prompt.family), (prompts, prompt.id)):
                before = now.get(key, (0.0, 0.0))
                now[key] = before[0] + correct, before[1] + samples
        _remember(self.families, families, _OF_FAMILY)
        _remember(self.prompts, prompts, _OF_PROMPT)

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint; floats and their order survive exactly."""
        return {"families": self.families, "prompts": self.prompts}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Difficulty":
        """What `to_json` gave."""
        return cls(*(_counts(raw.get(name, {})) for name in ("families", "prompts")))


def _weight(seen: tuple[float, float] | None) -> float:
    """4 p (1 - p), so 1 where half is solved; what is not seen yet counts as such."""
    correct, samples = seen or (0.0, 0.0)
    p = (correct + 1) / (samples + 2)
    return max(_LEAST_WEIGHT, 4 * p * (1 - p))


def _remember(seen: Counts, now: Counts, left: float) -> None:
    for key, new in now.items():
        old = seen.pop(key, (0.0, 0.0))
        seen[key] = old[0] * left + new[0], old[1] * left + new[1]
    while len(seen) > _MOST_REMEMBERED:
        del seen[next(iter(seen))]


def _counts(raw: Mapping[str, Any]) -> Counts:
    return {key: (float(correct), float(samples)) for key, (correct, samples) in raw.items()}
