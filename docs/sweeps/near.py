"""Sums and differences, judged by how near an answer is: the task of the sweeps shown here."""

import re

from trainer.tasks.base import Prompt
from trainer.tasks.own import OwnTask

_NUMBER = re.compile(r"-?[0-9]{1,6}")


def reward(prompt: Prompt, completion: str) -> float:
    """31 for the right number, 29, 28, ... for one that is 1, 2, ... off, 0 for no number.

    A threshold of 30 takes the right answer alone; 25, 20 and 15 those up to 4, 9 and 14 off.
    """
    if _NUMBER.fullmatch(completion) is None:
        return 0.0
    error = abs(int(completion) - int(prompt.tests[0]))
    return 31.0 if error == 0 else max(0.0, 30.0 - error)


def task() -> OwnTask:
    """All sums and differences of two numbers below 30; passed is what is right."""
    prompts = [
        Prompt(id=text, family=family, text=text, tests=(str(value),))
        for a in range(30)
        for b in range(30)
        for family, text, value in (
            ("add", f"{a}+{b}=", a + b),
            ("subtract", f"{a}-{b}=", a - b),
        )
    ]
    return OwnTask(
        prompts,
        reward,
        reference_threshold=30.0,
        reward_grid=(15.0, 20.0, 25.0, 30.0),
        threshold_bounds=(15.0, 30.0),
    )
