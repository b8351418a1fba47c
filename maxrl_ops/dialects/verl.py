"""verl's console logger: `step:7 - actor/pg_loss:0.15 - critic/rewards/mean:0.5`."""

import re

from maxrl_ops.dialects.base import Dialect, LineReader, Past, record_of, unreadable
from maxrl_ops.wire.record import Event

_STEP = re.compile(r"(?:\(\w{1,40} pid=\d{1,9}(?:, ip=[\w.:]{1,60})?\) )?step:(\d{1,18}) - (.+)")
_NAMES = {
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/entropy": "entropy",
    "actor/entropy_loss": "entropy",
    "actor/ppo_kl": "kl",
    "actor/lr": "learning_rate",
    "critic/rewards/mean": "reward_mean",
    "response_length/mean": "length_mean",
    "perf/time_per_step": "duration",
    "timing_s/step": "duration",
    "timing_s/gen": "sample_time",
    "timing_s/reward": "verify_time",
    "timing_s/update_actor": "update_time",
}


class _Reader(LineReader):
    def __init__(self, _: Past) -> None:
        super().__init__()

    def take(self, line: str) -> list[Event]:
        match = _STEP.fullmatch(line)
        if match is None:
            return []
        cells = (cell.rpartition(":") for cell in match[2].split(" - "))
        told = [(key.strip(), value) for key, colon, value in cells if colon and key.strip()]
        if not told:
            return [unreadable(line)]
        if all(key.startswith("val") for key, _ in told):
            # A validation, before training or after it: its step has a line of its own.
            return []
        return [record_of(int(match[1]), told, _NAMES)]


DIALECT = Dialect("verl", _Reader, lambda line: _STEP.fullmatch(line) is not None)
