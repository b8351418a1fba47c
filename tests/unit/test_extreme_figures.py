"""A log may hold any number: whoever reads one ends well, and says what JSON and SVG can hold."""

import json
import random
import re
from pathlib import Path
from typing import NoReturn

import pytest

from maxrl_ops.cli.app import run
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.rundir import RunDir

EXTREMES = ("nan", "inf", "-inf", "1e308", "-1e308", "0", "1e-320")
HUGE = ("9" * 30, "9" * 400, "0")


def log(seed: int) -> str:
    """Blocks as ours, an extreme figure here and there."""
    rng = random.Random(seed)

    def real(usual: str) -> str:
        return rng.choice((*EXTREMES, *[usual] * 8))

    def whole(usual: str) -> str:
        return rng.choice((*HUGE, *[usual] * 9))

    lines = [
        "RL Method: MaxRL",
        "Objective: maxrl",
        f"Iterations: {whole('100')}",
        f"Reference threshold: {real('20')}",
        f"Correctness threshold: {real('20')}",
        "Attempt: 1",
        "",
    ]
    for n in range(1, 101):
        correct = rng.choice((0, 1, 8, 16))
        lines += [
            f"Iteration {n}/{whole('100')}",
            f"  Correctness: {correct}/{whole('16')} ({100 * correct / 16:.1f}%)",
            f"  Avg correct reward: {real('25.0')}",
            f"  Loss: {real('1.5')}",
            "  Objective: maxrl",
            f"  Reference correctness: {correct}/16 ({100 * correct / 16:.1f}%)",
            f"  Rewards above: 15:13 20:{correct} 25:9 30:1 of 16",
            f"  Groups: {whole('1')} all wrong, {whole('1')} all correct, 1 mixed",
            f"  Effective samples: {real('1.9')} of {real('6.0')} (T/2 {real('1.6')}, 2T 2.3)",
            f"  Reward: {real('21.3')} +- {real('9.1')}",
            f"  Compile: {real('81.2')}%   Tests: {real('75.0')}%   Trivial: {real('0.0')}%",
            f"  Unique: {whole('14')}/16   Unscored: 0",
            f"  Length: {real('27.4')} tokens",
            f"  Grad norm: {real('0.84')}   Entropy: {real('1.2')}   KL: {real('0.1')}   LR: 1e-05",
            f"  Time: {real('2.4')}s (sample 1.20s, verify 0.80s)   Tokens: {whole('1754')}",
            "  [Good - on track]",
        ]
        if n % 10 == 0:
            lines.append(
                f"Evaluation at {n}: greedy {real('60.0')}%, pass@1 {real('61.3')}% +- "
                f"{real('2.1')}%, pass@8 {real('97.0')}%, compiles but wrong {real('4.0')}%"
            )
    return "\n".join(lines) + "\n"


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("seed", range(4))
def test_any_figure_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        found = RunDir(tmp_path / "runs" / name)
        found.path.mkdir(parents=True)
        RunSpec(name, "j", {}, (), "2026-11-25T00:00:00Z").save(found)
        SupervisorState("finished", "2026-11-25T00:00:00Z").save(found)
        found.log.write_text(log(2 * seed + (name == "b")))
    for words in (["backtest", "a"], ["status"], ["compare", "a", "b", "--to", "c.html"]):
        assert run([*words, "--json"]) == 0
        json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert run(["backtest", "b"]) == 0
    assert run(["report", "a", "--to", "a.html"]) == 0
    for page in ("a.html", "c.html"):
        places = re.findall(r'(?:points|[xy][12]|c[xy])="([^"]*)"', Path(page).read_text("utf-8"))
        assert places
        assert not [place for place in places if "n" in place]
