"""What the runs of the study amount to: chosen rates, medians, ratios and tests. Pure.

A level that a run did not reach is no missing value: it would have taken longer than the run had.
So costs are told as medians, in which such a run counts as the longest, whatever it would have
needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from random import Random
from statistics import fmean
from typing import Any

MEASURES: Mapping[str, str] = {
    "samples": "samples",
    "iteration": "iterations",
    "cpu": "CPU seconds",
}

Row = Mapping[str, Any]


def cost(row: Row, level: float, measure: str) -> float:
    """What it took until held-out pass@1 had `level` at two evaluations in a row; inf: never."""
    before = False
    for each in row["evaluations"]:
        now = each["pass_at"]["1"] >= level
        if now and before:
            return float(each[measure])
        before = now
    return math.inf


def budget(row: Row, measure: str) -> float:
    """What the whole run took."""
    return float(row["evaluations"][-1][measure])


def rank_of(row: Row) -> tuple[float, ...]:
    """How good a run is, to choose learning rates by; the less the better.

    By the samples to 90%; where it was not reached, by the level that two evaluations in a row had.
    """
    held = [each["pass_at"]["1"] for each in row["evaluations"]]
    level = max(map(min, pairwise(held)))
    return cost(row, 0.9, "samples"), -level, -fmean(held)


def chosen(rows: Sequence[Row]) -> dict[str, float]:
    """The best learning rate by `task/arm`, of runs on development seeds.

    With more seeds than one, that whose worst run is best.
    """
    found: dict[str, float] = {}
    for key in sorted({f"{row['task']}/{row['arm']}" for row in rows}):
        mine = [row for row in rows if f"{row['task']}/{row['arm']}" == key]
        worst = {
            rate: max(rank_of(row) for row in mine if row["rate"] == rate)
            for rate in sorted({row["rate"] for row in mine})
        }
        found[key] = min(worst, key=lambda rate: worst[rate])
    return found


@dataclass(frozen=True, slots=True)
class Median:
    """Of costs, where those that were never paid count as the highest; inf where it is one.

    Attributes:
        low, high: Of n values the least and the greatest: an interval that has the median of
            what they are drawn from with probability `confidence`, whatever its distribution.
    """

    value: float
    low: float
    high: float
    reached: int
    n: int

    @property
    def confidence(self) -> float:
        """1 - 2 / 2^n: all would have to lie on one side of it."""
        return 1 - 2.0 ** (1 - self.n)


def median(values: Sequence[float]) -> Median:
    """The lower median of at least one value."""
    ordered = sorted(values)
    reached = sum(math.isfinite(value) for value in ordered)
    return Median(ordered[(len(ordered) - 1) // 2], ordered[0], ordered[-1], reached, len(ordered))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two medians, the first arm's over the second's, with a bootstrap interval.

    Attributes:
        low: 0 where nothing is known: the second arm did not get there in too many resamples.
        high: Infinite where nothing is known: likewise the first arm.
        is_least: The first arm's is not known but above what its runs had: it is at least this.
        is_most: Likewise the second's.
    """

    value: float
    low: float
    high: float
    is_least: bool
    is_most: bool


def ratio(
    base: Sequence[float], base_budget: float, mine: Sequence[float], mine_budget: float
) -> Ratio:
    """How many times what `mine` took `base` took, over seeds.

    A median that was not reached is more than the budget, and no more is known of it: of the base
    it makes the ratio at least so much, of `mine` at most. Both ends of the interval heed that.
    """
    rng = Random(0)
    least, most = [], []
    for _ in range(2000):
        theirs = median(rng.choices(base, k=len(base))).value
        ours = median(rng.choices(mine, k=len(mine))).value
        least.append(min(theirs, base_budget) / ours)
        most.append(theirs / min(ours, mine_budget))
    theirs, ours = median(base).value, median(mine).value
    return Ratio(
        min(theirs, base_budget) / min(ours, mine_budget),
        sorted(least)[49],
        sorted(most)[-50],
        math.isinf(theirs),
        math.isinf(ours),
    )


def earlier(mine: Sequence[float], others: Sequence[float]) -> float:
    """Probability that `mine` would be earlier than `others` by so much if there was no difference.

    The exact one-sided permutation test of the rank sum, ties halved: Mann and Whitney 1947. Two
    that were never are a tie.
    """
    pooled = [*mine, *others]
    score = [sum((other < value) + 0.5 * (other == value) for other in pooled) for value in pooled]
    seen = sum(score[: len(mine)])
    sums = [sum(chosen) for chosen in combinations(score, len(mine))]
    return sum(each <= seen + 1e-9 for each in sums) / len(sums)
