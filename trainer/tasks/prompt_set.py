"""A fixed set of prompts: a share held out by hash, the rest drawn evenly over the families."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain, zip_longest
from random import Random

from trainer.tasks.base import Prompt

# One prompt in so many is held out.
_SHARE = 8


def id_of(text: str) -> str:
    """An id for a prompt that has none: the same for the same text, in every process."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class PromptSet:
    """Prompts, split by the SHA-256 of their ids: which are held out depends on nothing else."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        """Split `prompts`.

        Raises:
            ValueError: There are fewer than two, two have one id, or one is empty.
        """
        if len(prompts) < 2:
            raise ValueError(
                f"there are {len(prompts)} prompts: give at least 2, one of them to be held out"
            )
        seen: set[str] = set()
        for prompt in prompts:
            if not prompt.text:
                raise ValueError(f"the prompt {prompt.id!r:.80} is empty")
            if prompt.id in seen:
                raise ValueError(f"two prompts have the id {prompt.id!r:.80}: make ids unique")
            seen.add(prompt.id)
        ordered = sorted(prompts, key=_digest)
        held_out = [prompt for prompt in ordered if _digest(prompt)[0] % _SHARE == 0]
        # At least one each way, whatever the hashes are.
        held_out = (held_out or ordered[:1])[: len(ordered) - 1]
        ids = {prompt.id for prompt in held_out}
        self._train = _by_family([prompt for prompt in ordered if prompt.id not in ids])
        self._held_out = _in_turn(_by_family(held_out))

    def draw(self, rng: Random, count: int) -> list[Prompt]:
        """`count` prompts of as many different families, and as different, as there are."""
        decks: dict[str, list[Prompt]] = {}
        families: list[str] = []
        drawn = []
        for _ in range(count):
            families = families or rng.sample(list(self._train), len(self._train))
            family = families.pop()
            if not decks.get(family):
                deck = self._train[family]
                decks[family] = rng.sample(deck, min(count, len(deck)))
            drawn.append(decks[family].pop())
        return drawn

    def held_out(self, count: int) -> list[Prompt]:
        """The first `count` held-out prompts, the families in turn."""
        return self._held_out[:count]


def _digest(prompt: Prompt) -> bytes:
    return sha256(prompt.id.encode("utf-8", "surrogatepass")).digest()


def _by_family(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    families: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        families.setdefault(prompt.family, []).append(prompt)
    return dict(sorted(families.items()))


def _in_turn(families: dict[str, list[Prompt]]) -> list[Prompt]:
    rounds = zip_longest(*families.values())
    return [prompt for prompt in chain.from_iterable(rounds) if prompt is not None]
