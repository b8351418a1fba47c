"""The statistics that the rules stand on. Pure, standard library only.

Sums come in from whoever keeps them: a window that moves by one iteration is not added up anew.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

UNIT = 1 << 32
"""Shares are kept as whole multiples of 1 / UNIT: their sums are exact in any order."""
_SQUARE = UNIT * UNIT


class Interval(NamedTuple):
    """A confidence interval; both ends belong to it."""

    lower: float
    upper: float


def wilson(p: float, n: float, z: float) -> Interval:
    """Score interval of a proportion `p` (0 to 1) seen on `n` trials, `n` > 0, not always whole.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22
    (1927); with an effective count for `n` as in Kish, Survey Sampling (1965), section 8.2.
    """
    return Interval(*score_interval(p, n, z))


def score_interval(p: float, n: float, z: float) -> tuple[float, float]:
    """`wilson` as a plain pair, for where every microsecond is paid a million times."""
    squared = z * z / n
    variance = (p * (1 - p) + squared / 4) / n
    # p (1 - p) may round to just below 0 at the ends.
    half = z * math.sqrt(variance) if variance > 0 else 0.0
    centre, scale = p + squared / 2, 1 + squared
    lower, upper = (centre - half) / scale, (centre + half) / scale
    return (lower if lower > 0 else 0.0), (upper if upper < 1 else 1.0)


class Proportion(NamedTuple):
    """A share seen on so many independent trials."""

    p: float
    n: float


def newcombe(before: Proportion, after: Proportion, z: float) -> Interval:
    """Hybrid score interval of the difference `after.p - before.p` of independent proportions.

    Source: Newcombe, Interval estimation for the difference between independent proportions,
    Statistics in Medicine 17 (1998), method 10.
    """
    (p1, n1), (p2, n2) = before, after
    l1, u1 = wilson(p1, n1, z)
    l2, u2 = wilson(p2, n2, z)
    difference = p2 - p1
    return Interval(
        difference - math.hypot(p2 - l2, u1 - p1), difference + math.hypot(u2 - p2, p1 - l1)
    )


class Counts(NamedTuple):
    """Sums over iterations of successes k_t among trials n_t, with s_t = round(UNIT k_t / n_t).

    Attributes:
        rows: How many iterations.
        k, n: Sums of k_t and n_t.
        s, ss: Sums of s_t and s_t squared.
    """

    rows: int
    k: int
    n: int
    s: int
    ss: int


@lru_cache(4096)
def share_of(k: int, n: int) -> tuple[int, int]:
    """K / n in UNIT, rounded, and its square: a run has few different ones."""
    share = (2 * k * UNIT + n) // (2 * n)
    return share, share * share


def counted(pairs: Iterable[tuple[int, int]]) -> Counts:
    """The sums over (successes, trials), trials > 0."""
    rows = [(k, n, *share_of(k, n)) for k, n in pairs]
    k, n, s, ss = map(sum, zip(*rows, strict=True)) if rows else (0, 0, 0, 0)
    return Counts(len(rows), k, n, s, ss)


def design_effect(counts: Counts) -> float:
    """How many times larger the variance of a pooled proportion is than independent trials'.

    Samples of one prompt are alike, so that 128 samples tell less than 128 independent ones would.
    Never below 1; 1 where nothing varies, or fewer than two iterations are given.
    """
    return design_effect_of(*counts)


def design_effect_of(rows: int, k: int, n: int, s: int, ss: int) -> float:
    """`design_effect` of plain sums."""
    if rows < 2 or not 0 < k < n:
        return 1.0
    p = k / n
    # Exact until the division: the two terms are nearly alike.
    variance = (rows * ss - s * s) / (rows * (rows - 1)) / _SQUARE
    effect = variance * (n / rows) / (p * (1 - p))
    return effect if effect > 1.0 else 1.0


class Slope(NamedTuple):
    """A least-squares slope and its standard error, per step of x."""

    value: float
    error: float

    def is_rising(self, errors: float) -> bool:
        """Positive by more than so many standard errors."""
        return self.value > errors * self.error

    def is_falling(self, errors: float) -> bool:
        """Negative by more than so many standard errors."""
        return self.value < -errors * self.error


class Line(NamedTuple):
    """Sums over points: of x, x x, x y, y and y y, with y in UNIT; all whole."""

    rows: int
    x: int
    xx: int
    xy: int
    y: int
    yy: int


def slope(line: Line) -> Slope | None:
    """Fit y over x; None for fewer than three points, or when all x are the same."""
    rows, x, xx, xy, y, yy = line
    spread = rows * xx - x * x
    if rows < 3 or spread == 0:
        return None
    joint, total = rows * xy - x * y, rows * yy - y * y
    value = joint / spread
    # What is left of y's spread, exact until the division; never below 0 but by rounding.
    residual = max(0.0, (total * spread - joint * joint) / spread) / rows
    error = math.sqrt(residual / (rows - 2) / (spread / rows))
    return Slope(value / UNIT, error / UNIT)


def median(ordered: Sequence[float]) -> float:
    """Of values in order, at least one."""
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


# The standard deviation of a normal distribution in units of its median absolute deviation.
_NORMAL_MAD = 1.4826


def robust_z(value: float, ordered: Sequence[float], least_scale: float) -> float:
    """How far a value lies from the median of others, in robust standard deviations.

    Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993); the scale is
    1.4826 MAD, and never below `least_scale`.
    """
    centre = median(ordered)
    scale = _NORMAL_MAD * _median_deviation(ordered, centre)
    return (value - centre) / (scale if scale > least_scale else least_scale)


def _median_deviation(ordered: Sequence[float], centre: float) -> float:
    """The median distance from `centre`: half of all lie nearer, and those stand side by side.

    Where they begin is found by halving, which sorts nothing.
    """
    count = len(ordered)
    half = (count + 1) // 2
    low, high = 0, count - half
    while low < high:
        middle = (low + high) // 2
        if centre - ordered[middle] > ordered[middle + half] - centre:
            low = middle + 1
        else:
            high = middle
    farthest = max(centre - ordered[low], ordered[low + half - 1] - centre)
    if count % 2:
        return farthest
    below = centre - ordered[low - 1] if low else math.inf
    above = ordered[low + half] - centre if low + half < count else math.inf
    return (farthest + min(below, above)) / 2
