"""Held-out evaluation: greedy, pass@1, unbiased pass@k, and what compiles but is wrong."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from maxrl_ops.wire.record import Evaluated
from trainer.batch import verdicts_of
from trainer.config import Config
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.reward import tested
from trainer.sampler import Completion, sample
from trainer.seeds import seed_everything
from trainer.tasks.base import Task
from trainer.verdict import Verdict

# pass@8 from 8 samples of each prompt; pass@1 uses the same ones.
_SAMPLES = 8


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of pass@k from n samples of which `correct` are right.

    1 - C(n - correct, k) / C(n, k). Source: Chen et al., arXiv 2107.03374, Eq. 1.
    """
    if n - correct < k:
        return 1.0
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean over prompts (the samples of one prompt are not independent)."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def evaluate(
    policy: Policy, task: Task, config: Config, iteration: int, ranks: Ranks = ALONE
) -> Evaluated:
    """Measure the policy on the task's held-out prompts, a share of them in each process.

    "Pass" is the task's own level of correct, whatever reward the run trains on: the gated reward,
    or the score where the task gives one, above the reference threshold.
    """
    prompts = ranks.share(task.held_out_prompts(config.evaluation_prompts))
    seed_everything(config.seed, iteration, ranks.purpose("evaluate"))

    def draw(n_samples: int, temperature: float) -> list[list[Completion]]:
        return sample(
            policy, prompts, n_samples, config.max_new_tokens, temperature, task.answer_end
        )

    groups = draw(_SAMPLES, config.sampling_temperature)
    greedy = draw(1, 0.0)
    completions = [c for group in (*groups, *greedy) for c in group]
    verdicts = verdicts_of(completions, task)
    cut = len(verdicts) - len(prompts)
    sampled, of_greedy = ranks.gather(verdicts[:cut]), ranks.gather(verdicts[cut:])
    return summarise(iteration, sampled, of_greedy, task.reference_threshold)


def summarise(
    iteration: int, sampled: Sequence[Verdict], greedy: Sequence[Verdict], threshold: float
) -> Evaluated:
    """Figures of `len(greedy)` prompts with equally many sampled verdicts each, in order.

    An unscored sample counts as not passed: an evaluation must not improve by losing verdicts.
    """
    passes = [_passes(verdict, threshold) for verdict in sampled]
    per_prompt = len(sampled) // len(greedy)
    counts = [sum(passes[i : i + per_prompt]) for i in range(0, len(passes), per_prompt)]
    rates = [count / per_prompt for count in counts]
    compiles = [bool(v.compiled) for v in sampled] if sampled[0].compiled is not None else None
    wrong = [
        bool(v.compiled) and v.unscored is None and v.tests_passed < v.tests_total for v in sampled
    ]
    return Evaluated(
        iteration=iteration,
        greedy=fmean(_passes(verdict, threshold) for verdict in greedy),
        pass_at_k={
            1: fmean(rates),
            per_prompt: fmean(pass_at_k(per_prompt, count, per_prompt) for count in counts),
        },
        se=standard_error(rates),
        compile_ratio=None if compiles is None else fmean(compiles),
        wrong_ratio=None if compiles is None else fmean(wrong),
    )


def _passes(verdict: Verdict, threshold: float) -> bool:
    if verdict.unscored is not None:
        return False
    return (tested(verdict).total if verdict.score is None else verdict.score) > threshold
