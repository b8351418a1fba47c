"""Prompts that teach most, drawn more often: those that the model solves about half the time. Pure.

A group of n samples carries signal when some are right and some wrong; at a success rate p its
gradient's variance goes with p (1 - p), which is what decides here how likely a prompt is drawn.
Success is remembered by the prompt's family, and forgotten bit by bit, for the model changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from trainer.tasks.base import Prompt

# Prompts drawn from the task for each that is trained on.
CANDIDATES = 4
# What is left of a count when the family is seen again: the last ten iterations or so matter.
_REMEMBERED = 0.9
# Nothing is ever given up, neither what is always solved nor what never is.
_LEAST_WEIGHT = 0.1


@dataclass(slots=True)
class Difficulty:
    """How often each family was solved lately: (correct, samples), decayed."""

    seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def weight(self, family: str) -> float:
        """4 p (1 - p), so 1 where half is solved; a family not seen yet counts as such."""
        correct, samples = self.seen.get(family, (0.0, 0.0))
        p = (correct + 1) / (samples + 2)
        return max(_LEAST_WEIGHT, 4 * p * (1 - p))

    def choose(self, candidates: Sequence[Prompt], count: int, rng: Random) -> list[Prompt]:
        """Draw `count` of the candidates without replacement, by weight.

        Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.
        """
        keyed = [(rng.random() ** (1 / self.weight(p.family)), i) for i, p in enumerate(candidates)]
        chosen = sorted(keyed, reverse=True)[:count]
        return [candidates[i] for _, i in sorted(chosen, key=lambda pair: pair[1])]

    def observe(self, groups: Iterable[tuple[str, int, int]]) -> None:
        """Count the groups (family, correct, samples) of an iteration."""
        now: dict[str, tuple[float, float]] = {}
        for family, correct, samples in groups:
            before = now.get(family, (0.0, 0.0))
            now[family] = before[0] + correct, before[1] + samples
        for family, new in now.items():
            old = self.seen.get(family, (0.0, 0.0))
            self.seen[family] = old[0] * _REMEMBERED + new[0], old[1] * _REMEMBERED + new[1]

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint; floats survive exactly."""
        return {family: list(counts) for family, counts in self.seen.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Difficulty":
        """What `to_json` gave."""
        return cls({family: (float(c), float(n)) for family, (c, n) in raw.items()})
