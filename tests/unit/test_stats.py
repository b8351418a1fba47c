"""The statistics, against their definitions."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.core.stats import design_effect, slope, wilson

SHARES = st.floats(0, 1)
COUNTS = st.lists(st.tuples(st.integers(0, 8), st.integers(8, 16)), min_size=2, max_size=40)


@given(SHARES, st.floats(1, 1e6), st.floats(0.5, 4))
def test_wilson_ends_are_where_the_score_test_turns(p: float, n: float, z: float) -> None:
    interval = wilson(p, n, z)
    assert 0 <= interval.lower <= p + 1e-9
    assert p - 1e-9 <= interval.upper <= 1
    for end in (interval.lower, interval.upper):
        # (p - end)^2 = z^2 end (1 - end) / n, Wilson's equation.
        assert (p - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


def test_wilson_by_hand() -> None:
    # p = 0, n = 10, z = 2: centre 0.2 / 1.4, half 0.2 / 1.4; p = 1 is its mirror image.
    assert wilson(0, 10, 2).lower == 0
    assert wilson(0, 10, 2).upper == pytest.approx(0.4 / 1.4)
    assert wilson(1, 10, 2).lower == pytest.approx(1 / 1.4)


def test_design_effect_by_hand() -> None:
    # Shares 0 and 1 of 8: p 0.5, variance 0.5, 0.5 * 8 / 0.25 = 16.
    assert design_effect([(0, 8), (8, 8)]) == pytest.approx(16)
    assert design_effect([(4, 8), (4, 8)]) == 1
    assert design_effect([(0, 8), (0, 8)]) == 1
    assert design_effect([(3, 8)]) == 1


@given(COUNTS)
def test_alike_samples_never_tell_more(counts: list[tuple[int, int]]) -> None:
    assert design_effect(counts) >= 1


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=60))
def test_slope_is_least_squares(ys: list[float]) -> None:
    xs = [float(x) for x in range(len(ys))]
    fit = slope(list(zip(xs, ys, strict=True)))
    assert fit is not None
    expected, intercept = statistics.linear_regression(xs, ys)
    assert fit.value == pytest.approx(expected, abs=1e-9)
    residuals = sum((y - intercept - expected * x) ** 2 for x, y in zip(xs, ys, strict=True))
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    assert fit.error == pytest.approx(math.sqrt(residuals / (len(xs) - 2) / spread), abs=1e-6)


def test_a_line_has_no_error_and_two_points_no_slope() -> None:
    line = slope([(x, 2.0 * x) for x in range(5)])
    assert line is not None
    assert (line.value, line.error) == (2, 0)
    assert line.is_rising(2)
    assert slope([(0, 0), (1, 1)]) is None
    assert slope([(1, 0), (1, 1), (1, 2)]) is None
