"""Events as the guide's log tells them."""

import math

from maxrl_ops.wire.logkeys import BLOCK, HEADER, one_line, percent
from maxrl_ops.wire.record import (
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

FOREIGN_PREFIX = "| "


def _render_header(event: RunStarted) -> str:
    cells = ((line.key, line.write(event)) for line in HEADER)
    known = [f"{key}: {value}" for key, value in cells if value is not None]
    extra = [f"{key}: {one_line(value)}" for key, value in event.extra.items()]
    # The blank line closes the header, so that a reader need not wait for the first block.
    return "\n".join([*known, *extra]) + "\n\n"


def _render_block(event: IterationRecord) -> str:
    target = "" if event.target_iterations is None else f"/{event.target_iterations}"
    lines = [f"Iteration {event.iteration}{target}"]
    for row in BLOCK:
        cells = ((line.key, line.write(event)) for line in row)
        known = [f"{key}: {value}" for key, value in cells if value is not None]
        if known:
            lines.append("  " + "   ".join(known))
    lines += [f"  {key}: {one_line(value)}" for key, value in event.extra.items()]
    if event.verdict is not None:
        lines.append(f"  [{one_line(event.verdict)}]")
    return "\n".join(lines) + "\n"


def _render_evaluation(event: Evaluated) -> str:
    cells = [f"greedy {percent(event.greedy)}"]
    for k, value in sorted(event.pass_at_k.items()):
        se = f" +- {percent(event.se)}" if k == 1 and not math.isnan(event.se) else ""
        cells.append(f"pass@{k} {percent(value)}{se}")
    if event.compile_ratio is not None:
        cells.append(f"compile {percent(event.compile_ratio)}")
    if event.wrong_ratio is not None:
        cells.append(f"compiles but wrong {percent(event.wrong_ratio)}")
    return f"Evaluation at {event.iteration}: {', '.join(cells)}\n"


def render(event: Event) -> str:  # noqa: PLR0911 - one case a kind of event
    """An event as the text the trainer appends to its log, newline included."""
    match event:
        case RunStarted():
            return _render_header(event)
        case IterationRecord():
            return _render_block(event)
        case Evaluated():
            return _render_evaluation(event)
        case CheckpointSaved(iteration, seconds):
            return f"Checkpoint {iteration}: saved in {seconds:.2f}s\n"
        case ControlApplied(revision, iteration, changes):
            said = ", ".join(f"{c.key} {c.value} (was {c.was})" for c in changes) or "no change"
            return f"Control {revision} applied at {iteration}: {said}\n"
        case ControlRejected(revision, reason):
            return f"Control {revision} rejected: {one_line(reason)}\n"
        case UpdateSkipped(iteration, reason):
            return f"Update {iteration} skipped: {one_line(reason)}\n"
        case RunEnded(outcome, detail):
            return f"Run {outcome}: {one_line(detail)}\n"
        case Unparsed(line):
            return foreign(line)


def foreign(text: str) -> str:
    """What somebody else printed, each line prefixed so that none can pose as ours."""
    return "".join(f"{FOREIGN_PREFIX}{one_line(line)}\n" for line in text.splitlines())
