"""nanochat's chat_rl: `Step 3/467 | Average reward: 0.21 | Average sequence length: 143.20`.

Its steps count from 0, and an evaluation comes before the step of its number: step 3 is our
iteration 4, `Step 60 | Pass@1: ...` the evaluation after iteration 60.
"""

import math
import re

from maxrl_ops.dialects.base import Dialect, LineReader, Past, number, record_of, unreadable
from maxrl_ops.wire.record import Evaluated, Event

_STEP = re.compile(r"Step (\d{1,17})/(\d{1,17}) \| (Average reward: .*)")
_EVALUATION = re.compile(r"Step (\d{1,17}) \| (Pass@1: .*)")
_PASS_AT = re.compile(r"Pass@(\d{1,6}): ([^,\s]{1,40})")
_NAMES = {"Average reward": "reward_mean", "Average sequence length": "length_mean"}


class _Reader(LineReader):
    def __init__(self, _: Past) -> None:
        super().__init__()

    def take(self, line: str) -> list[Event]:
        if match := _STEP.fullmatch(line):
            cells = (cell.partition(":") for cell in match[3].split(" | "))
            told = [(key.strip(), value.strip()) for key, colon, value in cells if colon]
            target = int(match[2])
            return [record_of(int(match[1]) + 1, told, _NAMES, target_iterations=target)]
        if match := _EVALUATION.fullmatch(line):
            return [_evaluation(int(match[1]), match[2]) or unreadable(line)]
        return []


def _evaluation(iteration: int, text: str) -> Evaluated | None:
    read = {int(k): number(value) for k, value in _PASS_AT.findall(text)}
    pass_at_k = {k: value for k, value in read.items() if k and value is not None}
    if 1 not in pass_at_k:
        return None
    return Evaluated(iteration, greedy=math.nan, pass_at_k=pass_at_k, se=math.nan)


def _tells(line: str) -> bool:
    return _STEP.fullmatch(line) is not None or _EVALUATION.fullmatch(line) is not None


DIALECT = Dialect("nanochat", _Reader, _tells)
