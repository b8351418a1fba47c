"""Whatever a run does: what the autopilot never does, and what a restart never changes.

`make torture` looks at twenty times as many runs.
"""

import os
import random
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import header, record
from test_autopilot import decisions

from benchmarks.autopilot import figures
from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Decision, Declined, ForeignControl, Input, Output, Published
from maxrl_ops.core.policy import POLICIES, Mode, Policy
from maxrl_ops.core.state import Moved
from maxrl_ops.wire.record import (
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    IterationRecord,
)

STARTED = replace(
    header(iterations=5000),
    correctness_threshold=20.0,
    learning_rate=1e-4,
    reference_threshold=20.0,
)
_SHARE = int(os.environ.get("TORTURE_RUNS", "1"))
_SIMULATED = 50


@dataclass(frozen=True)
class Limits:
    """What stood against a change just before an iteration."""

    in_flight: int
    blocked_until: int
    frozen: frozenset[str]
    taken: tuple[str, ...]
    decided: int
    changed_at: int | None
    revision: int
    revision_since: int
    moved: tuple[Moved, ...]

    @classmethod
    def of(cls, state: autopilot.State) -> Self:
        return cls(
            len(state.in_flight),
            state.blocked_until,
            frozenset(state.frozen),
            tuple(state.taken),
            state.decided,
            state.changed_at,
            state.revision,
            state.revision_since,
            tuple(state.moved),
        )


class World:
    """A run that does what a seed says, and a trainer that obeys, rejects or is silent."""

    def __init__(self, seed: int, mode: Mode, policy: Policy) -> None:
        self.rng, self.policy = random.Random(seed), policy
        self.state = autopilot.State(mode=mode)
        self.stored: list[Input] = []
        self.made: list[tuple[Decision, Limits]] = []
        self.wish: Decision | None = None
        self.attempt = 1
        self.take(STARTED)

    def take(self, event: Input) -> None:
        before = Limits.of(self.state)
        self.state, outputs = autopilot.reduce(self.state, event, self.policy)
        self.stored += [event, *decisions(outputs)]
        for decision in decisions(outputs):
            self.made.append((decision, before))
            self.wish = decision

    def live(self, iterations: int) -> None:
        p, norm = self.rng.random(), 1.0
        for _ in range(iterations):
            p = min(1.0, max(0.0, p + self.rng.gauss(0, 0.01)))
            if self.rng.random() < 0.01:
                p = self.rng.random()
                norm = self.rng.choice([1.0, 30.0])
            self.happen()
            self.iterate(p, norm)

    def happen(self) -> None:
        at, chance = self.state.iteration, self.rng.random()
        if self.wish is not None:
            self.answer(self.wish, at)
        elif chance < 0.005:
            revision = self.state.revision + 1
            self.take(ForeignControl(revision, "uid:7", at))
            n = self.rng.choice([4, 8, 16])
            was = str(self.state.in_force.n_samples)
            self.take(ControlApplied(revision, at + 1, (Change("n_samples", str(n), was),)))
        elif chance < 0.02:
            self.take(Evaluated(at, 0.5, {1: self.rng.random()}, 0.02))
            self.take(CheckpointSaved(at, 0.1))
        elif chance < 0.022 and at > 20:
            self.attempt += 1
            self.take(replace(STARTED, attempt=self.attempt, resumed_from=at - 15))

    def answer(self, wish: Decision, at: int) -> None:
        """A suggestion is approved or declined, a control applied, rejected or ignored."""
        self.wish = None
        assert wish.mode is not Mode.OFF
        if wish.mode is Mode.OBSERVE:
            return
        if wish.mode is Mode.SUGGEST and self.rng.random() < 0.3:
            self.take(Declined(wish.intent, at))
            return
        revision = self.state.revision + 1
        self.take(Published(wish.intent, revision, at))
        if self.rng.random() < 0.2:
            self.take(ControlRejected(revision, "no"))
            return
        if "restart_from" in wish.changes:
            self.attempt += 1
            resumed = int(wish.changes["restart_from"])
            self.take(replace(STARTED, attempt=self.attempt, resumed_from=resumed))
        known = self.state.in_force.known()
        changes = (Change(k, str(v), str(known.get(k))) for k, v in wish.changes.items())
        self.take(ControlApplied(revision, self.state.iteration + 1, tuple(changes)))

    def iterate(self, p: float, norm: float) -> None:
        at, threshold = self.state.iteration + 1, self.state.in_force.correctness_threshold or 20.0
        correct = sum(self.rng.random() < p for _ in range(64))
        counts = {
            15.0: min(64, correct + 9),
            20.0: correct,
            25.0: correct * 2 // 3,
            30.0: correct // 9,
        }
        figures: dict[str, Any] = {
            "n_correct": counts[threshold],
            "rewards_above": counts,
            "loss": self.rng.random() if self.rng.random() > 0.02 else float("nan"),
            "grad_norm": norm * self.rng.lognormvariate(0, 0.3),
            "effective_samples": 3.0,
            "effective_half": 2.0 + self.rng.random() * 4,
            "effective_double": 4.0,
            "effective_of": 6.0,
        }
        self.take(replace(record(at, correct, iterations=5000), **figures))


WORLDS = st.builds(
    World,
    st.integers(0, 2**32),
    st.sampled_from(list(Mode)),
    st.sampled_from(list(POLICIES.values())),
)
FREE = {"put_back", "return"}


@settings(deadline=None, max_examples=40 * _SHARE)
@given(WORLDS, st.integers(50, 700))
def test_what_the_autopilot_never_does(world: World, iterations: int) -> None:
    world.live(iterations)
    limits, bounds = world.policy.limits, world.policy.bounds
    for decision, before in world.made:
        at = decision.iteration
        assert not before.in_flight
        assert at > before.blocked_until
        assert decision.rule not in before.frozen or decision.rung in FREE
        values = decision.changes
        assert 15 <= values.get("correctness_threshold", 20.0) <= 30  # type: ignore[operator]
        assert bounds.n_samples_least <= values.get("n_samples", 8) <= bounds.n_samples_most  # type: ignore[operator]
        temperature = values.get("weight_temperature", 1.0)
        least, most = bounds.weight_temperature_least, bounds.weight_temperature_most
        assert least <= temperature <= most  # type: ignore[operator]
        if decision.rung in FREE:
            continue
        assert f"{decision.rule}.{decision.rung}" not in before.taken
        assert before.decided < limits.most_changes or decision.mode is not Mode.ACT
        assert before.changed_at is None or at >= before.changed_at + limits.cooldown
        assert not before.revision or at >= before.revision_since + limits.settle
        for moved in before.moved:
            is_back = moved.key in values and values[moved.key] == moved.was
            assert not is_back or moved.is_planned or at - moved.iteration >= limits.oscillation
    acted = [d for d, _ in world.made if d.mode is Mode.ACT and d.rung not in FREE]
    assert world.state.mode is Mode.ACT or not acted
    assert len({d.intent for d, _ in world.made}) == len(world.made)


@settings(deadline=None, max_examples=25 * _SHARE)
@given(WORLDS, st.integers(50, 400))
def test_who_folds_what_was_stored_stands_where_the_live_one_stands(
    world: World, iterations: int
) -> None:
    world.live(iterations)
    again = autopilot.State(mode=world.state.mode)
    for event in world.stored:
        again, _ = autopilot.reduce(again, event, world.policy, deciding=False)
    assert again == world.state
    # And both go on alike.
    more = [
        record(n, 20, iterations=5000) for n in range(again.iteration + 1, again.iteration + 60)
    ]
    assert after(again, more, world.policy) == after(world.state, more, world.policy)


def after(state: autopilot.State, more: list[IterationRecord], policy: Policy) -> list[Output]:
    state, said = deepcopy(state), list[Output]()
    for event in more:
        state, outputs = autopilot.reduce(state, event, policy)
        said += outputs
    return said


@pytest.mark.parametrize("part", ["stationary", "moving", "healthy", "rescued", "judged"])
def test_a_share_of_the_simulation_is_within_its_bars(part: str) -> None:
    """`make bench` simulates forty times as many runs; these have fixed seeds."""
    rows = list(figures(_SIMULATED, [part], Policy()))
    assert rows
    assert [row for row in rows if row.holds is False] == []
