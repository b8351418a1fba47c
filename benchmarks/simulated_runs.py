"""Runs whose truth is known, under the production reducer and the guide's sentences at their word.

Two prompts of eight samples an iteration, the samples of a prompt alike (beta-binomial, correlation
.35); a trainer that obeys at the next iteration is at the other end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maxrl_ops.core.autopilot import State, reduce
from maxrl_ops.core.decision import Decision, Judged, Published
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    IterationRecord,
    RunStarted,
)

_PROMPTS, _SAMPLES, _CORRELATION = 2, 8, 0.35
_TOTAL = _PROMPTS * _SAMPLES
_LEVELS = (15.0, 20.0, 25.0, 30.0)
_REFERENCE = 20.0
# Of the wrong samples, how many lie above 15; of the correct ones, above 25; of those, above 30.
# A lower threshold is always to be had, so that nothing but the statistics keeps a rule from it.
_ABOVE = (0.15, 0.60, 0.02)
# An iteration after which the naive controller may act again.
_NAIVE_WAIT = 10
CHANGED_AT = 150

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scenario:
    """What is true of a run.

    Attributes:
        name: As the table says it.
        iterations: How many are simulated.
        correctness: Probability of a correct sample by iteration, at the reference threshold.
        target: What the log says of the run's length; None where it is silent.
        threshold: The live one at the start.
        jump: Factor of the gradient norm from iteration CHANGED_AT on.
    """

    name: str
    iterations: int
    correctness: Curve
    target: int | None = None
    threshold: float = _REFERENCE
    jump: float = 1.0


@dataclass
class Seen:
    """What became of a run.

    Attributes:
        fired: The first iteration that each rule fired at.
        decisions: What was decided.
        reversals: How often a value came back within 200 iterations.
        firings: How often UNSTABLE began to fire.
        naive: The first iteration that each naive rule fired at.
        naive_firings: How often the naive UNSTABLE did.
        naive_actions, naive_reversals: Of the naive controller.
    """

    fired: dict[str, int] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    reversals: int = 0
    firings: int = 0
    naive: dict[str, int] = field(default_factory=dict)
    naive_firings: int = 0
    naive_actions: int = 0
    naive_reversals: int = 0


# --- Draws ----------------------------------------------------------------------------------------


def flat(p: float) -> Curve:
    """The same correctness throughout."""
    return lambda t: np.full(t.shape, p)


def line(first: float, last: float, over: int) -> Curve:
    """From one to another over so many iterations, then on."""
    return lambda t: first + (last - first) * np.minimum(t / over, 1.0)


def step(before: float, after: float) -> Curve:
    """Another one from CHANGED_AT on."""
    return lambda t: np.where(t < CHANGED_AT, before, after)


def _correct(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Correct samples of each iteration."""
    alike = (1 - _CORRELATION) / _CORRELATION
    a, b = p[:, None] * alike, (1 - p[:, None]) * alike
    rates = rng.beta(a, b, (len(p), _PROMPTS))
    return rng.binomial(_SAMPLES, rates).sum(axis=1)


def _gradients(rng: np.random.Generator, count: int, jump: float) -> np.ndarray:
    """Healthy norms: falling slowly, each like the one before, with the tails of Student's t(3)."""
    noise = 0.25 * rng.standard_t(3, count)
    for place in range(1, count):
        noise[place] += 0.4 * noise[place - 1]
    iterations = np.arange(count)
    jumps = np.where(iterations >= CHANGED_AT, np.log(jump), 0.0)
    return np.exp(noise - 0.001 * iterations + jumps)


def _records(scenario: Scenario, rng: np.random.Generator) -> Iterator[tuple[dict, dict]]:
    """Each iteration's figures, but for what hangs on the live threshold; and rewards above."""
    t = np.arange(scenario.iterations)
    k = _correct(rng, scenario.correctness(t))
    above15 = k + rng.binomial(_TOTAL - k, _ABOVE[0])
    above25 = rng.binomial(k, _ABOVE[1])
    above30 = rng.binomial(above25, _ABOVE[2])
    norms = _gradients(rng, scenario.iterations, scenario.jump).tolist()
    losses = rng.random(scenario.iterations).tolist()
    rows = zip(
        k.tolist(), above15.tolist(), above25.tolist(), above30.tolist(), norms, losses, strict=True
    )
    for number, (correct, at15, at25, at30, norm, loss) in enumerate(rows, 1):
        above = {15.0: at15, 20.0: correct, 25.0: at25, 30.0: at30}
        figures = {
            "iteration": number,
            "n_total": _TOTAL,
            "reference_correct": correct,
            "reference_total": _TOTAL,
            "rewards_above": above,
            "rewards_of": _TOTAL,
            "loss": loss,
            "grad_norm": norm,
        }
        yield figures, above


def _header(scenario: Scenario) -> RunStarted:
    return RunStarted(
        Algorithm.MAXRL,
        objective="maxrl",
        target_iterations=scenario.target,
        n_samples=_SAMPLES,
        correctness_threshold=scenario.threshold,
        weight_temperature=1.0,
        learning_rate=1e-4,
        reference_threshold=_REFERENCE,
        bounds=(_LEVELS[0], _LEVELS[-1]),
        attempt=1,
    )


# --- Runs -----------------------------------------------------------------------------------------


def simulate(scenario: Scenario, seed: int, policy: Policy) -> Seen:
    """One run under the production reducer, and under the naive rules."""
    seen, naive = Seen(), _Naive(scenario.threshold)
    state, _ = reduce(State(), _header(scenario), policy)
    state, _ = reduce(state, CheckpointSaved(0, 1.0), policy)
    threshold, wish, was_unstable = scenario.threshold, None, False
    for figures, above in _records(scenario, np.random.default_rng(seed)):
        number = figures["iteration"]
        if wish is not None:
            threshold = wish.changes.get("correctness_threshold", threshold)
            state = _obey(state, wish, number, policy, seen)
            wish = None
        record = IterationRecord.of({**figures, "n_correct": above[threshold]})
        state, outputs = reduce(state, record, policy)
        for rule in state.firing:
            seen.fired.setdefault(rule, number)
        is_unstable = "UNSTABLE" in state.firing
        seen.firings += is_unstable and not was_unstable
        was_unstable = is_unstable
        for output in outputs:
            if isinstance(output, Decision):
                seen.decisions.append(output)
                wish = output if output.mode is Mode.ACT else wish
        naive.look(number, above, figures["grad_norm"], seen)
    return seen


def _obey(state: State, wish: Decision, number: int, policy: Policy, seen: Seen) -> State:
    revision = wish.base_revision + 1
    known = state.in_force.known()
    changes = tuple(
        Change(key, str(value), str(known.get(key)))
        for key, value in wish.changes.items()
        if key in known
    )
    recent = [moved for moved in state.moved if number - moved.iteration <= 200]
    seen.reversals += any(
        moved.key in wish.changes and wish.changes[moved.key] == moved.was
        for moved in recent
        if wish.rung not in {"put_back", "return"} and not moved.is_planned
    )
    state, _ = reduce(state, Published(wish.intent, revision, number - 1), policy)
    state, _ = reduce(state, ControlApplied(revision, number, changes), policy)
    return state


class _Naive:
    """The guide's sentences at their word, on one iteration, at a live threshold of its own."""

    def __init__(self, threshold: float) -> None:
        self._threshold, self._acted, self._was = threshold, -_NAIVE_WAIT, list[float]()
        self._norms, self._best, self._unstable = list[float](), 0.0, False

    def look(self, number: int, above: Mapping[float, int], norm: float, seen: Seen) -> None:
        share = above[self._threshold] / _TOTAL
        at_reference = above[_REFERENCE] / _TOTAL
        mean = sum(self._norms) / len(self._norms) if self._norms else norm
        is_unstable = len(self._norms) == 10 and norm > 2 * mean
        seen.naive_firings += is_unstable and not self._unstable
        self._unstable = is_unstable
        self._norms = [*self._norms[-9:], norm]
        self._best = max(self._best, at_reference)
        for rule, fires in (
            ("LOW", share < 0.5),
            ("HIGH", share > 0.9),
            ("UNSTABLE", is_unstable),
            ("COLLAPSE", at_reference < self._best - 0.10),
        ):
            if fires:
                seen.naive.setdefault(rule, number)
        self._act(number, share, seen)

    def _act(self, number: int, share: float, seen: Seen) -> None:
        step = -5.0 if share < 0.5 else 5.0 if share > 0.9 else 0.0
        wanted = self._threshold + step
        if not step or wanted not in _LEVELS or number < self._acted + _NAIVE_WAIT:
            return
        seen.naive_actions += 1
        seen.naive_reversals += wanted in self._was[-1:]
        self._was.append(self._threshold)
        self._threshold, self._acted = wanted, number


@dataclass(frozen=True)
class Verdicts:
    """What was said of one change in many runs: shares of harmed, helped, and put back."""

    harmed: float
    helped: float
    put_back: float
    naive: float


def judge(curve: Curve, seeds: Sequence[int], policy: Policy) -> Verdicts:
    """A rule's change at iteration CHANGED_AT, which changes what `curve` says it does."""
    scenario = Scenario("", CHANGED_AT + 60, curve)
    harmed = helped = put_back = naive = 0
    for seed in seeds:
        verdict, is_back, is_worse = _judged(scenario, seed, policy)
        harmed += verdict == "harmed"
        helped += verdict == "helped"
        put_back += is_back
        naive += is_worse
    count = len(seeds)
    return Verdicts(harmed / count, helped / count, put_back / count, naive / count)


def _judged(scenario: Scenario, seed: int, policy: Policy) -> tuple[str, bool, bool]:
    state, _ = reduce(State(), _header(scenario), policy)
    verdict, is_back, shares = "", False, list[float]()
    for figures, above in _records(scenario, np.random.default_rng(seed)):
        number = figures["iteration"]
        if number == CHANGED_AT + 1:
            state = _change(state, number, policy)
        record = IterationRecord.of({**figures, "n_correct": above[_REFERENCE]})
        state, outputs = reduce(state, record, policy)
        shares.append(above[_REFERENCE] / _TOTAL)
        for output in outputs:
            if isinstance(output, Judged):
                verdict = output.verdict
            is_back |= isinstance(output, Decision) and output.rung == "put_back"
    before, after = shares[CHANGED_AT - 40 : CHANGED_AT], shares[CHANGED_AT : CHANGED_AT + 40]
    return verdict, is_back, sum(after) < sum(before)


def _change(state: State, number: int, policy: Policy) -> State:
    decision = Decision(
        intent=f"UNSTABLE:n_samples:1.{number - 1}",
        rule="UNSTABLE",
        rung="n_samples",
        iteration=number - 1,
        time=None,
        mode=Mode.ACT,
        base_revision=state.revision,
        changes={"n_samples": 16},
        evidence={},
        because="the benchmark's",
    )
    revision = state.revision + 1
    applied = ControlApplied(revision, number, (Change("n_samples", "16", "8"),))
    for event in (decision, Published(decision.intent, revision, number - 1), applied):
        state, _ = reduce(state, event, policy, deciding=False)
    return state
