"""`python -m benchmarks.start_to_sample`: from nothing to the first sample.

Beside the least that any trainer on this stack must do: import torch and transformers, and load
tokenizer and model. Ours ends when the trainer's heartbeat says that it samples. Rounds alternate.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import machine

_ROUNDS = 7
_MODEL = Path(__file__).parents[1] / "trainer/tasks/arithmetic/model"
_LEAST = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
AutoTokenizer.from_pretrained({str(_MODEL)!r})
AutoModelForCausalLM.from_pretrained({str(_MODEL)!r}, dtype=torch.float32)
"""


def main() -> None:
    """Measure, print the table, and keep it."""
    rounds = [(_cpu_seconds(_least), _cpu_seconds(_ours)) for _ in range(_ROUNDS)]
    ratios = [ours / least for least, ours in rounds]
    least, ours = (median(each[i] for each in rounds) for i in (0, 1))
    row = f"{ours:.2f} | {least:.2f} | {median(ratios):.2f}"
    text = "\n".join(
        [
            "# From nothing to the first sample",
            "",
            machine.describe(),
            "",
            "| trainer, CPU s | imports and model, CPU s | ratio, median | lowest to highest |",
            "|---|---|---|---|",
            f"| {row} | {min(ratios):.2f} to {max(ratios):.2f} |",
            "",
        ]
    )
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "start_to_sample.md").write_text(text)
    print(text)


def _cpu_seconds(work: Callable[[], None]) -> float:
    """Of the processes that `work` starts and waits for."""
    before = os.times()
    work()
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def _least() -> None:
    subprocess.run([sys.executable, "-P", "-c", _LEAST], check=True, capture_output=True)


def _ours() -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        env = {**os.environ, "MAXRL_RUN_DIR": str(run), "MAXRL_TASK": "arithmetic"}
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "trainer"], env=env, stdout=subprocess.DEVNULL
        ) as trainer:
            while _phase(run) == "load":
                if trainer.poll() is not None:
                    raise SystemExit(f"the trainer ended with {trainer.returncode}")
                time.sleep(0.005)
            trainer.kill()


def _phase(run: Path) -> str:
    try:
        return str(json.loads((run / "heartbeat.json").read_text())["phase"])
    except FileNotFoundError:
        return "load"


if __name__ == "__main__":
    main()
