"""The guide's Rust trainers: what train_maxrl and train_rl print, and the CSV of train_rl.

    Iteration 50/200
    Iteration 50 Statistics:
      Loss: 4.4335
      Correct samples: 12/24 (50.0%)

A CSV row is iteration, reward, its deviation, compile and parse ratio, and in newer ones loss, KL
and gradient norm. Neither has headers for all that it begins: iteration 1 again is a new attempt.
"""

import re
from dataclasses import replace
from typing import Any

from maxrl_ops.dialects.base import Dialect, LineReader, Past, number, record_of
from maxrl_ops.wire.record import (
    Algorithm,
    CheckpointSaved,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
)

_INT = r"\d{1,15}"
_NUM = r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?(?:[eE][+-]?\d{1,3})?|[nN][aA][nN]|inf)"
_ITERATION = re.compile(rf"Iteration ({_INT})/({_INT})")
_STATISTICS = re.compile(rf"Iteration ({_INT}) Statistics:")
_CSV = re.compile(rf"{_INT}(?:,{_NUM}){{4}}(?:(?:,{_NUM}){{3}})?")
_CSV_NAMES = ("reward_mean reward_std compile_ratio parse_ratio loss kl grad_norm").split()
_PAIR = re.compile(r"  ([A-Z][A-Za-z ]{0,60}): *(.*)")
_CORRECT = re.compile(rf"({_INT})/({_INT})(?: .*)?")
_SAVED = re.compile(rf".*iter[_-]({_INT})")
_SAVING = ("Saving checkpoint", "Checkpoint saved to")
_COMPLETE = ("  MaxRL Training Complete!", "  Training Complete!")

# Of an iteration's statistics: a log that never ends one must not fill the memory.
_MOST_TOLD = 256
_LONGEST_TOLD = 1000

_METHODS = {
    "MaxRL Configuration:": Algorithm.MAXRL,
    "  GRPO/GSPO Reinforcement Learning Training": Algorithm.GRPO,
}
_BEFORE_METHOD = {"Device": "device", "Loading base checkpoint": "model"}
_HEADER_TEXTS = {"Base checkpoint": "model", "Device": "device"}
_HEADER_NUMBERS = {
    "Correctness threshold": "correctness_threshold",
    "Temperature": "weight_temperature",
    "Samples per prompt": "n_samples",
    "N samples": "n_samples",
    "Iterations": "target_iterations",
    "N iterations": "target_iterations",
    "Batch size": "prompts_per_iteration",
}
_HEADER_FLOATS = {"correctness_threshold", "weight_temperature"}
_NAMES = {
    "Loss": "loss",
    "Policy loss": "loss",
    "Avg correct reward": "correct_reward_mean",
    "Avg Reward": "reward_mean",
    "Reward Std": "reward_std",
    "Entropy": "entropy",
    "Approx KL": "kl",
    "Grad norm": "grad_norm",
    # train_rl's. train_maxrl's "Compile success" is the share above the threshold, not this.
    "Compile Success": "compile_ratio",
}


class _Reader(LineReader):
    def __init__(self, past: Past) -> None:
        super().__init__()
        self._started = past.started
        self._last = past.newest.iteration if past.newest else 0
        self._header: dict[str, Any] | None = None
        # An iteration's number, its target, and its statistics once they have begun.
        self._block: tuple[int, int | None] | None = None
        self._told: list[tuple[str, str]] | None = None

    @property
    def is_open(self) -> bool:
        """A header or an iteration has begun."""
        return self._header is not None or self._block is not None

    def close(self) -> list[Event]:
        """The header or the statistics that the end of the log completes."""
        header, block, told = self._header, self._block, self._told
        self._header = self._block = self._told = None
        self.be_done()
        if header is not None and "algorithm" in header:
            return [self._start(RunStarted(**header))]
        if block is not None and told is not None:
            return self._iterate(_record(*block, told))
        return []

    def take(self, line: str) -> list[Event]:
        """A line of an open header or of open statistics, or one that ends and begins."""
        if self._header is not None and self._continues_header(line):
            return []
        if self._told is not None and (not line or line.startswith("  ")):
            if len(self._told) < _MOST_TOLD and (pair := _PAIR.fullmatch(line)):
                self._told.append((pair[1], pair[2].strip()[:_LONGEST_TOLD]))
            return []
        return self._open(line)

    # --- Headers ----------------------------------------------------------------------------------

    def _continues_header(self, line: str) -> bool:
        """Take `line` into the open header; False where it ends it."""
        header = self._header
        if header is None:
            return False
        if (method := _METHODS.get(line)) is not None:
            is_first = "algorithm" not in header
            header["algorithm"] = method
            return is_first
        if pair := _PAIR.fullmatch(line):
            _put(header, pair[1], pair[2].strip())
            return True
        if line in ("", "Configuration:") or line.startswith("═"):
            return True
        key, _, value = line.partition(": ")
        if key in _BEFORE_METHOD and "algorithm" not in header:
            header[_BEFORE_METHOD[key]] = value[:200]
            return True
        return line.startswith("✓ Loaded")

    def _start(self, header: RunStarted) -> RunStarted:
        """An attempt: another one only where the last has come to an iteration."""
        attempt = (self._started.attempt if self._started else None) or 1
        if self._started is not None and self._last:
            attempt += 1
        self._started = replace(header, attempt=attempt)
        self._last = header.resumed_from or 0
        return self._started

    # --- Iterations -------------------------------------------------------------------------------

    def _open(self, line: str) -> list[Event]:
        """A line outside of headers and statistics."""
        if match := _ITERATION.fullmatch(line):
            events = self.close()
            self._block = (int(match[1]), int(match[2]))
            return events
        if match := _STATISTICS.fullmatch(line):
            return self._open_statistics(int(match[1]))
        if line in _METHODS or line.partition(": ")[0] in _BEFORE_METHOD:
            events = self.close()
            self._header = {}
            self._continues_header(line)
            return events
        if line in _COMPLETE:
            return [*self.close(), RunEnded("finished", f"{self._last} iterations")]
        if _CSV.fullmatch(line) and (row := _row(line)) is not None:
            return [*self.close(), *self._iterate([row])]
        events = self.close() if self._told is not None or self._header is not None else []
        if self._started is None and "train_maxrl" in line:
            # As the guide tells the two apart: somebody's shell said what it starts.
            events.append(self._start(RunStarted(Algorithm.MAXRL)))
        return events

    def _open_statistics(self, iteration: int) -> list[Event]:
        is_known = self._block is not None and self._block[0] == iteration and self._told is None
        events = [] if is_known else self.close()
        self._block = self._block or (iteration, None)
        self._told = []
        return events

    def _iterate(self, events: list[IterationRecord | CheckpointSaved]) -> list[Event]:
        """An iteration, after the beginning of its attempt where nothing else told of it."""
        iteration = events[0].iteration
        begins: list[Event] = []
        if self._started is None:
            begins.append(self._start(RunStarted(Algorithm.GRPO)))
        elif iteration <= self._last:
            resumed_from = iteration - 1 if iteration > 1 else None
            begins.append(self._start(replace(self._started, resumed_from=resumed_from)))
        self._last = iteration
        return [*begins, *events]


def _put(header: dict[str, Any], key: str, text: str) -> None:
    if key in _HEADER_TEXTS:
        header[_HEADER_TEXTS[key]] = text[:200]
        return
    name = _HEADER_NUMBERS.get(key)
    value = None if name is None else number(text)
    if name in _HEADER_FLOATS and value is not None:
        header[name] = value
    elif name is not None and value is not None and value.is_integer() and 0 <= value < 2**53:
        header[name] = int(value)
    elif len(extra := header.setdefault("extra", {})) < 16:
        extra[key] = text[:100]


def _record(
    iteration: int, target: int | None, told: list[tuple[str, str]]
) -> list[IterationRecord | CheckpointSaved]:
    known: dict[str, Any] = {} if target is None else {"target_iterations": target}
    rest, saved = [], False
    for key, text in told:
        if key == "Correct samples" and (match := _CORRECT.fullmatch(text)):
            known["n_correct"], known["n_total"] = int(match[1]), int(match[2])
        elif key in _SAVING:
            saved |= (match := _SAVED.fullmatch(text)) is not None and int(match[1]) == iteration
        elif key != "Avg correct reward" or known.get("n_correct") != 0:
            # The average over no sample is printed as 0.00.
            rest.append((key, text))
    record = record_of(iteration, rest, _NAMES, **known)
    # It does not say how long that took.
    return [record, CheckpointSaved(iteration, float("nan"))] if saved else [record]


def _row(line: str) -> IterationRecord | None:
    """The record of a CSV row; None where a ratio is none, as in somebody else's table."""
    iteration, *cells = line.split(",")
    values = [number(cell) for cell in cells]
    if not all(ratio is not None and 0 <= ratio <= 1 for ratio in values[2:4]):
        return None
    told = dict(zip(_CSV_NAMES, cells, strict=False))
    names = {name: name for name in _CSV_NAMES if name != "parse_ratio"}
    return record_of(int(iteration), told.items(), names)


def _tells(line: str) -> bool:
    if line in _METHODS or _STATISTICS.fullmatch(line):
        return True
    return _CSV.fullmatch(line) is not None and _row(line) is not None


DIALECT = Dialect("nanochat_rl", _Reader, _tells)
