"""Events as JSON: how the history keeps them."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, cast

from maxrl_ops.core.decision import (
    Decision,
    Declined,
    ForeignControl,
    Frozen,
    Input,
    ModeSet,
    PolicyChanged,
    Published,
    Superseded,
)
from maxrl_ops.core.policy import Mode
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        IterationRecord,
        Evaluated,
        CheckpointSaved,
        ControlApplied,
        ControlRejected,
        UpdateSkipped,
        RunEnded,
        Unparsed,
        Decision,
        Published,
        Superseded,
        ForeignControl,
        Declined,
        Frozen,
        ModeSet,
        PolicyChanged,
    )
}

# JSON has no tuples, no keys but texts, and no enums: what has to be made of these fields again.
_REVIVE: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("RunStarted", "algorithm"): Algorithm,
    ("RunStarted", "bounds"): tuple,
    ("IterationRecord", "rewards_above"): lambda raw: {float(k): v for k, v in raw.items()},
    ("Evaluated", "pass_at_k"): lambda raw: {int(k): _number(v) for k, v in raw.items()},
    ("ControlApplied", "changes"): lambda raw: tuple(Change(**change) for change in raw),
    ("Decision", "mode"): Mode,
    ("ModeSet", "mode"): Mode,
}
_FLOATS = {
    (kind.__name__, field.name)
    for kind in _KINDS.values()
    for field in fields(kind)
    if field.type in (float, float | None)
}


def encode(event: Input) -> tuple[str, str]:
    """The event's kind, and its fields as a JSON object; what is None is left out."""
    known = {key: value for key, value in asdict(event).items() if value is not None}
    return type(event).__name__, json.dumps(_finite(known), separators=(",", ":"))


def decode(kind: str, body: str) -> Input:
    """The event that `encode` was given.

    Raises:
        ValueError: This version knows no such event.
    """
    try:
        raw = json.loads(body)
        values = {key: _revived(kind, key, value) for key, value in raw.items()}
        return cast("Input", _KINDS[kind](**values))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{kind} {body[:100]!r}: {error!r}") from None


def _revived(kind: str, key: str, value: Any) -> Any:
    revive = _REVIVE.get((kind, key))
    if revive is not None:
        return revive(value)
    return _number(value) if (kind, key) in _FLOATS else value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    """NaN and inf as texts: SQLite's JSON functions refuse what is not JSON."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value
