"""Our trainer's whole iteration: sample, verify, update, log and samples file included."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from benchmarks.steppers.protocol import Work, is_right, own_work, requests
from maxrl_ops.wire.rundir import RunDir
from trainer import before_torch
from trainer.config import load_config
from trainer.run_log import RunLog
from trainer.tasks.base import Prompt
from trainer.verdict import Verdict


class Words:
    """Prompts of a given length, judged without any work."""

    name = "words"
    reference_threshold = 20.0
    reward_grid = (20.0,)
    threshold_bounds = (15.0, 30.0)
    reward_profiles = ("tested",)
    model_dir: Path | None = None
    is_chat = False
    profile: Mapping[str, int | float | str] = {}

    def __init__(self, work: Work) -> None:
        self._work = work

    def prepare(self) -> None:
        """Nothing is needed."""

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """Any."""
        numbers = [rng.randrange(10_000) for _ in range(count)]
        return [Prompt(str(n), "words", self._work.prompt(n), ()) for n in numbers]

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """Any."""
        return self.training_prompts(Random(0), count)

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """Never asked for."""
        raise NotImplementedError

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:  # noqa: ARG002
        """An answer has all the tokens there may be."""
        return None

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:  # noqa: ARG002
        """The reward of both sides."""
        ids = ([int(word[1:]) for word in text.split()] for text in completions)
        return [Verdict(parsed=True, tests_passed=is_right(i), tests_total=1) for i in ids]


def main() -> None:
    """Make steps until there is no more request."""
    before_torch.set_up(os.environ)
    from trainer.loop import Trainer  # noqa: PLC0415 - after that, as the trainer does

    work = own_work()
    env = {
        "MAXRL_TASK": "arithmetic",  # replaced below
        "MAXRL_CHECKPOINT": work.model,
        "MAXRL_RUN_DIR": work.directory,
        "MAXRL_OBJECTIVE": "grpo",
        "MAXRL_PROMPTS_PER_ITERATION": str(work.prompts),
        "MAXRL_N_SAMPLES": str(work.n_samples),
        "MAXRL_MAX_NEW_TOKENS": str(work.new_tokens),
        "MAXRL_LEARNING_RATE": "1e-6",
        "MAXRL_DEVICE": "cpu",
        "MAXRL_TORCH_COMPILE": str(work.torch_compile).lower(),
    }
    config, _ = load_config(env)
    run = RunDir(config.run_dir)
    for path in (run.path, run.control, run.checkpoints):
        path.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, Words(work), RunLog(run), 1, lambda: False)
    for number, _ in enumerate(requests(), start=1):
        trainer.iterate(number)


if __name__ == "__main__":
    os.umask(0o077)
    main()
