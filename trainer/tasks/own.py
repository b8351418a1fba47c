"""A task of one's own in ten lines: prompts, and a function that rewards a completion.

from trainer.tasks.own import OwnTask

def reward(prompt, completion):
    return 1.0 if completion.strip() == prompt.tests[0] else 0.0

def task():
    return OwnTask([("2+2=", "4"), ("3+4=", "7")], reward)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import SupportsFloat

from trainer.tasks.base import Prompt
from trainer.tasks.prompt_set import PromptSet, id_of
from trainer.tasks.reason import one_line
from trainer.verdict import Verdict

# What a task of one's own is judged by where it does not say.
REFERENCE_THRESHOLD = 0.5
REWARD_GRID = (0.0, 0.25, 0.5, 0.75)
THRESHOLD_BOUNDS = (0.0, 1.0)

_LONGEST_REASON = 200


class ScoredTask:
    """What tasks that give a number for each completion have in common: all but `verify`."""

    reward_profiles: tuple[str, ...] = ("own",)
    model_dir: Path | None = None
    profile: Mapping[str, int | float | str] = {}

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        name: str = "",
        reference_threshold: float = REFERENCE_THRESHOLD,
        reward_grid: Sequence[float] = REWARD_GRID,
        threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS,
        is_chat: bool = True,
    ) -> None:
        self.name = name
        self.is_chat = is_chat
        self.reference_threshold = reference_threshold
        self.reward_grid = tuple(reward_grid)
        self.threshold_bounds = threshold_bounds
        self._prompts = PromptSet(prompts)

    def prepare(self) -> None:
        """Nothing is needed."""

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """Prompts of as many different families as there are places."""
        return self._prompts.draw(rng, count)

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """The fixed evaluation set, the families in turn."""
        return self._prompts.held_out(count)

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """There is no corpus: no model was started for this task."""
        raise NotImplementedError

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:  # noqa: ARG002
        """The model says when its answer is complete, by ending the sequence."""
        return None


class OwnTask(ScoredTask):
    """Prompts and a reward function.

    Args:
        prompts: Each a text, a pair of text and answer (found again in `prompt.tests[0]`), or a
            Prompt. At least two; about one in eight is held out for evaluations, by its id.
        reward: `reward(prompt, completion)` gives a finite number. A sample for which it raises,
            or gives anything else, is unscored: left out, not counted as wrong.
        name: For the log; by default that of the file or module.
        reference_threshold: A reward above it counts as correct. Fixed for good.
        reward_grid: Rewards, ascending, at which the log counts how many samples lie above.
        threshold_bounds: Lowest and highest correctness threshold that may be asked for.
        stop: The answer ends just past this text; without it, where the model ends.
        is_chat: The prompts are messages to the model, where it has a chat template; otherwise
            they are texts that it continues.

    Raises:
        ValueError: There are fewer than two prompts, or two with one id.
        TypeError: A prompt is none.
    """

    def __init__(
        self,
        prompts: Sequence[str | tuple[str, str] | Prompt],
        reward: Callable[[Prompt, str], SupportsFloat],
        *,
        name: str = "",
        reference_threshold: float = REFERENCE_THRESHOLD,
        reward_grid: Sequence[float] = REWARD_GRID,
        threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS,
        stop: str | None = None,
        is_chat: bool = True,
    ) -> None:
        super().__init__(
            [_as_prompt(each) for each in prompts],
            name=name,
            reference_threshold=reference_threshold,
            reward_grid=reward_grid,
            threshold_bounds=threshold_bounds,
            is_chat=is_chat,
        )
        if not callable(reward):
            raise TypeError(f"reward is a {type(reward).__name__}, not a function")
        self._reward = reward
        self._stop = stop

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:
        """Just past `stop`, where the task has one."""
        if not self._stop:
            return super().answer_end(prompt, completion)
        at = completion.find(self._stop)
        return None if at < 0 else at + len(self._stop)

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """The reward function's number for each; whatever it raises goes through."""
        pairs = zip(prompts, completions, strict=True)
        return [score_verdict(self._reward(prompt, completion)) for prompt, completion in pairs]


def score_verdict(value: object) -> Verdict:
    """The verdict of a reward: unscored, with the reason, where it is no finite number."""
    if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
        return unscored(f"the reward is {value!r}, not a number")
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        return unscored(f"the reward is not a number: {error}")
    if not math.isfinite(score):
        return unscored(f"the reward is {score}, not a finite number")
    return Verdict(parsed=True, score=score)


def unscored(reason: str) -> Verdict:
    """No verdict, and why: one line of bounded length."""
    return Verdict(parsed=False, unscored=one_line(reason, _LONGEST_REASON))


def _as_prompt(given: object) -> Prompt:
    match given:
        case Prompt():
            return given
        case str():
            return Prompt(id_of(given), "all", given, ())
        case (str(text), str(answer)):
            return Prompt(id_of(text), "all", text, (answer,))
    raise TypeError(f"{given!r:.80} is no prompt: give a text, a pair (text, answer) or a Prompt")
