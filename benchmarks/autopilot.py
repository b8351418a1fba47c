"""`python -m benchmarks.autopilot`: what the rules do to runs whose truth is known.

Thousands of runs are simulated and judged by the production reducer, a trainer that obeys at the
next iteration at the other end. Two prompts of eight samples an iteration, the samples of a prompt
alike (beta-binomial, correlation .35). Beside each figure stands the naive rule's: the guide's
sentence taken at its word, one iteration at a time, at the live threshold.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import machine
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

_RESULTS = Path(__file__).parent / "results"
_PROMPTS, _SAMPLES, _CORRELATION = 2, 8, 0.35
_TOTAL = _PROMPTS * _SAMPLES
_LEVELS = (15.0, 20.0, 25.0, 30.0)
_REFERENCE = 20.0
# Of the wrong samples, how many lie above 15; of the correct ones, above 25; of those, above 30.
# A lower threshold is always to be had, so that nothing but the statistics keeps a rule from it.
_ABOVE = (0.15, 0.60, 0.02)
# An iteration after which the naive controller may act again.
_NAIVE_WAIT = 10
_CHANGED_AT = 150

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
        jump: Factor of the gradient norm from iteration _CHANGED_AT on.
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


def _flat(p: float) -> Curve:
    return lambda t: np.full(t.shape, p)


def _line(first: float, last: float, over: int) -> Curve:
    return lambda t: first + (last - first) * np.minimum(t / over, 1.0)


def _step(before: float, after: float) -> Curve:
    return lambda t: np.where(t < _CHANGED_AT, before, after)


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
    jumps = np.where(iterations >= _CHANGED_AT, np.log(jump), 0.0)
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
    """A rule's change at iteration _CHANGED_AT, which changes what `curve` says it does."""
    scenario = Scenario("", _CHANGED_AT + 60, curve)
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
        if number == _CHANGED_AT + 1:
            state = _change(state, number, policy)
        record = IterationRecord.of({**figures, "n_correct": above[_REFERENCE]})
        state, outputs = reduce(state, record, policy)
        shares.append(above[_REFERENCE] / _TOTAL)
        for output in outputs:
            if isinstance(output, Judged):
                verdict = output.verdict
            is_back |= isinstance(output, Decision) and output.rung == "put_back"
    before, after = shares[_CHANGED_AT - 40 : _CHANGED_AT], shares[_CHANGED_AT : _CHANGED_AT + 40]
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


# --- Figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A row of the table: what was asked, what was seen, and whether that is within the bar."""

    run: str
    what: str
    bar: str
    ours: str
    naive: str
    holds: bool | None = None


def _share(seen: Sequence[Seen], rule: str, within: int) -> tuple[float, float]:
    """Runs in which the rule fired by then: ours and the naive one."""
    ours = sum(run.fired.get(rule, within + 1) <= within for run in seen)
    naive = sum(run.naive.get(rule, within + 1) <= within for run in seen)
    return ours / len(seen), naive / len(seen)


def _at_most(run: str, what: str, bar: float, shares: tuple[float, float]) -> Figure:
    return Figure(
        run, what, f"<= {bar:.1%}", f"{shares[0]:.2%}", f"{shares[1]:.1%}", shares[0] <= bar
    )


def _delay(seen: Sequence[Seen], rule: str, begin: int) -> tuple[str, str, float]:
    """Median iterations from `begin` to the first firing behind it, and how many ever fired."""
    texts, middle = [], float("inf")
    for fired in ([run.fired for run in seen], [run.naive for run in seen]):
        found = [each[rule] - begin for each in fired if each.get(rule, 0) > begin]
        early = sum(each.get(rule, begin + 1) <= begin for each in fired)
        text = f"{median(found):.0f} ({len(found) / len(seen):.1%} of runs)" if found else "never"
        if early:
            text += f", {early / len(seen):.1%} too early"
        if not texts and found:
            middle = median(found) if len(found) > len(seen) / 2 else float("inf")
        texts.append(text)
    return texts[0], texts[1], middle


def _actions(run: str, seen: Sequence[Seen]) -> Figure:
    ours = sum(len(each.decisions) for each in seen) / len(seen)
    reversals = sum(each.reversals for each in seen)
    naive = sum(each.naive_actions for each in seen) / len(seen)
    theirs = sum(each.naive_reversals for each in seen) / len(seen)
    return Figure(
        run,
        "changes a run, reversals in all runs",
        "0 reversals",
        f"{ours:.2f}, {reversals}",
        f"{naive:.1f}, {theirs:.1f} a run",
        reversals == 0,
    )


def _left_alone(run: str, seen: Sequence[Seen], bar: float) -> Figure:
    ours = sum(not each.decisions for each in seen) / len(seen)
    naive = sum(not each.naive_actions for each in seen) / len(seen)
    return Figure(
        run, "runs left alone", f">= {bar:.0%}", f"{ours:.2%}", f"{naive:.1%}", ours >= bar
    )


Runs = Callable[[Scenario], list[Seen]]


def stationary(runs: Runs) -> Iterator[Figure]:
    """Runs in which nothing ever changes."""
    for p in (0.30, 0.45, 0.55, 0.60, 0.87, 0.95):
        seen = runs(Scenario(f"stationary {p:.2f}", 600, _flat(p)))
        name = f"stationary {p:.2f}"
        if p == 0.30:
            ours, naive, middle = _delay(seen, "LOW", 0)
            yield Figure(name, "LOW fires after, median", "<= 36", ours, naive, middle <= 36)
        if p == 0.45:
            ours, naive, _ = _delay(seen, "LOW", 0)
            yield Figure(name, "LOW fires after, median", "", ours, naive)
        if p == 0.55:
            yield _at_most(name, "LOW within 200", 0.01, _share(seen, "LOW", 200))
        if p == 0.60:
            yield _at_most(name, "LOW within 200", 0.002, _share(seen, "LOW", 200))
        if p == 0.87:
            yield _at_most(name, "HIGH within 200", 0.01, _share(seen, "HIGH", 200))
        if p == 0.95:
            ours, naive, _ = _delay(seen, "HIGH", 0)
            yield Figure(name, "HIGH fires after, median", "", ours, naive)
        if 0.45 <= p <= 0.87:
            yield _at_most(name, "COLLAPSE within 200", 0.01, _share(seen, "COLLAPSE", 200))
        yield _actions(name, seen)


def moving(runs: Runs) -> Iterator[Figure]:
    """Runs that get worse."""
    name = "drifting .80 -> .30 over 300"
    seen = runs(Scenario(name, 500, _line(0.80, 0.30, 300)))
    ours, naive, _ = _delay(seen, "COLLAPSE", 0)
    yield Figure(name, "COLLAPSE fires after, median", "", ours, naive)
    yield _actions(name, seen)
    name = f"collapsing .70 -> .10 at {_CHANGED_AT}"
    seen = runs(Scenario(name, 300, _step(0.70, 0.10)))
    ours, naive, _ = _delay(seen, "COLLAPSE", _CHANGED_AT)
    yield Figure(name, "COLLAPSE fires after, median", "", ours, naive)
    name = f"gradient x 10 from {_CHANGED_AT} on"
    seen = runs(Scenario(name, 250, _flat(0.6), jump=10.0))
    ours, naive, _ = _delay(seen, "UNSTABLE", _CHANGED_AT)
    yield Figure(name, "UNSTABLE fires after, median", "", ours, naive)


def healthy(runs: Runs) -> Iterator[Figure]:
    """Runs that need nobody."""
    name = "healthy gradients, heavy tails"
    seen = runs(Scenario(name, 1000, _flat(0.7)))
    rates = [sum(getattr(each, of) for each in seen) / len(seen) for of in _FIRINGS]
    ours, naive = (f"{rate:.2f}" for rate in rates)
    yield Figure(name, "UNSTABLE in 1,000 iterations", "<= 2", ours, naive, rates[0] <= 2)
    name = "quickstart: 40 iterations, .35 -> .85"
    seen = runs(Scenario(name, 40, _line(0.35, 0.85, 40), target=40))
    yield _left_alone(name, seen, 0.98)
    name = "400 iterations, .20 -> .80"
    seen = runs(Scenario(name, 400, _line(0.20, 0.80, 400), target=400))
    yield _left_alone(name, seen, 0.98)


_FIRINGS = ("firings", "naive_firings")


def rescued(runs: Runs) -> Iterator[Figure]:
    """Runs whose threshold lies above what the model reaches."""
    name = "threshold 30, .45 at 20"
    seen = runs(Scenario(name, 400, _flat(0.45), target=1000, threshold=30.0))
    found = [
        each.decisions[0].iteration
        for each in seen
        if each.decisions and "correctness_threshold" in each.decisions[0].changes
    ]
    ours = f"{median(found):.0f} ({len(found) / len(seen):.1%} of runs)" if found else "never"
    yield Figure(name, "threshold lowered after, median", "", ours, "1")
    yield _actions(name, seen)


def judged(seeds: Sequence[int], policy: Policy) -> Iterator[Figure]:
    """What is said of changes."""
    nulls = {
        "no effect, flat .60": _flat(0.60),
        "no effect, flat .30": _flat(0.30),
        "no effect, .30 -> .70 over 250": _line(0.30, 0.70, 250),
        "no effect, .70 -> .50 over 210": _line(0.70, 0.50, 210),
    }
    for name, curve in nulls.items():
        told = judge(curve, seeds, policy)
        falls = name.startswith("no effect, .70")
        yield Figure(
            name,
            "called harmed",
            "" if falls else "<= 4%",
            f"{told.harmed:.2%}",
            f"{told.naive:.1%}",
            None if falls else told.harmed <= 0.04,
        )
    told = judge(_step(0.60, 0.40), seeds, policy)
    yield Figure(
        "harm of .20, flat .60",
        "put back",
        ">= 90%",
        f"{told.put_back:.1%}",
        f"{told.naive:.1%}",
        told.put_back >= 0.90,
    )
    told = judge(_step(0.40, 0.60), seeds, policy)
    yield Figure("gain of .20, flat .40", "called helped", "", f"{told.helped:.1%}", "")


_PARTS: Mapping[str, Callable[[Runs], Iterator[Figure]]] = {
    "stationary": stationary,
    "moving": moving,
    "healthy": healthy,
    "rescued": rescued,
}


def figures(count: int, parts: Sequence[str], policy: Policy) -> Iterator[Figure]:
    """All of the table, from `count` runs each."""

    def runs(scenario: Scenario) -> list[Seen]:
        return [simulate(scenario, seed, policy) for seed in range(count)]

    for name, part in _PARTS.items():
        if name in parts:
            yield from part(runs)
    if "judged" in parts:
        yield from judged(range(count), policy)


def main() -> None:
    """Simulate, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="100 runs each, nothing kept")
    names = [*_PARTS, "judged"]
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    given = parser.parse_args()
    count = 100 if given.quick else given.runs
    begun = time.process_time()
    rows = []
    for figure in figures(count, given.only, Policy()):
        marks = {True: "yes", False: "**no**", None: ""}
        cells = (figure.run, figure.what, figure.bar, figure.ours, figure.naive)
        rows.append(f"| {' | '.join(cells)} | {marks[figure.holds]} |")
        sys.stdout.write(rows[-1] + "\n")
        sys.stdout.flush()
    spent = time.process_time() - begun
    text = "\n".join(
        [
            "# The rules on simulated runs",
            "",
            f"{machine.describe()}; {count} runs each, {spent:.0f} CPU seconds",
            "",
            "| run | what | bar | ours | naive rule | within the bar |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    if not given.quick and given.only == names:
        _RESULTS.mkdir(exist_ok=True)
        (_RESULTS / "autopilot.md").write_text(text)


if __name__ == "__main__":
    main()
