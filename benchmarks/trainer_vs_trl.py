"""`python -m benchmarks.trainer_vs_trl`: a training step of ours beside TRL's.

Both start from the same randomly initialised Llama, sample 8 completions of 64 tokens for each of 8
prompts of 32, reward them alike, and take one GRPO step in float32. Rounds of both alternate, so
that whatever else the machine does hits both; the ratio of a round's CPU seconds is what counts,
and that of its wall seconds stands last. Ours is measured as it is, and with --torch-compile.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import machine, small_llama
from benchmarks.steppers.protocol import Cost, Stepper, Work

_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", type=Path, required=True, help="a Python that has TRL")
    parser.add_argument("--sizes", nargs="+", default=["0.9M", "10M"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps in a round")
    given = parser.parse_args()
    lines = [
        "| model | ours | CPU s a step | TRL's | ratio, median | lowest to highest | wall |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in given.sizes:
        lines += _measure(size, given)
        print(*lines[-2:], sep="\n", flush=True)
    _RESULTS.mkdir(exist_ok=True)
    described = machine.describe(_versions(given.peer_python))
    text = "\n".join(["# A training step beside TRL's", "", described, "", *lines, ""])
    (_RESULTS / "trainer_vs_trl.md").write_text(text)
    print(text)


def _measure(size: str, given: argparse.Namespace) -> list[str]:
    """A row for ours as it is, and one for ours compiled, out of the same rounds."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        described = small_llama.make(size, here / "model")
        work = Work(str(here / "model"), str(here / "eager"))
        peers = replace(work, directory=str(here / "peer"))
        fused = replace(work, directory=str(here / "compiled"), torch_compile=True)
        steppers = [
            Stepper(Path(sys.executable), "benchmarks.steppers.ours", work),
            Stepper(Path(sys.executable), "benchmarks.steppers.ours", fused),
            Stepper(given.peer_python, "benchmarks.steppers.trl", peers),
        ]
        # Warm up: allocators, thread pools, compilation.
        for stepper in steppers:
            stepper.step(3)
        rounds = [[stepper.step(given.steps) for stepper in steppers] for _ in range(given.rounds)]
        for stepper in steppers:
            stepper.close()
    return [
        _row(described, name, [(costs[i], costs[-1]) for costs in rounds], given.steps)
        for i, name in enumerate(("eager", "compiled"))
    ]


def _row(model: str, name: str, rounds: list[tuple[Cost, Cost]], steps: int) -> str:
    ratios = [theirs.cpu / ours.cpu for ours, theirs in rounds]
    ours, theirs = (median(each[i].cpu for each in rounds) / steps for i in (0, 1))
    wall = median(theirs.wall / ours.wall for ours, theirs in rounds)
    return (
        f"| {model} | {name} | {ours:.2f} | {theirs:.2f} | {median(ratios):.2f} | "
        f"{min(ratios):.2f} to {max(ratios):.2f} | {wall:.2f} |"
    )


def _versions(peer_python: Path) -> list[str]:
    names = ("torch", "transformers", "trl")
    script = f"from importlib.metadata import version; print(*map(version, {names!r}))"
    out = subprocess.run([peer_python, "-c", script], capture_output=True, text=True, check=True)
    return [f"{name} {found}" for name, found in zip(names, out.stdout.split(), strict=True)]


if __name__ == "__main__":
    main()
