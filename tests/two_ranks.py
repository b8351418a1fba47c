"""Two processes that train together: their gradient against that of a process alone.

Run as a script, which forks before PyTorch has a thread; the first prints what it found as one line
of JSON. A port to meet at is its argument.
"""

import json
import os
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch

from trainer.policy import Policy, load_policy
from trainer.ranks import ALONE, Ranks
from trainer.sampler import Completion
from trainer.tasks.base import Prompt
from trainer.update import StepOptions, Term, UpdateResult, train_step

MODEL = Path(__file__).parent.parent / "trainer" / "tasks" / "arithmetic" / "model"
PLAIN = StepOptions(max_grad_norm=1e9)
CASES = {
    "plain": (4, PLAIN),
    "clipped": (4, replace(PLAIN, max_grad_norm=0.01)),
    "an odd group": (3, PLAIN),
    "less groups than processes": (1, PLAIN),
    "entropy": (4, replace(PLAIN, entropy_bonus=0.1)),
    "length": (4, replace(PLAIN, length_normalisation=True)),
    "three steps on a batch": (4, replace(PLAIN, updates_per_batch=3)),
    "divergence": (4, replace(PLAIN, kl_coefficient=0.3)),
}


def terms(policy: Policy, groups: int) -> list[Term]:
    """Groups of different sizes and lengths, with coefficients of both signs."""
    found = []
    for group in range(groups):
        text = f"{group + 2}+{group + 3}=" + "1+" * group
        ids = policy.encode(text)
        for sample in range(3 + group % 2):
            answer = policy.encode(str(10**sample + group))
            completion = Completion(Prompt(text, "f", text, ()), ids, answer, "")
            found.append(Term(completion, (0.7 - 0.5 * sample) / groups))
    return found


def step(
    start: Policy, groups: int, options: StepOptions, ranks: Ranks
) -> tuple[UpdateResult, list[torch.Tensor], list[torch.Tensor]]:
    """Its result, gradients (clipped) and weights after a step from `start`."""
    policy = replace(start, model=deepcopy(start.model))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3, weight_decay=0.0)
    reference = None
    if options.kl_coefficient:
        reference = replace(start, model=deepcopy(start.model))
        with torch.no_grad():
            for weight in reference.model.parameters():
                weight.mul_(1.01)
    found = train_step(policy, optimizer, terms(start, groups), options, reference, ranks)
    weights = list(policy.model.parameters())
    return found, [w.grad for w in weights if w.grad is not None], [w.detach() for w in weights]


def furthest(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    """The largest difference, of the largest value."""
    largest = max(float(each.abs().max()) for each in theirs)
    pairs = zip(ours, theirs, strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs) / largest


def main(port: str) -> None:
    """Compare each case."""
    torch.set_num_threads(1)
    child = os.fork()
    os.environ.update(
        RANK=str(int(child == 0)), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
    )
    ranks = Ranks.join(os.environ, "cpu")
    start = load_policy(str(MODEL), torch.device("cpu"))
    told = {}
    for name, (groups, options) in CASES.items():
        result, gradients, weights = step(start, groups, options, ranks)
        alone, expected, _ = step(start, groups, options, ALONE)
        everyones = ranks.gather([[w.numpy().tobytes() for w in weights]])
        told[name] = {
            "gradient": furthest(gradients, expected),
            "loss": abs(result.loss - alone.loss),
            "norm": abs(result.grad_norm - alone.grad_norm) / alone.grad_norm,
            "entropy": abs(result.entropy - alone.entropy),
            "kl": abs((result.kl or 0.0) - (alone.kl or 0.0)),
            "alike": all(each == everyones[0] for each in everyones),
        }
    if ranks.is_first:
        sys.stdout.write(json.dumps(told) + "\n")
    ranks.leave()
    if ranks.is_first:
        assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main(sys.argv[1])
