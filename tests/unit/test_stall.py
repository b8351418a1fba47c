"""When a standstill is a stall, and when not."""

from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.core.stall import Limits, StallWatch

LIMITS = Limits(least=2.0, factor=5.0, first=100.0)


def looks(
    watch: StallWatch, start: int, end: int, mark: object, iteration: int, paused: bool = False
) -> float | None:
    """Look once a second from `start` to `end`, both included; the last answer."""
    found = None
    for now in range(start, end + 1):
        found = watch.look(float(now), mark, iteration, is_paused=paused)
    return found


def test_a_slow_first_iteration_is_none() -> None:
    watch = StallWatch(LIMITS, 0.0)
    assert looks(watch, 0, 99, "load", 0) is None
    assert looks(watch, 100, 100, "load", 0) == 100.0


def test_five_times_the_longest_iteration_is_one() -> None:
    watch = StallWatch(LIMITS, 0.0)
    looks(watch, 0, 4, "a", 1)
    looks(watch, 5, 6, "b", 2)
    looks(watch, 7, 7, "c", 3)
    assert watch.limit == 25.0
    assert looks(watch, 8, 31, "c", 3) is None
    assert looks(watch, 32, 32, "c", 3) == 25.0


def test_iterations_shorter_than_the_first_look_are_whole_ones() -> None:
    watch = StallWatch(LIMITS, 0.0, first_iteration=41)
    assert watch.look(0.5, "load", 0, is_paused=False) is None
    assert watch.look(1.0, "a", 44, is_paused=False) is None
    assert watch.limit == 5.0
    assert watch.look(6.0, "a", 44, is_paused=False) == 5.0


def test_the_first_iteration_after_a_resume_may_be_slow() -> None:
    watch = StallWatch(LIMITS, 0.0, first_iteration=41)
    assert looks(watch, 1, 99, "a", 41) is None


def test_a_phase_is_progress_without_an_iteration() -> None:
    watch = StallWatch(LIMITS, 0.0)
    looks(watch, 0, 0, "a", 1)
    looks(watch, 1, 1, "b", 2)
    assert all(looks(watch, now, now, now, 2) is None for now in range(2, 60))


@given(st.integers(200, 5000))
def test_a_pause_is_never_one_and_lengthens_no_limit(length: int) -> None:
    watch = StallWatch(LIMITS, 0.0)
    looks(watch, 0, 0, "a", 1)
    looks(watch, 1, 1, "b", 2)
    assert looks(watch, 2, length, "pause", 2, paused=True) is None
    looks(watch, length + 1, length + 1, "c", 3)
    assert watch.limit == 5.0


def test_time_in_which_nobody_looked_does_not_count() -> None:
    watch = StallWatch(LIMITS, 0.0)
    looks(watch, 0, 0, "a", 1)
    looks(watch, 1, 1, "b", 2)
    assert watch.look(1000.0, "b", 2, is_paused=False) is None
    assert looks(watch, 1001, 1004, "b", 2) is None
    assert looks(watch, 1005, 1005, "b", 2) == 5.0


def test_an_evaluation_much_longer_than_an_iteration_is_none() -> None:
    watch = StallWatch(LIMITS, 0.0)
    for now in range(50):
        assert watch.look(float(now), "load", 0, is_paused=False, is_loading=True) is None
    # The one before training; the next comes after many short iterations, and takes twice as long.
    assert looks(watch, 50, 69, "evaluate", 0) is None
    for now in range(70, 90):
        assert looks(watch, now, now, f"sample {now}", now - 69) is None
    assert looks(watch, 90, 129, "evaluate", 20) is None
    looks(watch, 130, 130, "sample", 21)
    # Iteration 20 began a second before its evaluation.
    assert watch.limit == 5 * 41.0


def test_loading_lengthens_no_limit() -> None:
    watch = StallWatch(LIMITS, 0.0)
    for now in range(90):
        watch.look(float(now), "load", 0, is_paused=False, is_loading=True)
    for now in range(90, 93):
        looks(watch, now, now, now, now - 89)
    assert watch.limit == 5.0


def test_a_watch_that_takes_over_goes_by_what_was_seen_before() -> None:
    first = StallWatch(LIMITS, 0.0)
    assert first.longest is None
    looks(first, 0, 4, "a", 1)
    looks(first, 5, 6, "b", 2)
    looks(first, 7, 7, "c", 3)
    assert first.longest == 5.0
    second = StallWatch(LIMITS, 8.0, first.longest)
    assert looks(second, 8, 32, "c", 3) is None
    assert looks(second, 33, 33, "c", 3) == 25.0
