"""The task `rules`: `r4172=` wants `2714`. Eight rules, one right answer to each prompt.

The rewards are on the Rust task's scale: 23 for the right answer, 0 for what is no string of
digits, 8 for any other; where the length is right, up to 15.5 for how many places are.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from trainer.tasks.base import Prompt
from trainer.tasks.own import OwnTask

_DIGITS = "0123456789"
_LENGTHS = (3, 4)
_PROMPTS_EACH = 250
_ANSWER = re.compile(r"[0-9]{1,8}")


def _interleave(digits: str) -> str:
    half = (len(digits) + 1) // 2
    first, second = digits[:half], digits[half:]
    return "".join(a + b for a, b in zip(first, second.ljust(half), strict=True)).strip()


def _exchange(digits: str) -> str:
    return "".join(digits[n : n + 2][::-1] for n in range(0, len(digits), 2))


RULES: Mapping[str, Callable[[str], str]] = {
    "copy": lambda digits: digits,
    "max": max,
    "reverse": lambda digits: digits[::-1],
    "sort": lambda digits: "".join(sorted(digits)),
    "next": lambda digits: "".join(_DIGITS[(int(each) + 1) % 10] for each in digits),
    "kinds": lambda digits: str(len(set(digits))),
    "interleave": _interleave,
    "exchange": _exchange,
}
# How often the corpus has a digit of an answer right for sure, by rule.
_CARE: Mapping[str, float] = {
    "copy": 0.76,
    "max": 0.36,
    "reverse": 0.62,
    "sort": 0.54,
    "next": 0.48,
    "kinds": 0.22,
    "interleave": 0.40,
    "exchange": 0.34,
}


def reward(prompt: Prompt, completion: str) -> float:
    """What a completion is worth."""
    right = prompt.tests[0]
    if completion == right:
        return 23.0
    if _ANSWER.fullmatch(completion) is None:
        return 0.0
    if len(completion) != len(right):
        return 8.0
    places = sum(a == b for a, b in zip(completion, right, strict=True))
    return 8.0 + 10.0 * places / len(right)


class RulesTask(OwnTask):
    """The prompts, and the corpus of somebody who writes without care."""

    alphabet = _DIGITS + "=" + "".join(sorted(name[0] for name in RULES))
    model_dir: Path | None = Path(__file__).parent / "model"
    profile: Mapping[str, int | float | str] = {
        "iterations": 200,
        "prompts_per_iteration": 8,
        "n_samples": 8,
        "learning_rate": 1e-3,
        "max_new_tokens": 8,
        "evaluate_every": 10,
        "evaluation_prompts": 64,
        "checkpoint_every": 50,
    }

    def __init__(self) -> None:
        super().__init__(
            _prompts(),
            reward,
            name="rules",
            reference_threshold=20.0,
            reward_grid=(15.0, 20.0, 25.0, 30.0),
            threshold_bounds=(15.0, 30.0),
            is_chat=False,
        )
        self._held_out = {prompt.id for prompt in self.held_out_prompts(sys.maxsize)}

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A prompt that is not held out, and an answer."""
        prompt = _draw(rng.choice(list(RULES)), rng)
        while prompt.id in self._held_out:
            prompt = _draw(prompt.family, rng)
        [answer], care = prompt.tests, _CARE[prompt.family]
        written = (each if rng.random() < care else rng.choice(_DIGITS) for each in answer)
        return prompt.text, "".join(written)


def _prompts() -> list[Prompt]:
    rng = Random("rules")
    prompts: dict[str, Prompt] = {}
    for count, rule in enumerate(RULES, 1):
        while len(prompts) < count * _PROMPTS_EACH:
            prompt = _draw(rule, rng)
            prompts[prompt.id] = prompt
    return list(prompts.values())


def _draw(rule: str, rng: Random) -> Prompt:
    digits = "".join(rng.choices(_DIGITS, k=rng.choice(_LENGTHS)))
    text = f"{rule[0]}{digits}="
    return Prompt(text, rule, text, (RULES[rule](digits),))


def task() -> RulesTask:
    """What `--task .../rules/task.py:task` asks for."""
    return RulesTask()
