"""What a task is: prompts, the end of an answer, verdicts, and the scale of its rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from trainer.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Prompt:
    """One problem.

    Attributes:
        id: Unique and stable within the task, the same in every process.
        family: The template it was made from; evaluations are balanced over families.
        text: What the model continues.
        tests: What the task needs to judge an answer, in the task's own notation.
    """

    id: str
    family: str
    text: str
    tests: tuple[str, ...]


class Scale(Protocol):
    """What the rewards of a source of rewards mean."""

    @property
    def reference_threshold(self) -> float:
        """The task's own level of "correct": a reward above it. Fixed for good."""
        ...

    @property
    def reward_grid(self) -> tuple[float, ...]:
        """The rewards at which the log counts how many samples lie above."""
        ...

    @property
    def threshold_bounds(self) -> tuple[float, float]:
        """Lowest and highest correctness threshold a control may ask for."""
        ...


class Task(Protocol):
    """A source of prompts with verifiable answers, on a scale of its own (see Scale).

    A task is built once a process; `verify` may be called from one thread at a time.

    Attributes:
        name: What `--task` selects.
        reward_profiles: Names of trainer.reward.PROFILES that make sense for its verdicts.
        model_dir: The small model shipped with the task, or None.
        is_chat: Prompts are what a person says: a model with a chat template is spoken to in it.
        profile: Settings of the job on that shipped model (keys as in maxrl_ops.wire.settings).
    """

    name: str
    reference_threshold: float
    reward_grid: tuple[float, ...]
    threshold_bounds: tuple[float, float]
    reward_profiles: tuple[str, ...]
    model_dir: Path | None
    is_chat: bool
    profile: Mapping[str, int | float | str]

    def prepare(self) -> None:
        """Look for what verdicts need on this host; VerifierUnavailable where it is missing."""
        ...

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """Draw `count` training prompts, spread evenly over the families."""
        ...

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """The first `count` prompts of the fixed evaluation set, balanced over the families."""
        ...

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A prompt and a completion of the corpus that the shipped model was started from."""
        ...

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:
        """Index just past the end of the answer in `completion`, None while it is unfinished."""
        ...

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """One verdict a completion; `prompts[i]` is what `completions[i]` continues."""
        ...
