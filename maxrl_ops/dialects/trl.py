"""Hugging Face's Trainer under TRL: a dict a logged step, with an epoch and no number.

    {'loss': '0', 'grad_norm': '3.387', 'reward': '0.375', 'reward_std': '0.5175', 'epoch': '0.06'}

Steps are counted. Where the epoch goes back, the trainer was started again: from where, the ratio
of the epochs says. Its loss is about 0 by construction and hides NaN; grad_norm tells.
"""

import math

from maxrl_ops.dialects.base import Dialect, LineReader, Past, number, record_of, unreadable
from maxrl_ops.dialects.pairs import pairs
from maxrl_ops.wire.record import Event, RunEnded

_NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "reward": "reward_mean",
    "reward_std": "reward_std",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "length_mean",
    "completion_length": "length_mean",
    "step_time": "duration",
}
_TRAINING = ("grad_norm", "reward", "learning_rate")


class _Reader(LineReader):
    def __init__(self, past: Past) -> None:
        super().__init__()
        self._count = past.newest.iteration if past.newest else 0
        self._epoch = number(past.newest.extra.get("epoch", "")) if past.newest else None

    def take(self, line: str) -> list[Event]:
        text = _dict_in(line)
        if text is None:
            return []
        told = dict(pairs(text))
        if "train_runtime" in told:
            seconds = told["train_runtime"][:40]
            return [RunEnded("finished", f"{self._count} logged steps in {seconds} s")]
        if "epoch" not in told or not any(key in told for key in _TRAINING):
            # An evaluation's, or something else that somebody printed.
            return []
        if not text.rstrip().endswith("}"):
            return [unreadable(line)]
        self._step(number(told["epoch"]))
        return [record_of(self._count, told.items(), _NAMES)]

    def _step(self, epoch: float | None) -> None:
        """Count one step more, or from where a trainer that was started again went on."""
        count = self._count + 1
        if epoch is not None and math.isfinite(epoch):
            if self._epoch and epoch < self._epoch:
                count = max(1, round(max(0.0, epoch) / self._epoch * self._count))
            self._epoch = epoch
        self._count = count


def _dict_in(line: str) -> str | None:
    """The dict that a line is, or that stands behind a progress bar on it."""
    start = line.find("{'")
    if start < 0 or (line[:start].strip() and "%|" not in line[:start]):
        return None
    return line[start:]


def _tells(line: str) -> bool:
    text = _dict_in(line)
    return text is not None and "'epoch':" in text and any(f"'{key}':" in text for key in _TRAINING)


DIALECT = Dialect("trl", _Reader, _tells)
