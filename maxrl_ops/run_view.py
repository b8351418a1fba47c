"""A watched run as its metrics see it."""

from collections.abc import Mapping
from pathlib import Path

from maxrl_ops.core.rules import RULES
from maxrl_ops.run_metrics import RunView, TailView, seconds_of
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.documents import SupervisorState

# What became of a decision, as far as the metric tells it; the rest is on its way there.
_OUTCOMES = frozenset({"applied", "suggested", "rejected", "unconfirmed"})


def view_of(
    watch: RunWatch, store: Store, supervisor: SupervisorState | None, state: str | None
) -> RunView:
    """What one scrape shows of a run; `state` is what `status` calls it."""
    decisions = {
        (rule, outcome): count
        for (rule, outcome), count in store.outcomes(watch.id).items()
        if outcome in _OUTCOMES
    }
    held = store.held(watch.id)
    decisions |= {(rule.name, "held"): held[rule.name] for rule in RULES if rule.name in held}
    return RunView(
        job_name=watch.spec.job_name,
        name=watch.spec.name,
        history=watch.history,
        totals=watch.totals,
        autopilot=watch.state,
        decisions=decisions,
        decided_at=_times(store.decided_at(watch.id)),
        supervisor=supervisor,
        state=state,
        last_checkpoint=checkpoints.last_saved(watch.run),
        trainer=Path(watch.spec.command[0]).name if watch.spec.command else "trainer",
        provenance=watch.spec.provenance,
        started_at=seconds_of(watch.spec.created),
        tail=TailView(
            lines=watch.tally.lines,
            bytes=watch.tally.bytes,
            unparsed=watch.tally.unparsed,
            rotations=watch.tally.rotations,
            lost=watch.tally.lost,
            truncated=watch.tally.truncated,
            lag=watch.lag,
            last_read=watch.last_read,
        ),
        control_revision=watch.control_revision or None,
        policy=watch.policy,
    )


def _times(texts: Mapping[str, str | None]) -> dict[str, float]:
    times = {rule: seconds_of(text) for rule, text in texts.items()}
    return {rule: time for rule, time in times.items() if time is not None}
