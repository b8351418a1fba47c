"""The events of a run as plain lines, for whatever is not a terminal."""

import math

from maxrl_ops.cli.printable import one_line
from maxrl_ops.wire.record import (
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    UpdateSkipped,
)


def line_of(event: Event) -> str | None:
    """One line of plain text, or None for what is not worth one."""
    text = _text_of(event)
    return None if text is None else one_line(text)


def _text_of(event: Event) -> str | None:  # noqa: PLR0911 - one case a kind of event
    match event:
        case RunStarted():
            return _header(event)
        case IterationRecord():
            return _iteration(event)
        case Evaluated():
            return _evaluation(event)
        case CheckpointSaved(iteration):
            return f"checkpoint {iteration}"
        case ControlApplied(revision, iteration, changes):
            said = ", ".join(f"{c.key} {c.value} (was {c.was})" for c in changes) or "no change"
            return f"control {revision} applied at {iteration}: {said}"
        case ControlRejected(revision, reason):
            return f"control {revision} rejected: {reason}"
        case UpdateSkipped(iteration, reason):
            return f"update {iteration} skipped: {reason}"
        case RunEnded(outcome, detail):
            return f"run {outcome}: {detail}"
    return None


def _header(event: RunStarted) -> str:
    resumed = "" if event.resumed_from is None else f", resumed from {event.resumed_from}"
    parts = (event.objective, event.task, event.device)
    facts = ", ".join(part for part in parts if part)
    return f"attempt {event.attempt or 1}: {event.algorithm} ({facts}){resumed}"


def _iteration(event: IterationRecord) -> str:
    of = "" if event.target_iterations is None else f"/{event.target_iterations}"
    parts = [f"iteration {event.iteration}{of}"]
    if event.correctness is not None:
        parts.append(f"correctness {event.correctness:.1%} ({event.n_correct}/{event.n_total})")
    if event.loss is not None:
        parts.append(f"loss {event.loss:.4g}")
    if event.duration is not None:
        parts.append(f"{event.duration:.1f} s")
    return "  ".join(parts)


def _evaluation(event: Evaluated) -> str:
    # Other trainers' evaluations have no greedy pass.
    parts = [] if math.isnan(event.greedy) else [f"greedy {event.greedy:.1%}"]
    parts += [f"pass@{k} {value:.1%}" for k, value in sorted(event.pass_at_k.items())]
    if event.wrong_ratio is not None:
        parts.append(f"compiles but wrong {event.wrong_ratio:.1%}")
    return f"evaluation at {event.iteration}: {', '.join(parts)}"
