"""Counters over a log: once for each iteration, and never down."""

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scripted import header, record

from maxrl_ops.core.totals import DURATION_BOUNDS, Totals
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    ControlApplied,
    Event,
    IterationRecord,
    RunStarted,
    UpdateSkipped,
)


def of(*events: Event) -> Totals:
    totals = Totals()
    for event in events:
        totals.append(event)
    return totals


def test_what_an_iteration_adds() -> None:
    full = replace(
        record(1, correct=26, threshold=25.0),
        unscored=2,
        tokens=400,
        duration=3.0,
        sample_time=1.5,
        verify_time=1.0,
        update_time=0.5,
    )
    totals = of(header(), full)
    assert totals.iterations == {"MaxRL": 1}
    assert totals.samples == {"correct": 26, "incorrect": 38, "unscored": 2}
    assert (totals.tokens, totals.duration_sum) == (400, 3.0)
    assert totals.seconds == {"sample": 1.5, "verify": 1.0, "update": 0.5}
    assert totals.durations == [0, 1, 0, 0, 0, 0]


def test_an_iteration_made_again_counts_once() -> None:
    first = [record(n) for n in range(1, 11)]
    again = [record(n) for n in range(6, 13)]
    totals = of(header(), *first, header(attempt=2, resumed_from=5), *again)
    assert totals.iterations == {"MaxRL": 12}


def test_figures_that_are_not_finite() -> None:
    totals = of(
        UpdateSkipped(1, "loss nan, grad norm inf"),
        replace(record(1), loss=float("nan"), grad_norm=0.5),
        UpdateSkipped(2, "the moon is wrong"),
    )
    assert totals.nonfinite == {"loss": 1, "grad_norm": 1}


def test_a_skipped_update_that_a_resume_makes_again_counts_once() -> None:
    skipped = UpdateSkipped(6, "loss nan")
    totals = of(record(5), skipped, header(attempt=2, resumed_from=5), skipped, record(6))
    assert totals.nonfinite == {"loss": 1}


def test_switches_of_the_algorithm() -> None:
    change = ControlApplied(1, 2, (Change("objective", "grpo", "maxrl"),))
    other = ControlApplied(2, 3, (Change("n_samples", "16", "8"),))
    totals = of(header(), record(1), change, record(2), other, change)
    assert totals.algorithm_changes == {("MaxRL", "GRPO"): 1}


def test_a_control_that_a_resume_replays_counts_once() -> None:
    # Killed between taking it over and the iteration's record.
    change = ControlApplied(1, 6, (Change("objective", "grpo", "maxrl"),))
    totals = of(header(), record(5), change, header(attempt=2, resumed_from=5), change, record(6))
    assert totals.algorithm_changes == {("MaxRL", "GRPO"): 1}


def test_a_new_control_within_iterations_made_again_counts() -> None:
    change = ControlApplied(1, 6, (Change("objective", "grpo", "maxrl"),))
    totals = of(header(), record(5), record(9), header(attempt=2, resumed_from=5), change)
    assert totals.algorithm_changes == {("MaxRL", "GRPO"): 1}


def test_the_algorithm_is_the_objectives_else_the_headers_else_unknown() -> None:
    bare = IterationRecord(1, objective="something else")
    assert of(bare).iterations == {}
    assert of(RunStarted(Algorithm.GRPO), bare).iterations == {"GRPO": 1}
    assert of(RunStarted(Algorithm.GRPO), record(1)).iterations == {"MaxRL": 1}


FLOATS = st.floats() | st.none()
RECORDS = st.builds(
    IterationRecord,
    iteration=st.integers(0, 20),
    n_correct=st.integers(0, 9) | st.none(),
    n_total=st.integers(0, 9) | st.none(),
    loss=FLOATS,
    duration=FLOATS,
    sample_time=FLOATS,
    tokens=st.integers(0, 99) | st.none(),
)
REASONS = st.text() | st.sampled_from(["loss nan", "grad norm inf", "loss nan, grad norm inf"])
SWITCHES = st.sampled_from(["grpo", "maxrl", "unheard of"])
CONTROLS = st.builds(
    ControlApplied,
    st.integers(0, 9),
    st.integers(0, 20),
    st.tuples(st.builds(Change, st.just("objective"), SWITCHES, SWITCHES)),
)
EVENTS = (
    RECORDS
    | CONTROLS
    | st.builds(UpdateSkipped, st.integers(0, 20), REASONS)
    | st.builds(RunStarted, st.sampled_from(Algorithm), resumed_from=st.integers(0, 20) | st.none())
)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_a_log_says_counters_never_go_down(events: list[Event]) -> None:
    totals, before = Totals(), figures(Totals())
    for event in events:
        totals.append(event)
        now = figures(totals)
        assert all(now[name] >= value for name, value in before.items())
        before = now
    assert len(totals.durations) == len(DURATION_BOUNDS) + 1


def figures(totals: Totals) -> dict[str, float]:
    counters: dict[str, Counter[Any]] = {
        "iterations": totals.iterations,
        "samples": totals.samples,
        "seconds": totals.seconds,
        "nonfinite": totals.nonfinite,
        "changes": totals.algorithm_changes,
    }
    flat = {f"{name} {key}": float(n) for name, c in counters.items() for key, n in c.items()}
    buckets = {f"bucket {i}": float(n) for i, n in enumerate(totals.durations)}
    return {**flat, **buckets, "sum": totals.duration_sum, "tokens": float(totals.tokens)}
