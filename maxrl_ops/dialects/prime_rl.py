"""prime-rl: a line a step of its trainer, or of its orchestrator; rewards may be negative.

10:42:07 SUCCESS Step 12 | 9.5s | Loss 0.0123 | Entropy 0.4512 | Grad. Norm 0.1200 | LR 1.00e-06
18:15:09 [SUCCESS] Step 2 | 9.5s | Reward 0.1972
"""

import re

from maxrl_ops.dialects.base import Dialect, LineReader, Past, number, record_of, unreadable
from maxrl_ops.wire.record import Event

_STEP = re.compile(r"(?:\[\w{1,20}\]:)?\s*\d\d:\d\d:\d\d\s+\[?SUCCESS\]?\s+Step (\d{1,18}) \|(.*)")
_CELL = re.compile(r"([A-Za-z][A-Za-z0-9_. /()-]*?)\s+([+-]?(?:\d[\d.eE+-]*|nan|inf)%?)(?:\s.*)?")
_NAMES = {
    "Loss": "loss",
    "Entropy": "entropy",
    "Mismatch KL": "kl",
    "Grad. Norm": "grad_norm",
    "LR": "learning_rate",
    "Reward": "reward_mean",
    "Seq. Length": "length_mean",
}


class _Reader(LineReader):
    def __init__(self, _: Past) -> None:
        super().__init__()

    def take(self, line: str) -> list[Event]:
        match = _STEP.fullmatch(line)
        if match is None:
            return []
        known: dict[str, float] = {}
        told = []
        for part in match[2].split("|"):
            cell = part.strip()
            if cell.endswith("s") and (seconds := number(cell[:-1])) is not None:
                known["duration"] = seconds
            elif pair := _CELL.fullmatch(cell[:200]):
                told.append((pair[1], pair[2]))
        if not told:
            return [unreadable(line)]
        return [record_of(int(match[1]), told, _NAMES, **known)]


DIALECT = Dialect("prime_rl", _Reader, lambda line: _STEP.fullmatch(line) is not None)
