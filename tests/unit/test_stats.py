"""The statistics, against their definitions and against scipy's and statsmodels'."""

import math
import statistics
import warnings
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from maxrl_ops.core.gradient import Gradient
from maxrl_ops.core.policy import Unstable, Window
from maxrl_ops.core.stats import (
    UNIT,
    Line,
    Proportion,
    counted,
    design_effect,
    median,
    newcombe,
    robust_z,
    slope,
    wilson,
)
from maxrl_ops.core.window import Rows, measure
from maxrl_ops.wire.record import IterationRecord

with warnings.catch_warnings():
    # Its dependencies' deprecations are not ours.
    warnings.simplefilter("ignore")
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

SHARES = st.floats(0, 1)
COUNTS = st.lists(st.tuples(st.integers(0, 8), st.integers(8, 16)), min_size=2, max_size=40)


@given(SHARES, st.floats(1, 1e6), st.floats(0.5, 4))
def test_wilson_ends_are_where_the_score_test_turns(p: float, n: float, z: float) -> None:
    interval = wilson(p, n, z)
    assert 0 <= interval.lower <= p + 1e-9
    assert p - 1e-9 <= interval.upper <= 1
    for end in interval:
        # (p - end)^2 = z^2 end (1 - end) / n, Wilson's equation.
        assert (p - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.5, 4))
def test_wilson_is_statsmodels(k: int, more: int, z: float) -> None:
    n = k + more
    alpha = 2 * scipy_stats.norm.sf(z)
    expected = proportion_confint(k, n, alpha=alpha, method="wilson")
    assert wilson(k / n, n, z) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50)
@given(*[st.integers(1, 60)] * 4, st.sampled_from([1.0, 1.96, 2.24]))
def test_newcombe_is_statsmodels(k1: int, more1: int, k2: int, more2: int, z: float) -> None:
    n1, n2 = k1 + more1, k2 + more2
    alpha = 2 * scipy_stats.norm.sf(z)
    expected = confint_proportions_2indep(k2, n2, k1, n1, method="newcomb", alpha=alpha)
    ours = newcombe(Proportion(k1 / n1, n1), Proportion(k2 / n2, n2), z)
    assert ours == pytest.approx(expected, abs=1e-9)


def test_newcombe_by_hand() -> None:
    """Newcombe (1998), table II, contrast (a): 56/70 - 48/80, method 10: .0524 to .3339."""
    interval = newcombe(Proportion(48 / 80, 80), Proportion(56 / 70, 70), 1.959964)
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_wilson_by_hand() -> None:
    # p = 0, n = 10, z = 2: centre 0.2 / 1.4, half 0.2 / 1.4; p = 1 is its mirror image.
    assert wilson(0, 10, 2).lower == 0
    assert wilson(0, 10, 2).upper == pytest.approx(0.4 / 1.4)
    assert wilson(1, 10, 2).lower == pytest.approx(1 / 1.4)


def test_design_effect_by_hand() -> None:
    # Shares 0 and 1 of 8: p 0.5, variance 0.5, 0.5 * 8 / 0.25 = 16.
    assert design_effect(counted([(0, 8), (8, 8)])) == pytest.approx(16)
    assert design_effect(counted([(4, 8), (4, 8)])) == 1
    assert design_effect(counted([(0, 8), (0, 8)])) == 1
    assert design_effect(counted([(3, 8)])) == 1


def naive_design_effect(counts: Sequence[tuple[int, int]]) -> float:
    k, n = sum(k for k, _ in counts), sum(n for _, n in counts)
    if len(counts) < 2 or k in {0, n}:
        return 1.0
    variance = statistics.variance([k / n for k, n in counts])
    return max(1.0, variance * (n / len(counts)) / (k / n * (1 - k / n)))


@given(COUNTS)
def test_design_effect_is_its_definition(counts: list[tuple[int, int]]) -> None:
    ours = design_effect(counted(counts))
    assert ours >= 1
    assert ours == pytest.approx(naive_design_effect(counts), rel=1e-7)


def line(points: Sequence[tuple[int, float]]) -> Line:
    ys = [round(y * UNIT) for _, y in points]
    xs = [x for x, _ in points]
    joint = sum(x * y for x, y in zip(xs, ys, strict=True))
    return Line(len(xs), sum(xs), sum(x * x for x in xs), joint, sum(ys), sum(y * y for y in ys))


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=60), st.integers(0, 10**7))
def test_slope_is_scipys(ys: list[float], start: int) -> None:
    fit = slope(line([(start + x, y) for x, y in enumerate(ys)]))
    assert fit is not None
    expected = scipy_stats.linregress(range(len(ys)), ys)
    assert fit.value == pytest.approx(expected.slope, abs=1e-8)
    # Theirs rounds where a line fits perfectly, and is NaN where nothing varies.
    error = 0.0 if math.isnan(expected.stderr) else expected.stderr
    assert fit.error == pytest.approx(error, abs=1e-6)


def test_a_line_has_no_error_and_two_points_no_slope() -> None:
    fit = slope(line([(x, 0.25 * x) for x in range(5)]))
    assert fit == (0.25, 0)
    assert fit is not None
    assert (fit.is_rising(2), fit.is_falling(2)) == (True, False)
    assert slope(line([(0, 0), (1, 1)])) is None
    assert slope(line([(1, 0), (1, 1), (1, 2)])) is None


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=60), st.floats(-50, 50))
def test_robust_z_is_scipys(others: list[float], value: float) -> None:
    ordered = sorted(others)
    assert median(ordered) == statistics.median(others)
    mad = scipy_stats.median_abs_deviation(others, scale=1 / 1.4826)
    expected = (value - statistics.median(others)) / max(mad, 0.05)
    assert robust_z(value, ordered, 0.05) == pytest.approx(expected, abs=1e-9)


# --- Windows and baselines, kept as they move, against the same recomputed ------------------------


def naive_measure(counts: Sequence[tuple[int, int]], window: Window) -> tuple[float, ...] | None:
    effect = naive_design_effect(counts[-window.design_effect_rows :])
    for size in window.sizes:
        pooled = counts[-size:]
        samples = sum(n for _, n in pooled)
        if len(pooled) == size and samples / effect >= window.least_effective:
            p = sum(k for k, _ in pooled) / samples
            return (
                size,
                samples,
                p,
                effect,
                samples / effect,
                *wilson(p, samples / effect, window.z),
            )
    return None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(8, 24)), max_size=160),
    st.lists(st.integers(1, 160), max_size=3),
)
def test_a_moving_window_is_the_same_recomputed(
    counts: list[tuple[int, int]], rewinds: list[int]
) -> None:
    rows, kept, window = Rows(), list[tuple[int, int]](), Window(sizes=(5, 8, 20, 60))
    for first in [*sorted(rewinds), None]:
        for k, n in counts[len(kept) : first]:
            kept.append((k, n))
            rows.append(IterationRecord(len(kept)), k, n)
            ours, expected = measure(rows, window), naive_measure(kept, window)
            assert (ours is None) == (expected is None)
            if ours is not None:
                assert tuple(ours) == pytest.approx(expected, rel=1e-7)
        if first is not None and kept:
            back = max(1, len(kept) // 2)
            rows.rewind(back)
            del kept[back - 1 :]
    assert rows.count == len(kept)


@pytest.mark.parametrize("last", [1100, 1250, 2500])
def test_a_long_window_forgets_what_nobody_looks_at(last: int) -> None:
    rows, counts = Rows(), [(n * n % 9, 8 + n % 3) for n in range(1, last + 1)]
    for n, (k, total) in enumerate(counts, 1):
        rows.append(IterationRecord(n), k, total)
    assert 1000 <= len(rows.records) <= 1200
    ours = measure(rows, Window())
    assert ours is not None
    assert tuple(ours) == pytest.approx(naive_measure(counts, Window()), rel=1e-9)
    expected = scipy_stats.linregress(range(200), [k / n for k, n in counts[-200:]])
    fit = rows.slope(200)
    assert fit is not None
    assert fit == pytest.approx((expected.slope, expected.stderr), rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-6, 1e6), max_size=120))
def test_a_moving_baseline_is_the_same_recomputed(norms: list[float]) -> None:
    gradient, policy, drift, logs = Gradient(), Unstable(), 0.0, [math.log(n) for n in norms]
    for place, norm in enumerate(norms):
        gradient.append(norm, policy)
        before = logs[max(0, place - policy.baseline) : place]
        if len(before) >= policy.least_baseline:
            centre = statistics.median(before)
            mad = statistics.median(abs(value - centre) for value in before)
            z = (logs[place] - centre) / max(1.4826 * mad, policy.least_scale)
            assert gradient.z == pytest.approx(z, abs=1e-9)
            drift = max(0.0, drift + max(-4.0, min(z, 4.0)) - 0.5)
            assert gradient.drift == pytest.approx(drift, abs=1e-6)


def test_a_gradient_that_is_none_tells_nothing() -> None:
    gradient = Gradient()
    for norm in (0.0, -1.0, math.nan, math.inf):
        gradient.append(norm, Unstable())
    assert gradient == Gradient()
