"""`python -m benchmarks.autopilot`: what the rules do to runs whose truth is known.

Thousands of runs are simulated and judged by the production reducer (benchmarks/simulated_runs.py).
Beside each figure stands the naive rule's: the guide's sentence taken at its word, one iteration at
a time, at the live threshold.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.simulated_runs import CHANGED_AT, Scenario, Seen, flat, judge, line, simulate, step
from maxrl_ops.core.policy import Policy

_RESULTS = Path(__file__).parent / "results"


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
        seen = runs(Scenario(f"stationary {p:.2f}", 600, flat(p)))
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
    seen = runs(Scenario(name, 500, line(0.80, 0.30, 300)))
    ours, naive, _ = _delay(seen, "COLLAPSE", 0)
    yield Figure(name, "COLLAPSE fires after, median", "", ours, naive)
    yield _actions(name, seen)
    name = f"collapsing .70 -> .10 at {CHANGED_AT}"
    seen = runs(Scenario(name, 300, step(0.70, 0.10)))
    ours, naive, _ = _delay(seen, "COLLAPSE", CHANGED_AT)
    yield Figure(name, "COLLAPSE fires after, median", "", ours, naive)
    name = f"gradient x 10 from {CHANGED_AT} on"
    seen = runs(Scenario(name, 250, flat(0.6), jump=10.0))
    ours, naive, _ = _delay(seen, "UNSTABLE", CHANGED_AT)
    yield Figure(name, "UNSTABLE fires after, median", "", ours, naive)


def healthy(runs: Runs) -> Iterator[Figure]:
    """Runs that need nobody."""
    name = "healthy gradients, heavy tails"
    seen = runs(Scenario(name, 1000, flat(0.7)))
    rates = [sum(getattr(each, of) for each in seen) / len(seen) for of in _FIRINGS]
    ours, naive = (f"{rate:.2f}" for rate in rates)
    yield Figure(name, "UNSTABLE in 1,000 iterations", "<= 2", ours, naive, rates[0] <= 2)
    name = "quickstart: 40 iterations, .35 -> .85"
    seen = runs(Scenario(name, 40, line(0.35, 0.85, 40), target=40))
    yield _left_alone(name, seen, 0.98)
    name = "400 iterations, .20 -> .80"
    seen = runs(Scenario(name, 400, line(0.20, 0.80, 400), target=400))
    yield _left_alone(name, seen, 0.98)


_FIRINGS = ("firings", "naive_firings")


def rescued(runs: Runs) -> Iterator[Figure]:
    """Runs whose threshold lies above what the model reaches."""
    name = "threshold 30, .45 at 20"
    seen = runs(Scenario(name, 400, flat(0.45), target=1000, threshold=30.0))
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
        "no effect, flat .60": flat(0.60),
        "no effect, flat .30": flat(0.30),
        "no effect, .30 -> .70 over 250": line(0.30, 0.70, 250),
        "no effect, .70 -> .50 over 210": line(0.70, 0.50, 210),
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
    told = judge(step(0.60, 0.40), seeds, policy)
    yield Figure(
        "harm of .20, flat .60",
        "put back",
        ">= 90%",
        f"{told.put_back:.1%}",
        f"{told.naive:.1%}",
        told.put_back >= 0.90,
    )
    told = judge(step(0.40, 0.60), seeds, policy)
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
