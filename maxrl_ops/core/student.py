"""Means of a few measurements with Student's t intervals. Pure, standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

_CONFIDENCE = 0.95
# Beyond it the bisection below would leave what a float tells apart.
_HIGHEST = 1e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over independent runs.

    Attributes:
        n: Of how many; at least 1.
        mean: Their mean.
        half: Half the width of its 95% interval; None for a single one, which tells no spread.
    """

    n: int
    mean: float
    half: float | None

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half is None else self.mean + self.half


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of finite values with its t interval; None without values.

    Source: Student, The Probable Error of a Mean, Biometrika 6 (1908).
    """
    count = len(values)
    if count < 2:
        return Estimate(1, values[0], None) if values else None
    half = t_quantile(count - 1) * stdev(values) / math.sqrt(count)
    return Estimate(count, fmean(values), half)


@lru_cache(256)
def t_quantile(freedom: int, confidence: float = _CONFIDENCE) -> float:
    """The t that a variable of `freedom` degrees stays within on both sides so surely."""
    low, high = 0.0, 1.0
    while within(high, freedom) < confidence and high < _HIGHEST:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < confidence else (low, middle)
    return high


def within(t: float, freedom: int) -> float:
    """The probability that Student's t of whole degrees of freedom lies between -t and t.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = freedom % 2 == 1
    term = total = (cosine if freedom > 1 else 0.0) if is_odd else 1.0
    for k in range(3 if is_odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    if is_odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total
