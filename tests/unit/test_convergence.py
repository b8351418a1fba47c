"""The convergence study: levels, censoring, tests over seeds, and the page made of its JSON."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import mannwhitneyu

from benchmarks.convergence import page, plan, study
from benchmarks.convergence.running import RunFailedError, run


def row(arm: str, seed: int, curve: list[float], *, rate: float = 1e-3, each: int = 640) -> Any:
    return {
        "task": "rules",
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "cpu": 12.0,
        "changes": [],
        "evaluations": [
            {
                "iteration": 10 * n,
                "samples": each * n,
                "cpu": 4.0 + n,
                "pass_at": {"1": value, "8": min(1.0, value + 0.1)},
                "se": 0.03,
                "greedy": value,
            }
            for n, value in enumerate(curve)
        ],
    }


SLOW = [0.2, 0.3, 0.4, 0.52, 0.55, 0.76, 0.78, 0.8]
FAST = [0.2, 0.51, 0.76, 0.91, 0.92, 0.96, 0.97, 0.98]


def results() -> dict[str, Any]:
    slow = [row("grpo", seed, SLOW) for seed in range(5)]
    fast = [row("maxrl", seed, FAST[: 8 - seed % 2]) for seed in range(5)]
    tried = [
        row(a, 100, SLOW, rate=r) for a in ("grpo", "maxrl") for r in plan.TASKS["rules"].rates
    ]
    missing = {"rules": 0, "maze": 7}
    held_out = [*slow, *fast]
    return {"machine": "a machine", "missing": missing, "development": tried, "held_out": held_out}


def test_a_level_is_reached_at_the_second_evaluation_in_a_row() -> None:
    seen = row("grpo", 0, [0.2, 0.9, 0.4, 0.9, 0.95, 0.97])
    assert study.cost(seen, 0.9, "iteration") == 40
    assert study.cost(seen, 0.9, "samples") == 4 * 640
    assert study.cost(seen, 0.95, "cpu") == 9.0
    assert study.cost(seen, 0.98, "samples") == math.inf


def test_what_was_not_reached_counts_as_the_longest() -> None:
    found = study.median([100, math.inf, 200, math.inf, 300])
    assert (found.value, found.low, found.high) == (300, 100, math.inf)
    assert (found.reached, found.n) == (3, 5)
    assert found.confidence == pytest.approx(0.9375)
    assert study.median([100, math.inf, math.inf]).value == math.inf


def test_a_ratio_to_what_never_came_is_a_lower_bound() -> None:
    found = study.ratio([math.inf] * 5, 12_800, [1000.0] * 5, 4000)
    assert (found.value, found.is_least, found.is_most) == (12.8, True, False)
    assert (found.low, found.high) == (12.8, math.inf)
    found = study.ratio([4000.0] * 5, 12_800, [1000.0, 2000, 2000, 2000, 4000], 12_800)
    assert found.value == 2
    assert 1 <= found.low <= 2 <= found.high <= 4


def test_one_seed_of_five_that_never_came_leaves_the_lower_end_unknown() -> None:
    found = study.ratio([math.inf] * 5, 12_800, [2000.0, 2000, 3000, 3000, math.inf], 4000)
    assert (found.low, found.high) == (0, math.inf)
    found = study.ratio([9000.0] * 5, 12_800, [2000.0, 2000, 3000, 3000, math.inf], 4000)
    assert (found.low, found.high) == (0, 4.5)


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        ([1.0, 2, 3, 4, 5], [6.0, 7, 8, 9, 10]),
        ([1.0, 3, 5, 7, 9], [2.0, 4, 6, 8, 10]),
        ([9.0, 8, 7], [1.0, 2, 3, 4]),
    ],
)
def test_the_rank_test_is_scipys(mine: list[float], others: list[float]) -> None:
    expected = mannwhitneyu(mine, others, alternative="less", method="exact").pvalue
    assert study.earlier(mine, others) == pytest.approx(expected)


def test_two_that_never_come_are_a_tie() -> None:
    assert study.earlier([math.inf] * 5, [math.inf] * 5) == 1.0
    assert study.earlier([1.0] * 5, [math.inf] * 5) == pytest.approx(1 / 252)


def test_the_rate_is_chosen_by_the_samples_to_the_highest_level() -> None:
    tried = [
        row("grpo", 100, SLOW, rate=5e-4),
        row("grpo", 100, FAST, rate=1e-3),
        row("grpo", 100, [0.2, 0.9, 0.8, 0.9, 0.8, 0.8, 0.85, 0.88], rate=2e-3),
    ]
    assert study.chosen(tried) == {"rules/grpo": 1e-3}


def test_of_rates_that_never_have_it_the_one_that_ends_highest_is_chosen() -> None:
    hasty = row("grpo", 100, [0.2, 0.76, 0.78, 0.8, 0.78, 0.77, 0.76, 0.75], rate=2e-3)
    steady = row("grpo", 100, [0.2, 0.5, 0.6, 0.7, 0.76, 0.8, 0.84, 0.87], rate=1e-3)
    assert study.chosen([hasty, steady]) == {"rules/grpo": 1e-3}


def test_a_run_tells_what_it_drew_and_took(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {**plan.TASKS["rules"].settings, "iterations": 2, "evaluate_every": 1}
    monkeypatch.setitem(plan.TASKS, "rules", replace(plan.TASKS["rules"], settings=short))
    told = run(plan.Job("rules", "grpo", 1e-3, 0))
    assert (told["task"], told["arm"], told["rate"], told["seed"]) == ("rules", "grpo", 1e-3, 0)
    assert [each["iteration"] for each in told["evaluations"]] == [0, 1, 2]
    assert [each["samples"] for each in told["evaluations"]] == [0, 64, 128]
    took = [each["cpu"] for each in told["evaluations"]]
    assert 0 < took[0] <= took[1] <= took[2] <= told["cpu"]
    assert all(
        0 <= each["pass_at"]["1"] <= each["pass_at"]["8"] <= 1 for each in told["evaluations"]
    )


def test_a_run_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**plan.TASKS["rules"].settings, "task": "/nowhere/task.py:task"}
    monkeypatch.setitem(plan.TASKS, "rules", replace(plan.TASKS["rules"], settings=broken))
    with pytest.raises(RunFailedError, match=r"rules/grpo/0\.001/0: .*/nowhere"):
        run(plan.Job("rules", "grpo", 1e-3, 0))


def test_every_arm_can_be_run_as_it_stands() -> None:
    for job in plan.grid(list(plan.TASKS), list(plan.ARMS), is_quick=False):
        assert job.settings()["learning_rate"] in plan.TASKS[job.task].rates
        assert job.seed not in plan.HELD_OUT_SEEDS


def test_the_page_tells_every_seed_and_what_was_not_reached() -> None:
    text = page.document(results())
    assert text == page.document(results())
    assert text.count("| GRPO | ") == 4 + 5 + 1
    assert "not reached by any of 5" in text
    assert "- maze: 7 of its runs are missing yet." in text
    assert "- rules: 0" not in text
    told = "(MaxRL reached it on 5 of 5 seeds, GRPO on 0 of 5; exact one-sided rank test p = 0.004)"
    assert f"MaxRL (the guide's) to 95% before GRPO: yes {told}" in text
    assert "&ge; 1.75" in text
    assert all(len(line) < 1000 for line in text.splitlines())


def test_the_figures_are_pictures_of_their_own() -> None:
    found = page.figures(results())
    assert set(found) == {"rules-objectives", "rules-schedules"}
    for text in found.values():
        root = ET.fromstring(text)  # noqa: S314 - ours
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "MaxRL (the guide" in "".join(root.itertext())
