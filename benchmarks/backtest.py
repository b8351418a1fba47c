"""`python -m benchmarks.backtest`: CPU seconds of `backtest` for a million lines of a log.

The whole process counts: Python's start, parsing, the rules, printing. A healthy run, whose
correctness and gradients are drawn anew for every iteration, as our trainer writes it and as the
guide does.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import machine
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Algorithm, IterationRecord, RunStarted

_LINES = 1_000_000
_ROUNDS = 5
_TARGET = 1_000_000


def _guide_block(iteration: int, lots: random.Random) -> IterationRecord:
    """Five lines, as the guide shows them."""
    correct = sum(lots.random() < 0.7 for _ in range(16))
    return IterationRecord(
        iteration,
        _TARGET,
        n_correct=correct,
        n_total=16,
        correct_reward_mean=20 + 8 * lots.random(),
        loss=lots.gauss(4, 1),
        verdict="Good - on track",
    )


def _own_block(iteration: int, lots: random.Random) -> IterationRecord:
    """All that our trainer tells of an iteration."""
    correct = sum(lots.random() < 0.7 for _ in range(16))
    return IterationRecord(
        iteration,
        _TARGET,
        n_correct=correct,
        n_total=16,
        correct_reward_mean=20 + 8 * lots.random(),
        loss=lots.gauss(4, 1),
        objective="maxrl",
        reference_correct=correct,
        reference_total=16,
        rewards_above={15.0: min(16, correct + 2), 20.0: correct, 25.0: correct // 2, 30.0: 0},
        rewards_of=16,
        groups_all_wrong=0,
        groups_all_correct=0,
        groups_mixed=2,
        effective_samples=1.5 + lots.random(),
        effective_of=6.0,
        effective_half=1.1 + lots.random(),
        effective_double=2.1 + lots.random(),
        reward_mean=20 + lots.random(),
        reward_std=9 + lots.random(),
        compile_ratio=0.7 + 0.3 * lots.random(),
        tests_pass_ratio=correct / 16,
        trivial_ratio=0.0,
        unique=14,
        unique_of=16,
        unscored=0,
        length_mean=27 + lots.random(),
        grad_norm=lots.lognormvariate(0, 0.3),
        entropy=1 + lots.random(),
        kl=0.001 * lots.random(),
        learning_rate=1e-5,
        duration=2 + lots.random(),
        sample_time=1.2,
        verify_time=0.8,
        update_time=0.41,
        tokens=1754 + iteration % 100,
        control_revision=0,
        at=f"2026-11-22T{iteration // 3600 % 24:02}:{iteration // 60 % 60:02}:{iteration % 60:02}Z",
        verdict="Good - on track",
    )


Block = Callable[[int, random.Random], IterationRecord]
_KINDS: dict[str, tuple[Block, float]] = {
    "our trainer's block": (_own_block, 2.0),
    "the guide's block": (_guide_block, 3.0),
}


def _write(path: Path, block: Block) -> tuple[int, int]:
    """A log of so many lines; iterations, and lines a block."""
    lots = random.Random(7)
    each = render(block(1, lots)).count("\n")
    count = _LINES // each
    with path.open("w") as file:
        file.write(render(RunStarted(Algorithm.MAXRL, "maxrl", reference_threshold=20.0)))
        file.writelines(render(block(n, lots)) for n in range(1, count + 1))
    return count, each


def _cpu_seconds(log: Path) -> float:
    words = [sys.executable, "-m", "maxrl_ops", "backtest", str(log), "--policy", "guide", "--json"]
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def main() -> None:
    """Measure, print the table, and keep it."""
    with tempfile.TemporaryDirectory() as directory:
        logs = {name: Path(directory) / f"{place}.log" for place, name in enumerate(_KINDS)}
        sizes = {name: _write(log, _KINDS[name][0]) for name, log in logs.items()}
        spent: dict[str, list[float]] = {name: [] for name in logs}
        for _ in range(_ROUNDS):
            for name, log in logs.items():
                spent[name].append(_cpu_seconds(log))
    rows = [
        f"| {name}, {sizes[name][1]} lines | {sizes[name][0]:,} | {median(spent[name]):.2f} s "
        f"| {min(spent[name]):.2f} to {max(spent[name]):.2f} s | {_KINDS[name][1]:.0f} s |"
        for name in logs
    ]
    text = "\n".join(
        [
            "# Backtest of a million lines",
            "",
            f"{machine.describe()}; CPU seconds of the whole process, median of {_ROUNDS} rounds",
            "",
            "| block | iterations | CPU | from to | at most |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    (Path(__file__).parent / "results" / "backtest.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
