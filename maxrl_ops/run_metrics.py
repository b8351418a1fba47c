"""A run in figures: every series of it, from what the daemon knows of it. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from maxrl_ops.core import autopilot
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import Totals, algorithm_of
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.record import Algorithm, IterationRecord

MOST_SERIES = 60
# The rule that is judged at every iteration: the others wait for a window, or have no say.
JUDGED_ALWAYS = "NONFINITE"
_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: observations by bound, and the sum of all."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One series: a metric of signals.METRICS, all its labels' values in order, and the value."""

    metric: str
    labels: tuple[str, ...]
    value: float | Buckets


@dataclass(frozen=True, slots=True)
class TailView:
    """Counters of a log's tail; `last_read` in seconds since the epoch."""

    lines: int = 0
    bytes: int = 0
    unparsed: Mapping[str, int] = field(default_factory=dict)
    rotations: int = 0
    lost: int = 0
    truncated: int = 0
    lag: int = 0
    last_read: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its metrics see it.

    Attributes:
        trainer: The program that trains.
        provenance: Of its run.json.
        decisions: How many of each (rule, outcome).
        decided_at: When each rule decided last, in seconds since the epoch.
        state: As `status` says it; `supervisor` is what state.json says, whoever lives.
        last_checkpoint: When it was complete, in seconds since the epoch.
        control_revision: The newest that was published, None before the first.
        policy: The one that its autopilot goes by.
    """

    job_name: str
    name: str
    history: RunHistory
    totals: Totals
    autopilot: autopilot.State
    tail: TailView
    trainer: str = "trainer"
    provenance: Mapping[str, str] = field(default_factory=dict)
    decisions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    decided_at: Mapping[str, float] = field(default_factory=dict)
    supervisor: SupervisorState | None = None
    state: str | None = None
    last_checkpoint: float | None = None
    started_at: float | None = None
    control_revision: int | None = None
    policy: Policy = field(default_factory=Policy)


_Figures = Iterator[tuple[str, tuple[str, ...], float | Buckets | None]]


def run_samples(view: RunView) -> tuple[Sample, ...]:
    """Every series of a run, MOST_SERIES at most; what is not known is absent.

    What hardly any run tells comes last, the more urgent first: where there is no more room, it is
    the rest of that which is missing.
    """
    run = (label(view.job_name), label(view.name))
    plain = (_learning(view), _counting(view), _job(view), _tailing(view.tail), _judged(view))
    rare = (_urgent(view), _decided(view), _seldom(view))
    samples, room = [], MOST_SERIES
    for name, labels, value in chain(*plain, *rare):
        if value is None:
            continue
        room -= _series_of(value)
        if room < 0:
            break
        samples.append(Sample(name, (*run, *(label(text) for text in labels)), value))
    return tuple(samples)


def _series_of(value: float | Buckets) -> int:
    """A histogram shows two bounds, its count and its sum."""
    return 4 if isinstance(value, Buckets) else 1


def label(text: str) -> str:
    """A label's value: bounded, and such as UTF-8 has."""
    # Half of a surrogate pair has no UTF-8: one in a name must not cost the whole scrape.
    return text[:_LONGEST_LABEL].encode("utf-8", "replace").decode()


_OF_RECORD = {
    "correctness_ratio": "correctness",
    "reference_correctness_ratio": "reference_correctness",
    "correct_samples": "n_correct",
    **{
        name: name
        for name in (
            "loss correct_reward_mean reward_mean reward_std grad_norm entropy kl compile_ratio "
            "tests_pass_ratio iteration"
        ).split()
    },
    "completion_length_mean": "length_mean",
}
_IN_FORCE = {
    "correctness_threshold": "correctness_threshold",
    "weight_temperature": "weight_temperature",
    "samples_per_prompt": "n_samples",
    "learning_rate": "learning_rate",
}


def _learning(view: RunView) -> _Figures:
    """The newest iteration, the newest evaluation, and what is in force."""
    newest, started = view.history.newest, view.history.started
    if newest is not None:
        for name, attribute in _OF_RECORD.items():
            yield f"maxrl_train_{name}", (), getattr(newest, attribute)
        yield from _of_groups(newest)
        yield "maxrl_train_last_iteration_timestamp_seconds", (), seconds_of(newest.at)
    target = newest.target_iterations if newest else None
    if target is None and started is not None:
        target = started.target_iterations
    yield "maxrl_train_target_iterations", (), target
    for name, attribute in _IN_FORCE.items():
        yield f"maxrl_train_{name}", (), getattr(view.history.in_force, attribute)
    if started is not None:
        yield "maxrl_train_reference_threshold", (), started.reference_threshold
    for evaluation in view.history.evaluations[-1:]:
        # The first, and the one that tells most beside it.
        for k in {min(evaluation.pass_at_k), max(evaluation.pass_at_k)}:
            ratio = evaluation.pass_at_k[k]
            yield "maxrl_train_pass_at_k", (str(k),), None if math.isnan(ratio) else ratio


def _of_groups(newest: IterationRecord) -> _Figures:
    for outcome in ("all_wrong", "all_correct", "mixed"):
        yield "maxrl_train_groups", (outcome,), getattr(newest, f"groups_{outcome}")
    if newest.effective_samples is not None and newest.effective_of:
        ratio = newest.effective_samples / newest.effective_of
        yield "maxrl_train_effective_samples_ratio", (), ratio


def _counting(view: RunView) -> _Figures:
    totals, now = view.totals, _algorithm(view)
    for algorithm in Algorithm:
        if algorithm is now or totals.iterations[algorithm.value]:
            yield "maxrl_train_iterations", (algorithm.value,), totals.iterations[algorithm.value]
    for outcome in ("correct", "incorrect"):
        yield "maxrl_train_samples", (outcome,), totals.samples[outcome]
    for phase in ("sample", "verify", "update"):
        yield "maxrl_train_phase_duration_seconds", (phase,), totals.seconds[phase]
    yield "maxrl_train_nonfinite", ("loss",), totals.nonfinite["loss"]
    yield "maxrl_train_tokens", (), totals.tokens
    durations = Buckets(tuple(totals.durations), totals.duration_sum)
    yield "maxrl_train_iteration_duration_seconds", (), durations
    for before, after in ((Algorithm.GRPO, Algorithm.MAXRL), (Algorithm.MAXRL, Algorithm.GRPO)):
        # Known from the moment on at which it may happen, and so counted from 0.
        if (changes := totals.algorithm_changes[before.value, after.value]) or before is now:
            yield "maxrl_job_algorithm_changes", (before.value, after.value), changes


def _algorithm(view: RunView) -> Algorithm | None:
    """The one in force; None where the log tells none."""
    started = view.history.started
    in_force = algorithm_of(view.history.in_force.objective)
    return in_force or (started.algorithm if started else None)


def _job(view: RunView) -> _Figures:
    if view.state is not None:
        yield "maxrl_job_state", (view.state,), 1
    if (algorithm := _algorithm(view)) is not None:
        yield "maxrl_job_algorithm", (algorithm.value,), 1
    version, host = (view.provenance.get(key, "") for key in ("maxrl_ops", "host"))
    yield "maxrl_job_info", (view.trainer, version, host), 1
    yield "maxrl_job_start_timestamp_seconds", (), view.started_at
    yield "maxrl_job_control_revision", (), view.control_revision
    yield "maxrl_job_acknowledged_revision", (), view.history.acknowledged_revision
    yield "maxrl_job_last_checkpoint_timestamp_seconds", (), view.last_checkpoint
    if view.supervisor is not None:
        yield from _supervised(view.supervisor)


def _supervised(supervisor: SupervisorState) -> _Figures:
    crashes = max(0, supervisor.restarts - supervisor.stalls)
    yield "maxrl_job_restarts", ("crash",), crashes
    if supervisor.exits:
        yield "maxrl_job_last_exit_code", (), supervisor.exits[-1].code


def _tailing(tail: TailView) -> _Figures:
    yield "maxrl_tailer_lines", (), tail.lines
    yield "maxrl_tailer_bytes", (), tail.bytes
    yield "maxrl_tailer_lag_bytes", (), tail.lag
    yield "maxrl_tailer_last_read_timestamp_seconds", (), tail.last_read


def _judged(view: RunView) -> _Figures:
    """That rules are judged at all, by one that needs no window; none is where they are off."""
    if view.autopilot.mode is not Mode.OFF:
        yield "maxrl_rule_evaluations", (JUDGED_ALWAYS,), view.autopilot.judged
        yield "maxrl_rule_firing", ("LOW",), float("LOW" in view.autopilot.firing)


# --- What hardly any run tells --------------------------------------------------------------------


def _urgent(view: RunView) -> _Figures:
    """What alerts look at."""
    state, supervisor = view.autopilot, view.supervisor
    for rule in sorted(state.firing - {"LOW"}):
        yield "maxrl_rule_firing", (rule,), 1
    for rule in sorted(state.firing):
        if state.said.get(rule) == "no remedy":
            yield "maxrl_rule_ladder_exhausted", (rule,), 1
    if supervisor is not None and supervisor.exits and "memory" in supervisor.exits[-1].reason:
        yield "maxrl_job_last_exit_out_of_memory", (), 1
    yield "maxrl_job_pending_approvals", (), len(state.suggested) or None
    for reason, count in view.tail.unparsed.items():
        yield "maxrl_tailer_unparsed_lines", (reason,), count or None


def _decided(view: RunView) -> _Figures:
    state = view.autopilot
    decided = {rule for rule, outcome in view.decisions if outcome != "held"}
    counts = {(rule, "applied"): 0 for rule in sorted(decided)}
    for (rule, outcome), count in {**counts, **view.decisions}.items():
        if outcome != "held":
            yield "maxrl_rule_decisions", (rule, outcome), count
    for rule, at in view.decided_at.items():
        yield "maxrl_rule_last_decision_timestamp_seconds", (rule,), at
    if state.taken and state.changed_at is not None:
        # Of the rule whose change all wait for.
        left = state.changed_at + view.policy.limits.cooldown - state.iteration
        rule = state.taken[-1].partition(".")[0]
        yield "maxrl_rule_cooldown_remaining_iterations", (rule,), max(0, left)
    for (rule, outcome), count in view.decisions.items():
        if outcome == "held":
            yield "maxrl_rule_decisions", (rule, outcome), count


def _seldom(view: RunView) -> _Figures:
    """Counted from its first time on."""
    totals, tail, supervisor = view.totals, view.tail, view.supervisor
    yield "maxrl_train_nonfinite", ("grad_norm",), totals.nonfinite["grad_norm"] or None
    yield "maxrl_job_restarts", ("stall",), (supervisor.stalls if supervisor else 0) or None
    yield "maxrl_train_samples", ("unscored",), totals.samples["unscored"] or None
    yield "maxrl_tailer_lost_bytes", (), tail.lost or None
    yield "maxrl_tailer_rotations", (), tail.rotations or None
    yield "maxrl_tailer_truncated_lines", (), tail.truncated or None


def seconds_of(text: str | None) -> float | None:
    """An RFC 3339 time as seconds since the epoch; None for anything else."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None
