"""The training state that a log leaves in force: its header's, after the controls applied."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from maxrl_ops.wire.control import Applied, Control, TrainingState
from maxrl_ops.wire.record import Change, RunStarted


@dataclass(frozen=True, slots=True)
class InForce:
    """TrainingState as far as a log tells it; None where it is silent."""

    objective: str | None = None
    correctness_threshold: float | None = None
    weight_temperature: float | None = None
    n_samples: int | None = None
    learning_rate: float | None = None

    @classmethod
    def at_start(cls, header: RunStarted) -> "InForce":
        """What an attempt begins with."""
        return cls(**{key: getattr(header, key) for key in _CONVERTERS})

    def after(self, changes: Iterable[Change]) -> "InForce":
        """With the changes of a control, as the log spells them."""
        values = {
            c.key: _read(_CONVERTERS[c.key], c.value) for c in changes if c.key in _CONVERTERS
        }
        return replace(self, **values)

    def known(self) -> dict[str, Any]:
        """The values that are known; a log may write nan, which is none."""
        values = asdict(self).items()
        return {
            key: value for key, value in values if value is not None and not _is_no_number(value)
        }

    def whole(self) -> TrainingState | None:
        """As a control carries it; None when a part is not known."""
        known = self.known()
        return TrainingState(**known) if len(known) == len(_CONVERTERS) else None


_CONVERTERS: Mapping[str, Callable[[str], Any]] = {
    "objective": str,
    "correctness_threshold": float,
    "weight_temperature": float,
    "n_samples": int,
    "learning_rate": float,
}


CONTROLLED = tuple(_CONVERTERS)
"""What a control can change of the training."""


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _read(convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except ValueError:
        # A foreign log may write anything; what we cannot read we do not know.
        return None


def carried(newest: Control | None, answered: Applied | None) -> str:
    """The lifecycle that a change of something else leaves as it is.

    A paused run stays paused. What the trainer has yet to obey is asked for again, for it only
    reads the newest control.
    """
    if newest is not None and (answered is None or newest.revision > answered.revision):
        return newest.lifecycle if newest.lifecycle in _KEPT_WHILE_PENDING else "run"
    return "pause" if answered is not None and answered.lifecycle == "pause" else "run"


_KEPT_WHILE_PENDING = frozenset({"pause", "checkpoint", "stop"})


def desired(
    in_force: InForce, acknowledged: int, newest: Control | None, answered: Applied | None
) -> TrainingState | None:
    """What the next control starts from; None where nobody tells.

    A control that the trainer has not answered yet still stands. Else the trainer's own record of
    what it uses does, which is right also while a resumed run has yet to come to a control that it
    will apply again; else what its log tells.
    """
    if answered is not None:
        acknowledged = max(acknowledged, answered.revision)
    if newest is not None and newest.revision > acknowledged:
        return newest.state
    return in_force.whole() if answered is None else answered.state


def with_changes(state: TrainingState, changes: Mapping[str, Any]) -> TrainingState:
    """`state` with some values changed."""
    return replace(state, **changes)
