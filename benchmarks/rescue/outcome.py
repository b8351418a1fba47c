"""Who was rescued and who was harmed, from the rows that runs left behind. Pure."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, variance
from typing import Any

from benchmarks.rescue.kinds import HEALTHY, KINDS, SICK

Row = Mapping[str, Any]
RESCUED, HARMED, BETTER = 0.90, 0.95, 1.05


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        row: As it was kept.
        share: Its held-out pass@1 over that of the run that it is judged by.
        delay: Iterations from the beginning of the sickness until the first sign was noticed.
    """

    row: Row
    share: float
    delay: int | None

    @property
    def is_rescued(self) -> bool:
        """At least 90% of the healthy twin's."""
        return self.share >= RESCUED

    @property
    def is_harmed(self) -> bool:
        """A healthy run below 95% of what it reaches when nobody touches it."""
        return self.share < HARMED

    @property
    def is_better(self) -> bool:
        """A healthy run above 105% of that."""
        return self.share > BETTER

    @property
    def excess(self) -> float:
        """Samples drawn beyond the twin's, as a share of the twin's: a run is stopped late."""
        return float(self.row["samples"] / KINDS[self.row["kind"]].small.budget - 1)


class Outcomes:
    """All of them, by kind, seed and arm."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Judge what can be judged: a run whose twin is missing is not."""
        self.rows = {(r["kind"], r["seed"], r["arm"]): r for r in rows}
        self._found = {key: o for key in self.rows if (o := self._judge(*key)) is not None}

    def _judge(self, kind: str, seed: int, arm: str) -> Outcome | None:
        row = self.rows[kind, seed, arm]
        twin = self.twin(row)
        if "pass_at_1" not in row or twin is None or "pass_at_1" not in twin:
            return None
        detected = row["detected"]
        delay = None if detected is None else detected[0] - KINDS[kind].onset
        return Outcome(row, row["pass_at_1"] / twin["pass_at_1"], delay)

    def twin(self, row: Row) -> Row | None:
        """The healthy run that this one is judged by; None where it is missing."""
        return self.rows.get((KINDS[row["kind"]].twin or row["kind"], row["seed"], "observe"))

    def of(self, kinds: Iterable[str], arm: str) -> list[Outcome]:
        """Those of these kinds in one arm, in the table's order."""
        seeds = sorted({seed for _, seed, _ in self.rows})
        keys = ((kind, seed, arm) for kind in kinds for seed in seeds)
        return [self._found[key] for key in keys if key in self._found]

    def before(self) -> "Outcomes":
        """As they were before some were made again."""
        return Outcomes({**row, **row.get("before", {})} for row in self.rows.values())

    def again(self) -> list[tuple[Outcome, Outcome]]:
        """Those that were made again, as they were and as they are."""
        earlier = self.before()
        changed = [o for key, o in self._found.items() if "again" in self.rows[key]]
        pairs = ((earlier.beside(o, o.row["arm"]), o) for o in changed)
        return [(was, now) for was, now in pairs if was is not None]

    def beside(self, outcome: Outcome, arm: str) -> Outcome | None:
        """The same run of the same seed in another arm."""
        return self._found.get((outcome.row["kind"], outcome.row["seed"], arm))

    def parted(self, arm: str) -> tuple[list[Outcome], list[Outcome]]:
        """Sick runs of an arm: those that end sick under `observe`, and those that end well."""
        lost: list[Outcome] = []
        kept: list[Outcome] = []
        for outcome in self.sick(arm):
            if (alone := self.beside(outcome, "observe")) is not None:
                (kept if alone.is_rescued else lost).append(outcome)
        return lost, kept

    def skipped(self) -> Iterator[tuple[str, str]]:
        """Kinds that could not be run here, and why."""
        for row in self.rows.values():
            if "skipped" in row and row["arm"] == "act":
                yield row["kind"], row["skipped"]

    def sick(self, arm: str) -> list[Outcome]:
        """All sick runs of an arm."""
        return self.of(SICK, arm)

    def healthy(self, arm: str) -> list[Outcome]:
        """All healthy runs of an arm."""
        return self.of(HEALTHY, arm)


def share_of(flags: Sequence[bool]) -> float:
    """How many of them hold; NaN for none at all."""
    return sum(flags) / len(flags) if flags else math.nan


def median_delay(outcomes: Sequence[Outcome]) -> float | None:
    """Of those that were noticed."""
    delays = [outcome.delay for outcome in outcomes if outcome.delay is not None]
    return median(delays) if delays else None


@dataclass(frozen=True)
class Noise:
    """How far runs differ that only differ in their seed.

    Attributes:
        spread: Standard deviation of the logarithm of pass@1.
        runs: How many runs it comes from.
    """

    spread: float
    runs: int

    def chance(self, share: float) -> float:
        """How often one of two equal runs lies below `share` of the other, a given one of them."""
        if not self.spread:
            return 0.0
        return 0.5 * math.erfc(-math.log(share) / self.spread / 2)


def noise_of(rows: Iterable[Row]) -> dict[str, Noise]:
    """By task: from healthy runs that nobody touched, pooled over their kinds.

    A task without two runs of a kind is left out.
    """
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        if row["arm"] == "observe" and row["kind"] in HEALTHY:
            by_kind.setdefault(row["kind"], []).append(math.log(row["pass_at_1"]))
    found = {}
    for task in dict.fromkeys(HEALTHY[kind].task for kind in by_kind):
        of_task = [values for kind, values in by_kind.items() if HEALTHY[kind].task == task]
        if groups := [values for values in of_task if len(values) > 1]:
            found[task] = _pooled(groups)
    return found


def _pooled(groups: Sequence[Sequence[float]]) -> Noise:
    weights = [len(values) - 1 for values in groups]
    summed = sum(w * variance(values) for w, values in zip(weights, groups, strict=True))
    return Noise(math.sqrt(summed / sum(weights)), sum(map(len, groups)))
