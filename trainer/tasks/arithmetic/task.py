"""The task `arithmetic`: `17+25=` wants `42`. Verdicts cost nothing, so it runs anywhere.

The rewards are on the Rust task's scale: 23 for the right number, 8 for another number, 0 for
anything else.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from trainer.tasks.base import Prompt
from trainer.verdict import Verdict


def _is_held_out(a: int, b: int) -> bool:
    return (a * 100 + b) % 7 == 0


_FAMILIES = ("add", "subtract")
_OPERANDS = range(30)
# Operand pairs that are held out, in each family.
_HELD_OUT = sum(_is_held_out(a, b) for a in _OPERANDS for b in _OPERANDS) * len(_FAMILIES)
_NUMBER = re.compile(r"-?[0-9]{1,6}")
# How often the corpus that the model starts from has a wrong digit.
_SLIP = 0.5


class ArithmeticTask:
    """Sums and differences of two numbers below 30.

    A seventh of all operand pairs is held out: they are neither in the corpus nor trained on.
    """

    name = "arithmetic"
    reference_threshold = 20.0
    reward_grid = (15.0, 20.0, 25.0, 30.0)
    threshold_bounds = (15.0, 30.0)
    reward_profiles = ("tested",)
    model_dir: Path | None = Path(__file__).parent / "model"
    is_chat = False
    profile: Mapping[str, int | float | str] = {
        "iterations": 60,
        "prompts_per_iteration": 16,
        "n_samples": 8,
        "learning_rate": 2e-4,
        "max_new_tokens": 8,
        "evaluate_every": 20,
        "evaluation_prompts": 96,
        "checkpoint_every": 5,
        "hand_over_after": 20,
    }

    def prepare(self) -> None:
        """Nothing is needed."""

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """Prompts of the families in turn."""
        return [_draw(_FAMILIES[i % len(_FAMILIES)], rng, held_out=False) for i in range(count)]

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """The fixed evaluation set: the families in turn, each problem once."""
        rng = Random("arithmetic held out")
        found: dict[str, Prompt] = {}
        while len(found) < min(count, _HELD_OUT):
            family = _FAMILIES[len(found) % len(_FAMILIES)]
            prompt = _draw(family, rng, held_out=True)
            found.setdefault(prompt.id, prompt)
        return list(found.values())

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A training prompt and an answer, often with a wrong digit."""
        prompt = _draw(rng.choice(_FAMILIES), rng, held_out=False)
        [answer] = prompt.tests
        if rng.random() < _SLIP:
            place = rng.randrange(len(answer))
            answer = answer[:place] + rng.choice("0123456789") + answer[place + 1 :]
        return prompt.text, answer

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:  # noqa: ARG002
        """Only the model knows when its number is complete: it says so by ending the sequence."""
        return None

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """A number that is the right one passes its one test."""
        return [
            Verdict(
                parsed=_NUMBER.fullmatch(completion) is not None,
                tests_passed=int(completion in prompt.tests),
                tests_total=1,
            )
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


def _draw(family: str, rng: Random, *, held_out: bool) -> Prompt:
    while True:
        a, b = rng.choice(_OPERANDS), rng.choice(_OPERANDS)
        if _is_held_out(a, b) == held_out:
            break
    text, value = (f"{a}+{b}=", a + b) if family == "add" else (f"{a}-{b}=", a - b)
    return Prompt(id=text, family=family, text=text, tests=(str(value),))
