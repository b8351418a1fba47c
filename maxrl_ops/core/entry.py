"""The journal's entries, and how they are told to a person."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision, an operator's or a rule's; the object that `decisions --json` prints.

    Attributes:
        revision: Of its control; None while, or when, there is none.
        iteration: It was decided on; for an operator's, the one it was answered at.
        time: When, RFC 3339 in UTC.
        by: `rule:LOW`, `uid:1000`, or `unknown` where its control cannot be read.
        control: What it wanted changed.
        outcome: intended, published, applied, rejected, unconfirmed, superseded, suggested or
            observed, declined.
        effective: What was in force after the trainer's answer; None without one.
        judged: helped, harmed or inconclusive; None while nobody has judged.
        because: Why it was decided, and what the trainer said to it.
        answered_at: The iteration from which the answer holds.
        intent: By which `approve` and `decline` know it; None for a control that cannot be read.
        judgement: The iteration it was judged at, why, and the figures; of a threshold's change,
            what correctness would be at the old one, too. None while nobody has judged.
    """

    revision: int | None
    run: str
    iteration: int | None
    time: str | None
    by: str
    rule: str | None
    evidence: Mapping[str, Any]
    control: Mapping[str, Any]
    outcome: str
    effective: Mapping[str, Any] | None
    judged: str | None
    because: str
    answered_at: int | None = None
    judgement: Mapping[str, Any] | None = None
    intent: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `decisions --json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Held:
    """Why nothing was changed, as said last."""

    run: str
    iteration: int
    rule: str
    because: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the journal tells of one run: the last decision, and the last reason for none."""

    last: Entry | None = None
    held: Held | None = None


def changes_of(entry: Entry) -> str:
    """`correctness_threshold to 25, n_samples to 16`."""
    return values_text(entry.control)


def values_text(changes: Mapping[str, Any]) -> str:
    """New values by their key, in words."""
    return ", ".join(f"{key} to {_short(value)}" for key, value in changes.items())


def decision_sentence(entry: Entry) -> str:  # noqa: PLR0911 - one case an outcome
    """The decision and its outcome, without the full stop."""
    who = entry.rule or entry.by.removeprefix("rule:")
    what = changes_of(entry)
    at = "" if entry.iteration is None else f" at iteration {entry.iteration}"
    why = f": {entry.because.rstrip('.')}" if entry.because else ""
    revision = "" if entry.revision is None else f" (revision {entry.revision})"
    match entry.outcome:
        case "applied":
            since = entry.iteration if entry.answered_at is None else entry.answered_at
            return f"{who} set {what}, in force from iteration {since}{revision}"
        case "rejected":
            asked = f"set {what}" if what else "change something"
            return f"{who} wanted to {asked}{revision}, the trainer rejected it{why}"
        case "unconfirmed":
            return f"{who} set {what}{revision}, and the trainer does not answer"
        case "superseded":
            return f"{who} wanted to set {what}{at}, it came too late{why}"
        case "declined":
            return f"{who} suggested to set {what}{at}; it was declined"
        case "suggested":
            return f"{who} suggests to set {what}{at}; it waits for approval{why}"
        case "observed":
            return f"{who} would have set {what}{at}, but only observes{why}"
    return f"{who} sets {what}{revision}, the trainer has not answered yet"


def autopilot_sentence(told: Told, *, is_active: bool) -> str | None:
    """What a run's sentence ends with: the last decision, else why there is none."""
    if told.last is not None:
        whose = "Last change" if told.last.rule is None else "Autopilot"
        return f"{whose}: {decision_sentence(told.last)}."
    if told.held is not None and is_active:
        # Said when it began; the figure in it is of that iteration.
        return f"Autopilot: {told.held.because} (since iteration {told.held.iteration})."
    return None


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
