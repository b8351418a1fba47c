"""The statistics that the rules stand on. Pure, standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; both ends belong to it."""

    lower: float
    upper: float


def wilson(p: float, n: float, z: float) -> Interval:
    """Score interval of a proportion `p` (0 to 1) seen on `n` trials, `n` > 0, not always whole.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22
    (1927); with an effective count for `n` as in Kish, Survey Sampling (1965), section 8.2.
    """
    squared = z * z
    centre = p + squared / (2 * n)
    # p (1 - p) may round to just below 0 at the ends.
    half = z * math.sqrt(max(0.0, p * (1 - p)) / n + squared / (4 * n * n))
    scale = 1 + squared / n
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def design_effect(counts: Sequence[tuple[int, int]]) -> float:
    """How many times larger the variance of a pooled proportion is than independent trials'.

    Args:
        counts: (successes, trials) of each iteration, trials > 0.

    Samples of one prompt are alike, so that 128 samples tell less than 128 independent ones would.
    Never below 1; 1 where nothing varies, or fewer than two iterations are given.
    """
    if len(counts) < 2:
        return 1.0
    successes = sum(k for k, _ in counts)
    trials = sum(n for _, n in counts)
    p = successes / trials
    binomial = p * (1 - p)
    if binomial == 0:
        return 1.0
    shares = [k / n for k, n in counts]
    mean = math.fsum(shares) / len(shares)
    variance = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return max(1.0, variance * (trials / len(counts)) / binomial)


@dataclass(frozen=True, slots=True)
class Slope:
    """A least-squares slope and its standard error, per step of x."""

    value: float
    error: float

    def is_rising(self, errors: float) -> bool:
        """Positive by more than so many standard errors."""
        return self.value > errors * self.error


def slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Fit y over x; None for fewer than three points, or when all x are the same."""
    count = len(points)
    if count < 3:
        return None
    mean_x = math.fsum(x for x, _ in points) / count
    mean_y = math.fsum(y for _, y in points) / count
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None
    value = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residual = math.fsum((y - mean_y - value * (x - mean_x)) ** 2 for x, y in points)
    return Slope(value, math.sqrt(residual / (count - 2) / spread))
