"""`sweep`: what is asked for, and what the figures over seeds come to. Pure parts."""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops import sweep_file
from maxrl_ops.core.student import estimate, t_quantile, within
from maxrl_ops.core.sweep import (
    MOST_RUNS,
    PRESETS,
    Axis,
    Sweep,
    axes_of,
    check_size,
    differences,
    seeds_of,
)
from maxrl_ops.report import sweep_page, sweeps
from maxrl_ops.report.curves import Curves
from maxrl_ops.report.several import LEVELS
from maxrl_ops.report.sweeps import Outcome, cost_cell, count_of, gain_cell, rows, share_cell
from maxrl_ops.wire.record import Evaluated, IterationRecord
from maxrl_ops.wire.rundir import DocumentError, is_run_name
from maxrl_ops.wire.settings import SettingError

HOSTILE = '</td><script>document.title="owned"</script>\x1b]0;owned\x07[bold]'


# --- What is asked for ----------------------------------------------------------------------------


def test_the_presets_are_the_guides_three_ablations() -> None:
    assert axes_of(list(PRESETS)) == (
        Axis("correctness_threshold", (15.0, 20.0, 25.0, 30.0)),
        Axis("n_samples", (4, 8, 16, 32)),
        Axis("weight_temperature", (0.5, 1.0, 2.0)),
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["treshold"], "there is no preset 'treshold' (did you mean threshold?): give threshold,"),
        (["n_sample=4"], "n_sample=4: there is no setting 'n_sample' (did you mean n_samples?)"),
        (["n_samples="], "n_samples='' is not allowed: give a whole number from 2 to 1024"),
        (["n_samples=4,x"], "n_samples='x' is not allowed: give a whole number from 2 to 1024"),
        (["n_samples=4,8,4"], "n_samples=4,8,4: 4 stands twice"),
        (["learning_rate=1e-3,0.001"], "0.001 stands twice"),
        (["n_samples=4", "samples"], "n_samples is given twice"),
        (["seed=1,2"], "seed: give --seeds instead"),
        (["=1"], "there is no setting ''"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words: list[str], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        axes_of(words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given_text", "seeds"), [("3", (0, 1, 2)), ("1", (0,)), ("7,", (7,)), ("0, 5", (0, 5))]
)
def test_seeds_are_a_count_or_a_list(given_text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_of(given_text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "101", "", ",", "1,1", "x", "1,x", "1.5", "9" * 30])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--seeds="):
        seeds_of(text)


def test_an_absurd_size_is_refused_with_the_number() -> None:
    axes = axes_of(["samples", "threshold", "learning_rate=1e-3,1e-4,1e-5"])
    check_size(axes, range(5))
    with pytest.raises(SettingError, match=r"that would be 288 runs \(48 points, 6 seeds\)"):
        check_size(axes, range(6))


VALUES = {
    "n_samples": st.integers(2, 1024),
    "learning_rate": st.floats(1e-9, 1, exclude_min=True),
    "correctness_threshold": st.floats(-1e6, 1e6),
    "use_maxrl": st.booleans(),
    "checkpoint": st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).map(
        lambda text: f"/{text.strip()}x"
    ),
}


@st.composite
def some_sweep(draw: st.DrawFn) -> Sweep:
    keys = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3, unique=True))
    axes = tuple(
        Axis(key, tuple(draw(st.lists(VALUES[key], min_size=1, max_size=3, unique=True))))
        for key in keys
    )
    seeds = tuple(draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True)))
    name = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True))
    common = {"iterations": draw(st.integers(1, 100)), "task": "arithmetic"}
    return Sweep(name, "job", axes, seeds, common, ("a", "b c"), created="2026-11-25T00:00:00Z")


@given(some_sweep())
def test_every_combination_is_run_once_with_every_seed(sweep: Sweep) -> None:
    runs = sweep.runs()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names) == len(sweep.points()) * len(sweep.seeds)
    assert all(is_run_name(name) and name.startswith(sweep.name) for name in names)
    assert {(tuple(run.point.items()), run.seed) for run in runs} == {
        (tuple(point.items()), seed) for point in sweep.points() for seed in sweep.seeds
    }
    # Seed by seed: cut short, all points have been tried.
    assert [run.seed for run in runs] == sorted(
        (run.seed for run in runs), key=list(sweep.seeds).index
    )


@given(some_sweep())
def test_its_file_reads_back_and_is_written_once(
    tmp_path_factory: pytest.TempPathFactory, sweep: Sweep
) -> None:
    path = tmp_path_factory.mktemp("sweeps") / f"{sweep.name}.json"
    sweep_file.save(path, sweep)
    known = sweep_file.load(path)
    assert known == sweep
    assert list(differences(known, sweep)) == []
    changed = replace(sweep, seeds=(*sweep.seeds, 2**40), mode="act")
    assert [each.partition(" ")[0] for each in differences(known, changed)] == ["seeds", "mode"]
    with pytest.raises(FileExistsError):
        sweep_file.save(path, changed)
    assert sweep_file.load(path) == sweep
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"name": "other"}', '{"axes": {"n_samples": [1]}}', '{"axes": {"x": [1]}}'],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(content)
    with pytest.raises(DocumentError, match=r"one\.json") as caught:
        sweep_file.load(path)
    assert "\n" not in str(caught.value)


def test_names_that_would_be_too_long_are_numbers() -> None:
    axes = (Axis("checkpoint", ("/a/model", "/b/model")), Axis("n_samples", (4,)))
    assert [run.name for run in Sweep("s", "s", axes, (0,)).runs()] == ["s-1-s0", "s-2-s0"]
    one = Sweep("s", "s", (Axis("checkpoint", ("/a/tiny", "/b/small")),), (0,))
    assert [run.name for run in one.runs()] == ["s-checkpoint-tiny-s0", "s-checkpoint-small-s0"]


# --- Figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    # Tables of Student's distribution, two-sided 95%.
    ("freedom", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_t_is_the_tables(freedom: int, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-4)
    assert within(t_quantile(freedom), freedom) == pytest.approx(0.95)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(11)
    hits = 0
    for _ in range(4000):
        found = estimate([rng.gauss(5, 2) for _ in range(3)])
        assert found is not None
        assert found.half is not None
        hits += abs(found.mean - 5) <= found.half
    assert 0.94 < hits / 4000 < 0.96


FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=1, max_size=10), st.randoms())
def test_an_estimate_is_of_the_values_in_any_order(values: list[float], rng: random.Random) -> None:
    found = estimate(values)
    assert found is not None
    assert found.n == len(values)
    assert min(values) - 1e-6 <= found.mean <= max(values) + 1e-6
    shuffled = estimate(rng.sample(values, len(values)))
    assert shuffled is not None
    assert shuffled.mean == pytest.approx(found.mean, abs=1e-6)
    if found.half is None:
        assert len(values) == 1
    else:
        assert shuffled.half == pytest.approx(found.half, abs=1e-3)


STATES = st.sampled_from([None, "running", "stopped", "failed", "finished", "damaged"])


@st.composite
def some_outcomes(draw: st.DrawFn) -> list[Outcome]:
    def one(number: int, point: int) -> Outcome:
        state = draw(STATES)
        share = draw(st.floats(0, 1))
        at = {level: {"iterations": 10 * level, "samples": 640.0} for level in LEVELS}
        return Outcome(
            f"run-{number}",
            {"n_samples": point},
            number,
            state=state,
            pass_at={1: share, 8: 1.0},
            reached={level: at[level] if share >= level else None for level in LEVELS},
        )

    return [one(seed, n) for n in (4, 8) for seed in range(draw(st.integers(0, 4)))]


@given(some_outcomes(), st.randoms())
def test_a_row_counts_what_is_a_result_and_nothing_else(
    outcomes: list[Outcome], rng: random.Random
) -> None:
    points = [{"n_samples": 4}, {"n_samples": 8}]
    found = rows(points, outcomes)
    assert [row.point for row in found] == points
    assert sum(row.runs for row in found) == len(outcomes)
    for row in found:
        mine = [each for each in outcomes if each.point == row.point]
        finished = [each for each in mine if each.state == "finished"]
        assert row.finished == len(finished)
        assert row.failed == sum(each.state == "failed" for each in mine)
        if finished:
            assert row.pass_at[1].mean == pytest.approx(fmean(e.pass_at[1] for e in finished))
        else:
            assert row.pass_at == {}
        counts = [row.reached[level] for level in LEVELS]
        assert all(each.of == row.finished + row.failed for each in counts)
        base = {e.seed: e.pass_at[1] for e in outcomes
                if e.point == points[0] and e.state == "finished"}  # fmt: skip
        pairs = [e.pass_at[1] - base[e.seed] for e in finished if e.seed in base]
        assert (row.gain is None) == (row.point == points[0] or not pairs)
        if row.gain is not None:
            assert row.gain.mean == pytest.approx(fmean(pairs))
        # Whoever has 90% has 75%.
        assert [each.count for each in counts] == sorted((c.count for c in counts), reverse=True)
        assert all(set(each.costs) == ({"iterations", "samples"} if each.count else set())
                   for each in counts)  # fmt: skip
    shuffled = rows(points, rng.sample(outcomes, len(outcomes)))
    assert [row.reached for row in shuffled] == [row.reached for row in found]


def an_outcome(seed: int, *reached: float, state: str = "finished", reason: str = "") -> Outcome:
    at = dict(zip(LEVELS, reached, strict=False))
    return Outcome(
        f"run-{seed}", {"n_samples": 4}, seed, state=state, reason=reason or None,
        pass_at={1: 0.5 + seed / 100}, iterations=40,
        reached={level: {"iterations": at[level]} if level in at else None for level in LEVELS},
    )  # fmt: skip


def test_what_was_never_reached_is_told_as_that() -> None:
    [row] = rows([{"n_samples": 4}], [
        an_outcome(0, 10, 20, 40), an_outcome(1, 12, 24), an_outcome(2, 14, state="failed"),
        an_outcome(3, 1, 1, 1, 1, state="running"),
    ])  # fmt: skip
    assert [cost_cell(each, "iterations") for each in row.reached.values()] == [
        "12 ± 5", "2 of 3: 22", "1 of 3: 40", "never"
    ]  # fmt: skip
    assert count_of(row) == "3 of 4, 1 failed"
    assert share_cell(row.pass_at[1]) == "50.5% ± 6.4%"
    # The log tells no seconds: not 0, and not never.
    assert [cost_cell(each, "seconds") for each in row.reached.values()] == [
        None, "2 of 3", "1 of 3", "never"
    ]  # fmt: skip
    [nothing] = rows([{"n_samples": 8}], [])
    assert {cost_cell(each, "iterations") for each in nothing.reached.values()} == {None}


def test_seeds_are_compared_with_themselves() -> None:
    eight = {"n_samples": 8}
    found = rows([{"n_samples": 4}, eight], [
        *(an_outcome(seed) for seed in (0, 20, 40)),
        *(replace(an_outcome(seed + 3), point=eight, seed=seed) for seed in (0, 20, 40)),
        replace(an_outcome(50), point=eight),
    ])  # fmt: skip
    # The seeds are far apart, and what is done to them is the same.
    assert [share_cell(row.pass_at[1]) for row in found] == ["70.0% ± 49.7%", "79.8% ± 33.7%"]
    assert [gain_cell(row.gain) for row in found] == [None, "+3.0% ± 0.0%"]


def test_the_page_escapes_what_a_run_has_said() -> None:
    sweep = Sweep("one", HOSTILE, (Axis("n_samples", (4,)),), (0, 1), {"task": HOSTILE})
    outcomes = [an_outcome(0, 10), an_outcome(1, state="failed", reason=HOSTILE)]
    page = sweep_page.render(sweep, outcomes, "2026-11-25T00:00:00Z")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "failed: &lt;/td&gt;" in page


def test_the_page_tells_no_secret_of_the_command() -> None:
    command = ("python", "train.py", "--wandb-key", "abc123")
    sweep = Sweep("one", "one", (Axis("n_samples", (4,)),), (0,), command=command)
    page = sweep_page.render(sweep, [an_outcome(0, 10)], "2026-11-25T00:00:00Z")
    assert "python train.py --wandb-key ***" in page
    assert "abc123" not in page


def test_the_page_says_never_of_what_is_over_alone() -> None:
    sweep = Sweep("one", "one", (Axis("n_samples", (4,)),), (0, 1))
    going, over = an_outcome(0, 10, state="running"), an_outcome(1, 10)
    assert ">never<" not in sweep_page.render(sweep, [going], "2026-11-25T00:00:00Z")
    # In three tables, and in the run's row.
    assert sweep_page.render(sweep, [over], "2026-11-25T00:00:00Z").count(">never<") == 3 * 4


def told_by(*pass_at_1: float, counts: bool = True) -> Curves:
    """Evaluations at 0, 5, 10..., and iterations between them, 32 samples each."""
    curves = Curves()
    for at in range(1 + 5 * (len(pass_at_1) - 1)):
        if at:
            curves.append(IterationRecord(at, n_correct=8, n_total=32 if counts else None))
        if at % 5 == 0:
            share = pass_at_1[at // 5]
            curves.append(Evaluated(at, math.nan, {1: share}, math.nan, math.nan, math.nan))
    return curves


def page_of(*several: Curves) -> str:
    sweep = Sweep("one", "one", (Axis("n_samples", (4,)),), tuple(range(len(several))))
    outcomes = [replace(an_outcome(seed), curves=each) for seed, each in enumerate(several)]
    return sweep_page.render(sweep, outcomes, "2026-11-25T00:00:00Z")


def curves_on(page: str, chart: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """The polylines of the chart of that title, each its class and its points."""
    drawn = page.partition(f'aria-label="{chart}"')[2].partition("</svg>")[0]
    return [
        (look, [(float(x), float(y)) for x, y in re.findall(r"([0-9.]+),([0-9.]+)", points)])
        for look, points in re.findall(r'<polyline class="([^"]+)" points="([^"]*)"', drawn)
    ]


OVER_ITERATIONS = "Held-out pass@1 over iterations"
OVER_SAMPLES = "Held-out pass@1 over samples"


def test_samples_that_a_log_does_not_tell_are_not_none_of_them() -> None:
    page = page_of(told_by(0.1, 0.5, 0.9, counts=False))
    assert curves_on(page, OVER_ITERATIONS)
    assert not curves_on(page, OVER_SAMPLES)
    # Before the first iteration nothing is drawn: that is known.
    [(_, told)] = curves_on(page_of(told_by(0.1, 0.5, 0.9)), OVER_SAMPLES)
    assert len(told) == 3
    assert told[0][0] < told[1][0] < told[2][0]


def test_an_evaluation_that_is_no_number_is_not_drawn_and_moves_no_other() -> None:
    page = page_of(told_by(0.2, math.nan, 0.8), told_by(0.2, 0.5, 0.8))
    assert "nan" not in page
    *each, (_, mean) = curves_on(page, OVER_ITERATIONS)
    assert [(look, len(points)) for look, points in each] == [("l c0 faint", 2), ("l c0 faint", 3)]
    # Both runs' 20% and 80%: not the one's 80% with the other's 50%.
    assert mean == each[0][1]


def test_one_run_has_no_band() -> None:
    alone, two = page_of(told_by(0.2, 0.5)), page_of(told_by(0.2, 0.5), told_by(0.4, 0.5))
    assert "<polygon" not in alone
    assert "<polygon" in two


def test_json_of_it_is_json() -> None:
    sweep = Sweep("one", "one", (Axis("n_samples", (4,)),), (0, 1))
    told = json.loads(json.dumps(sweeps.to_json(sweep, [an_outcome(0, 10), an_outcome(1, 30)])))
    [point] = told["points"]
    assert point["reached"]["50.0%"] == {
        "reached": 2, "of": 2,
        "iterations": {"mean": 20.0, "low": pytest.approx(-107.06, abs=0.01),
                       "high": pytest.approx(147.06, abs=0.01), "n": 2},
    }  # fmt: skip
    assert point["reached"]["95.0%"] == {"reached": 0, "of": 2}
    assert len(told["runs"]) == 2 <= MOST_RUNS
