"""TRL's GRPOTrainer with the settings under which it is fastest at this work."""

from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.steppers.protocol import Work, is_right, own_work, requests

_STEPS = 1_000_000


class _Asked(TrainerCallback):  # type: ignore[misc]
    """Begins a step when the driver asks for it."""

    def __init__(self) -> None:
        self._requests = requests()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if next(self._requests, self) is self:
            raise SystemExit(0)


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The reward of both sides."""
    return [23.0 if is_right(ids) else 8.0 for ids in completion_ids]


def main() -> None:
    """Make steps until there is no more request."""
    work: Work = own_work()
    config = GRPOConfig(
        output_dir=work.directory,
        use_cpu=True,
        max_steps=_STEPS,
        per_device_train_batch_size=work.prompts * work.n_samples,
        num_generations=work.n_samples,
        max_completion_length=work.new_tokens,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        loss_type="grpo",
        beta=0.0,
        # On by default, and slower.
        gradient_checkpointing=False,
        bf16=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(work.model),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": work.prompt(n)} for n in range(10_000)]),
        callbacks=[_Asked()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
