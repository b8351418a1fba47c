"""From what a run's log and journal tell to the facts that are kept of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.rescue.kinds import Kind
from maxrl_ops.core.rules import ALERTS
from maxrl_ops.wire.record import (
    ControlApplied,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
)

# Iterations that share a point of the curve.
_POINT = 5
RESTART = "restart"


@dataclass(frozen=True)
class Told:
    """What `status`, `decisions` and `decisions --why-not` print of one run, as JSON."""

    status: Mapping[str, Any]
    decisions: Sequence[Mapping[str, Any]]
    holds: Sequence[Mapping[str, Any]]


def facts_of(events: Sequence[Event], told: Told, kind: Kind) -> dict[str, Any]:
    """What is kept: who noticed what and when, what was done, and the curves."""
    noticed = sorted([*_ruled(told), *_restarted(events)])
    signs = [each for each in noticed if each[1] in kind.signs and each[0] >= kind.onset]
    applied = [each for each in told.decisions if each["outcome"] == "applied"]
    return {
        "detected": list(signs[0]) if signs else None,
        "noticed": [list(each) for each in noticed],
        "actions": sum(each["rule"] is not None for each in applied),
        "by_hand": sum(each["rule"] is None for each in applied),
        "restarts": told.status["restarts"],
        "exit_reason": told.status["exit_reason"],
        "changes": [_change(each) for each in told.decisions],
        "changed_after": _changed(events),
        "curve": _curve(events),
        "evaluations": _evaluations(events),
    }


def _ruled(told: Told) -> Iterator[tuple[int, str]]:
    """What the rules decided, and what those without a remedy told."""
    for decision in told.decisions:
        if decision["rule"] is not None:
            yield decision["iteration"], decision["rule"]
    names = {alert.name for alert in ALERTS}
    for held in told.holds:
        if held["rule"] in names and not held["because"].endswith("is over"):
            yield held["iteration"], held["rule"]


def _restarted(events: Sequence[Event]) -> Iterator[tuple[int, str]]:
    """The iterations at which an attempt ended that nobody had asked to end."""
    iteration, is_asked = 0, True
    for event in events:
        match event:
            case IterationRecord():
                iteration, is_asked = event.iteration, False
            case RunEnded():
                is_asked = event.outcome == "stopped"
            case RunStarted() if not is_asked:
                yield iteration, RESTART
                is_asked = True


def _change(decision: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("iteration", "rule", "control", "outcome", "judged", "because")
    return {key: decision[key] for key in kept}


def _changed(events: Sequence[Event]) -> list[int]:
    """Iterations trained so far when each revision was first in force."""
    found: dict[int, int] = {}
    count = 0
    for event in events:
        match event:
            case IterationRecord():
                count += 1
            case ControlApplied():
                found.setdefault(event.revision, count)
    return list(found.values())


def _curve(events: Sequence[Event]) -> list[list[float]]:
    """(iterations trained so far, also those that were done again; correctness), some at a time."""
    rows = [e for e in events if isinstance(e, IterationRecord)]
    shares = [row.reference_correctness or 0.0 for row in rows]
    starts = range(0, len(shares), _POINT)
    return [[n + _POINT, round(fmean(shares[n : n + _POINT]), 3)] for n in starts]


def _evaluations(events: Sequence[Event]) -> list[list[float]]:
    """(iterations trained so far, held-out pass@1 as the run saw it, its standard error)."""
    found, count = [], 0
    for event in events:
        match event:
            case IterationRecord():
                count += 1
            case Evaluated():
                found.append([count, round(event.pass_at_k[1], 3), round(event.se, 3)])
    return found
