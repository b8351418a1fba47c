"""Build a task's shipped model: `python -P -m trainer.warm_start --task rust --to DIR`.

A small Llama, trained by next-token prediction on the task's corpus: documents of a programmer
who is right about half of the time, so that reinforcement learning has something to find. The
same seed gives the same model on the same machine and versions.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.config import load_config
from trainer.evaluate import evaluate
from trainer.policy import Policy
from trainer.tasks import TASKS, load_task
from trainer.tasks.base import Task

_END, _PAD = "<|end|>", "<|pad|>"
_BATCH = 64


class Shape(NamedTuple):
    """A Llama's sizes, how many batches it is trained for, and how fast at the most."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    steps: int
    learning_rate: float = 2e-3


# With the size of the vocabulary, by task.
_SHAPES: dict[str, tuple[int, Shape]] = {
    "rust": (512, Shape(128, 4, 4, 352, 900)),
    "arithmetic": (256 + 2, Shape(96, 3, 4, 256, 2500)),
}


def train_tokenizer(task: Task, vocabulary: int, rng: Random) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus; every text has a tokenisation."""
    tokenizer = Tokenizer(models.BPE())
    # Digits stand alone, so that a constant never seen before is copied like any other.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_END, _PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    documents = ("".join(task.draw_document(rng)) for _ in range(4000))
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD
    )


def draw_batch(
    task: Task, tokenizer: PreTrainedTokenizerFast, rng: Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) and labels (B, T): -100 on prompts and padding, which are not learned."""
    rows, labels = [], []
    for _ in range(_BATCH):
        prompt, completion = task.draw_document(rng)
        prompt_ids = tokenizer(prompt)["input_ids"]
        completion_ids = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
        rows.append(prompt_ids + completion_ids)
        labels.append([-100] * len(prompt_ids) + completion_ids)
    longest = max(map(len, rows))
    pad = tokenizer.pad_token_id
    return (
        torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
        torch.tensor([row + [-100] * (longest - len(row)) for row in labels]),
    )


def train(task: Task, tokenizer: PreTrainedTokenizerFast, rng: Random, shape: Shape) -> Any:
    """A model of the shape, trained for its steps under a one-cycle schedule."""
    steps = shape.steps
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=shape.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, shape.learning_rate, total_steps=steps, pct_start=0.1
    )
    began = time.monotonic()
    for step in range(1, steps + 1):
        ids, labels = draw_batch(task, tokenizer, rng)
        logits = model(input_ids=ids).logits[:, :-1]  # (B, T-1, V)
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            seconds = time.monotonic() - began
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {seconds:.0f}s", flush=True)
    return model


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description="Build a task's shipped model.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--to", type=Path, required=True, help="directory to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="batches to train (default: the task's)")
    arguments = parser.parse_args()

    task = load_task(arguments.task)
    rng = Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    vocabulary, shape = _SHAPES[task.name]
    tokenizer = train_tokenizer(task, vocabulary, rng)
    model = train(
        task, tokenizer, rng, shape._replace(steps=arguments.steps) if arguments.steps else shape
    )
    model.half().save_pretrained(arguments.to)
    tokenizer.save_pretrained(arguments.to)

    # Measured as it ships: after rounding to half precision, and under the task's profile, as the
    # first evaluation of a run is (the profile applies where no checkpoint is named).
    config, _ = load_config({"MAXRL_TASK": task.name})
    policy = Policy(model.float().eval(), tokenizer, torch.device("cpu"))
    print(json.dumps({"parameters": model.num_parameters()}))
    print(evaluate(policy, task, config, 0))


if __name__ == "__main__":
    main()
