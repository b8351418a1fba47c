"""The supervisor's own settings: from its environment at a run's start, from state.json later."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from maxrl_ops.core.stall import Limits
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.settings import SettingError


@dataclass(frozen=True, slots=True)
class Tuning:
    """The supervisor's own settings.

    Attributes:
        stop_grace: Seconds from TERM to KILL: time for an iteration and a checkpoint.
        backoff_scale: Multiplies the pauses before restarts.
        stall: When a trainer that makes no progress counts as stalled.
        stall_grace: Seconds from a stalled trainer's TERM to its KILL.
    """

    stop_grace: float
    backoff_scale: float
    stall: Limits = field(default_factory=Limits)
    stall_grace: float = 10.0

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Tuning":
        """Read MAXRL_OPS_STOP_GRACE_SECONDS, _BACKOFF_SCALE, and the four of _STALL_*.

        Raises:
            SettingError: One of them is not a number of 0 or more.
        """
        return cls(
            stop_grace=_number(env, "MAXRL_OPS_STOP_GRACE_SECONDS", 900.0),
            backoff_scale=_number(env, "MAXRL_OPS_BACKOFF_SCALE", 1.0),
            stall=Limits(
                least=_number(env, "MAXRL_OPS_STALL_SECONDS", 60.0),
                factor=_number(env, "MAXRL_OPS_STALL_FACTOR", 5.0),
                first=_number(env, "MAXRL_OPS_STALL_START_SECONDS", 1800.0),
            ),
            stall_grace=_number(env, "MAXRL_OPS_STALL_GRACE_SECONDS", 10.0),
        )

    @classmethod
    def kept(cls, state: SupervisorState) -> "Tuning | None":
        """What the run's first supervisor was given; None where it kept nothing."""
        kept = state.tuning
        try:
            return cls(
                stop_grace=kept["stop_grace"],
                backoff_scale=kept["backoff_scale"],
                stall=Limits(kept["stall_least"], kept["stall_factor"], kept["stall_first"]),
                stall_grace=kept["stall_grace"],
            )
        except KeyError:
            return None

    def to_keep(self) -> dict[str, float]:
        """What state.json keeps: who revives a supervisor has another environment."""
        return {
            "stop_grace": self.stop_grace,
            "backoff_scale": self.backoff_scale,
            "stall_least": self.stall.least,
            "stall_factor": self.stall.factor,
            "stall_first": self.stall.first,
            "stall_grace": self.stall_grace,
        }


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    with suppress(ValueError):
        value = float(env.get(name) or default)
        if math.isfinite(value) and value >= 0:
            return value
    raise SettingError(f"{name}={env[name]!r} is not allowed: give a number of 0 or more")
