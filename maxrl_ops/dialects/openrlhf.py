"""OpenRLHF's PPO trainer: `INFO ... ppo_trainer.py:547] ✨ Global step 3: {'policy_loss': 0.1}`."""

import re

from maxrl_ops.dialects.base import Dialect, LineReader, Past, record_of, unreadable
from maxrl_ops.dialects.pairs import pairs
from maxrl_ops.wire.record import Event

_STEP = re.compile(r"\] (?:✨ ?)?Global step (\d{1,18}): (\{.*)")
_NAMES = {
    "policy_loss": "loss",
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "entropy_loss": "entropy",
    "kl": "kl",
    "reward": "reward_mean",
    "reward_std": "reward_std",
    "response_length": "length_mean",
    "timing/step_total": "duration",
    "timing/generation": "sample_time",
    "timing/ppo_train": "update_time",
}


class _Reader(LineReader):
    def __init__(self, _: Past) -> None:
        super().__init__()

    def take(self, line: str) -> list[Event]:
        match = _STEP.search(line)
        if match is None:
            return []
        told = pairs(match[2])
        if not told or not match[2].endswith("}"):
            return [unreadable(line)]
        return [record_of(int(match[1]), told, _NAMES)]


DIALECT = Dialect("openrlhf", _Reader, lambda line: _STEP.search(line) is not None)
