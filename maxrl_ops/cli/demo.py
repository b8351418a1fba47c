"""`demo`: GRPO beside MaxRL on the guide's five samples, by the formulas the trainer uses."""

import json
import sys
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.printable import print_whole
from maxrl_ops.wire.settings import SETTINGS
from trainer.objectives import OBJECTIVES, effective_samples, grpo_advantages, is_correct

_SAMPLES = (
    ("Iterator code", 28.6),
    ("Error handling", 28.0),
    ("Syntax error", -4.5),
    ("Type mismatch", 5.0),
    ("Struct", 25.1),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The five samples through both objectives; None where MaxRL has no signal."""

    threshold: float
    weight_temperature: float
    correct: tuple[bool, ...]
    advantages: tuple[float, ...]
    weights: tuple[float, ...] | None
    grpo_loss: float | None
    maxrl_loss: float | None

    @property
    def effective(self) -> float | None:
        """Kish's effective number of samples behind the MaxRL loss."""
        return None if self.weights is None else effective_samples(self.weights)


def compare(threshold: float, weight_temperature: float) -> Comparison:
    """Run the guide's table through both objectives."""
    rewards = tuple(reward for _, reward in _SAMPLES)
    log_probs = tuple(_log_prob(reward) for reward in rewards)
    correct = tuple(is_correct(reward, threshold) for reward in rewards)
    grpo, maxrl = OBJECTIVES["grpo"], OBJECTIVES["maxrl"]
    return Comparison(
        threshold=threshold,
        weight_temperature=weight_temperature,
        correct=correct,
        advantages=grpo_advantages(rewards),
        weights=maxrl.coefficients(rewards, correct, weight_temperature),
        grpo_loss=grpo.loss(log_probs, rewards, correct, weight_temperature),
        maxrl_loss=maxrl.loss(log_probs, rewards, correct, weight_temperature),
    )


def _log_prob(reward: float) -> float:
    """The demo's sequence log-probability: the better the sample, the likelier."""
    return -5 + reward / 50


def demo(correctness_threshold: str, weight_temperature: str, *, as_json: bool) -> int:
    """Print the comparison."""
    threshold = SETTINGS["correctness_threshold"].parse(
        correctness_threshold, "--correctness-threshold"
    )
    temperature = SETTINGS["weight_temperature"].parse(weight_temperature, "--weight-temperature")
    comparison = compare(float(threshold), float(temperature))
    if as_json:
        sys.stdout.write(json.dumps(_as_json(comparison), indent=1) + "\n")
    else:
        _print(comparison)
    return ExitCode.OK


def _as_json(c: Comparison) -> dict[str, Any]:
    weights = c.weights or (0.0,) * len(_SAMPLES)
    return {
        "correctness_threshold": c.threshold,
        "weight_temperature": c.weight_temperature,
        "samples": [
            {
                "name": name,
                "reward": reward,
                "log_prob": _log_prob(reward),
                "correct": c.correct[i],
                "grpo_advantage": c.advantages[i],
                "maxrl_weight": weights[i],
            }
            for i, (name, reward) in enumerate(_SAMPLES)
        ],
        "n_correct": sum(c.correct),
        "n_total": len(c.correct),
        "correctness": sum(c.correct) / len(c.correct),
        "correct_reward_mean": _correct_mean(c),
        "grpo_loss": c.grpo_loss,
        "maxrl_loss": c.maxrl_loss,
        "effective_samples": c.effective,
    }


def _correct_mean(c: Comparison) -> float | None:
    rewards = [reward for (_, reward), ok in zip(_SAMPLES, c.correct, strict=True) if ok]
    return fmean(rewards) if rewards else None


def _print(c: Comparison) -> None:
    console = Console(highlight=False)
    print_whole(console, _table(c))
    correct = sum(c.correct)
    mean = _correct_mean(c)
    line = f"Correctness: {correct}/{len(c.correct)} ({correct / len(c.correct):.1%})"
    if mean is not None and c.effective is not None:
        line += f"   Avg correct reward: {mean:.4f}   "
        line += f"Effective samples: {c.effective:.4f} of {correct}"
    console.print(Text(line), soft_wrap=True)
    console.print(Text(_what_to_see(c), style="bold"), soft_wrap=True)


def _table(c: Comparison) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_footer=True,
        title=f"Five samples of one prompt: threshold {c.threshold:g}, "
        f"weight temperature {c.weight_temperature:g}",
        title_style="",
        title_justify="left",
    )
    table.add_column("Sample", footer="Loss", no_wrap=True)
    table.add_column("Reward", justify="right")
    table.add_column("Correct", justify="center")
    table.add_column("GRPO advantage", _loss(c.grpo_loss), justify="right")
    table.add_column("MaxRL weight", _loss(c.maxrl_loss), justify="right")
    for i, (name, reward) in enumerate(_SAMPLES):
        weight = c.weights[i] if c.weights else 0.0
        table.add_row(
            name,
            f"{reward:.2f}",
            Text("yes", style="green") if c.correct[i] else Text("no", style="red"),
            f"{c.advantages[i]:+.4f}",
            f"{weight:.6f}" if weight else Text("ignored", style="dim"),
        )
    return table


def _loss(loss: float | None) -> str:
    return "no signal" if loss is None else f"{loss:.6f}"


def _what_to_see(c: Comparison) -> str:
    wrong = len(c.correct) - sum(c.correct)
    if c.weights is None or c.effective is None:
        return (
            f"No sample is above {c.threshold:g}: MaxRL skips this group, GRPO still learns from "
            f"the order of the rewards."
        )
    best = max(range(len(c.weights)), key=c.weights.__getitem__)
    return (
        f"GRPO learns from all five, pushing the worse ones down; MaxRL learns from the "
        f"{sum(c.correct)} correct only, {c.weights[best]:.0%} from {_SAMPLES[best][0]}, and "
        f"leaves {wrong} out."
    )
