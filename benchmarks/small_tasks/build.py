"""`python -m benchmarks.small_tasks.build`: the models of the small tasks, anew (three minutes).

Each is a Llama of about 85,000 parameters that spells in single characters, trained on its task's
corpus, which is sloppy, or on a sound one and made unsure afterwards. The same seed gives the same
model on the same machine and versions.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.small_tasks.maze.task import KnownMazeTask, MazeTask
from benchmarks.small_tasks.rules.task import RulesTask
from trainer.config import load_config
from trainer.evaluate import evaluate
from trainer.policy import Policy
from trainer.warm_start import Shape, train

_END, _UNKNOWN = "<|end|>", "?"


class Recipe(NamedTuple):
    """How a model is made.

    Attributes:
        flatness: The logits are divided by it at the end. A model that knows becomes one that is
            rarely sure: what is most likely stays so, though far from always drawn.
    """

    task: Callable[[], RulesTask | MazeTask]
    shape: Shape
    flatness: float = 1.0


# By where they lie, beside their task.
_RECIPES: Mapping[str, Recipe] = {
    "rules/model": Recipe(RulesTask, Shape(64, 2, 4, 128, 4500, 5e-3)),
    "maze/model": Recipe(MazeTask, Shape(64, 2, 4, 128, 2500, 3e-3)),
    "maze/known": Recipe(KnownMazeTask, Shape(64, 2, 4, 128, 1300, 4e-3), flatness=3.2),
}


def tokenizer_of(alphabet: str) -> PreTrainedTokenizerFast:
    """A token for each character."""
    vocabulary = {text: i for i, text in enumerate([_END, _UNKNOWN, *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_END, unk_token=_UNKNOWN
    )


def build(name: str, directory: Path, seed: int, steps: int | None) -> None:
    """Train a model, save it, and say how well it does on held-out prompts."""
    make, shape, flatness = _RECIPES[name]
    task = make()
    torch.manual_seed(seed)
    tokenizer = tokenizer_of(task.alphabet)
    shape = shape._replace(steps=steps or shape.steps)
    model = train(task, tokenizer, Random(seed), shape)
    # The last thing before the logits, and linear.
    model.model.norm.weight.data /= flatness
    model.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    config, _ = load_config({"MAXRL_TASK": f"{Path(__file__).parent / task.name / 'task.py'}:task"})
    policy = Policy(model.float().eval(), tokenizer, torch.device("cpu"))
    print(json.dumps({"model": name, "parameters": model.num_parameters()}))
    print(evaluate(policy, task, config, 0))


def main() -> None:
    """Build what was asked for, each into the place where its task looks for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(_RECIPES), nargs="+", default=sorted(_RECIPES))
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="a directory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="batches to train (default: the task's)")
    given = parser.parse_args()
    for name in given.only:
        build(name, given.to / name, given.seed, given.steps)


if __name__ == "__main__":
    main()
