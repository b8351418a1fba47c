"""One JSON object a line: `iteration` or `step`, and any of IterationRecord's figures by name."""

import json
from dataclasses import fields
from typing import Any

from maxrl_ops.dialects.base import Dialect, LineReader, Past, record_of, unreadable
from maxrl_ops.wire.record import Event, IterationRecord

_NUMBERED = ("iteration", "step")
_TEXTS = frozenset({"objective", "at", "verdict"})
_NO_FIGURES = {*_TEXTS, "iteration", "rewards_above", "extra"}
_NAMES = {f.name: f.name for f in fields(IterationRecord) if f.name not in _NO_FIGURES}
_LONGEST_TEXT = 100
_MOST_LEVELS = 32


class _Reader(LineReader):
    def __init__(self, _: Past) -> None:
        super().__init__()

    def take(self, line: str) -> list[Event]:
        if not line.startswith("{"):
            return []
        raw = _object(line)
        if raw is None:
            return [unreadable(line)]
        iteration = _iteration(raw)
        if iteration is None:
            return []
        known: dict[str, Any] = {
            key: raw[key][:_LONGEST_TEXT] for key in _TEXTS if isinstance(raw.get(key), str)
        }
        if levels := _levels(raw.get("rewards_above")):
            known["rewards_above"] = levels
        taken = {*known, *_NUMBERED}
        scalars = ((k, _text(v)) for k, v in raw.items() if k not in taken)
        told = [(key, text) for key, text in scalars if text is not None]
        return [record_of(iteration, told, _NAMES, **known)]


def _object(line: str) -> dict[str, Any] | None:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _iteration(raw: dict[str, Any]) -> int | None:
    value = next((raw[key] for key in _NUMBERED if raw.get(key) is not None), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_one = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_one else None


def _text(value: object) -> str | None:
    """A scalar as text; what is nested is nobody's figure, and null is not there."""
    if value is None or isinstance(value, dict | list):
        return None
    try:
        return value if isinstance(value, str) else repr(value)
    except ValueError:
        # An integer of thousands of digits.
        return None


def _levels(raw: object) -> dict[float, int]:
    """`{"20": 12}`: rewards above each level."""
    if not isinstance(raw, dict) or len(raw) > _MOST_LEVELS:
        return {}
    try:
        levels = {float(level): count for level, count in raw.items()}
    except ValueError:
        return {}
    is_whole = all(type(n) is int and 0 <= n < 2**53 for n in levels.values())
    return levels if is_whole else {}


def _tells(line: str) -> bool:
    if not line.startswith("{") or not any(f'"{key}"' in line for key in _NUMBERED):
        return False
    raw = _object(line)
    return raw is not None and _iteration(raw) is not None


DIALECT = Dialect("jsonl", _Reader, _tells)
