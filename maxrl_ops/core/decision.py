"""What the autopilot takes in besides the log's events, and what it gives out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maxrl_ops.core.policy import Mode
from maxrl_ops.wire.record import Event

Scalar = float | int | str


@dataclass(frozen=True, slots=True)
class Decision:
    """A change that the autopilot wants.

    Attributes:
        intent: Unique in the run, and the same whenever the same log is judged.
        iteration: The one it was decided on.
        time: That iteration's, as the log has it.
        mode: The autopilot's; only Mode.ACT is published at once. A suggestion is published by
            whoever approves it, under the same intent.
        base_revision: The newest revision the trainer had answered.
        changes: New values by their key in the control; `lifecycle` may be among them, and with
            `restart_from` the checkpoint's iteration under that key.
        evidence: The figures behind it; what it is predicted to do among them.
        because: Why, in a sentence.
    """

    intent: str
    rule: str
    rung: str
    iteration: int
    time: str | None
    mode: Mode
    base_revision: int
    changes: Mapping[str, Scalar]
    evidence: Mapping[str, Scalar]
    because: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a rule changes nothing; said when its reason (`key`) changes, not every iteration.

    With the key `alert` it is what a rule has to say that no control can mend.
    """

    rule: str
    key: str
    iteration: int
    because: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The trainer's answer to a revision, or its silence.

    Attributes:
        outcome: applied, rejected, superseded (it took over a later one) or unconfirmed.
        effective: What is in force now.
    """

    revision: int
    outcome: str
    iteration: int
    effective: Mapping[str, Scalar] = field(default_factory=dict)
    because: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A decision's control was published; the trainer looks into control/ behind `iteration`."""

    intent: str
    revision: int
    iteration: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """A decision was not published: its base, or its time, was past."""

    intent: str
    iteration: int
    because: str


@dataclass(frozen=True, slots=True)
class ForeignControl:
    """Somebody else's control was found; the trainer looks into control/ behind `iteration`.

    Attributes:
        author: `unknown` where the file cannot be read.
        time: When it was published, RFC 3339.
        changes: What it changes of what was wished before it; `lifecycle` may be among them.
    """

    revision: int
    author: str
    iteration: int
    time: str | None = None
    changes: Mapping[str, Scalar] = field(default_factory=dict)
    because: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """A person declined a suggestion; it is not made again."""

    intent: str
    iteration: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """The autopilot of the whole host was frozen, or set free again (`is_frozen` False)."""

    is_frozen: bool
    iteration: int


@dataclass(frozen=True, slots=True)
class ModeSet:
    """A person says what the autopilot may do in a run."""

    mode: Mode
    iteration: int
    author: str
    time: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """From here on the run is judged by that policy.

    Attributes:
        policy: All of it, as `policy_table.table_of` has it.
        time: When the daemon took it, RFC 3339 in UTC.
    """

    policy: Mapping[str, Any]
    iteration: int
    time: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a change was worth, told once enough iterations have followed it.

    Attributes:
        revision: The change's.
        verdict: helped, harmed or inconclusive.
        iteration: The one it was told at.
        evidence: Correctness before and after, the difference and its interval.
    """

    revision: int
    verdict: str
    iteration: int
    evidence: Mapping[str, Scalar]
    because: str


Input = (
    Event
    | Decision
    | Published
    | Superseded
    | ForeignControl
    | Declined
    | Frozen
    | ModeSet
    | PolicyChanged
)
Output = Decision | Hold | Answered | Judged
