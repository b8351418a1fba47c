"""Both ends of the pipe between the driver and a stepper."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Work:
    """The same for both sides: a model to start from, and the shape of a step."""

    model: str
    directory: str
    prompts: int = 8
    n_samples: int = 8
    prompt_tokens: int = 32
    new_tokens: int = 64
    torch_compile: bool = False

    def prompt(self, number: int) -> str:
        """A prompt of `prompt_tokens` words of the benchmark's vocabulary."""
        return " ".join(f"w{(number * 131 + i * 7) % WORDS}" for i in range(self.prompt_tokens))


# Words that a prompt may hold; the vocabulary is larger where the model's is.
WORDS = 400


def is_right(ids: Sequence[int]) -> bool:
    """The reward of both sides: half of all random completions, and no work."""
    return sum(ids) % 2 == 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some steps: CPU seconds of the process, and wall seconds."""

    cpu: float
    wall: float


class Stepper:
    """A stepper, seen from the driver."""

    def __init__(self, python: Path, module: str, work: Work) -> None:
        process = subprocess.Popen(
            [python, "-P", "-m", module, json.dumps(asdict(work))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        self._process, self._asks, self._answers = process, process.stdin, process.stdout
        self._expect("ready")

    def step(self, count: int) -> Cost:
        """Have it make `count` steps."""
        print(count, file=self._asks, flush=True)
        return Cost(**json.loads(self._expect("cost ").removeprefix("cost ")))

    def close(self) -> None:
        """End it."""
        self._asks.close()
        self._process.wait(timeout=60)

    def _expect(self, start: str) -> str:
        for line in self._answers:
            if line.startswith(start):
                return line
        raise SystemExit(f"the stepper ended with {self._process.wait()}; its error stands above")


def own_work() -> Work:
    """The work that the driver asks this process to do."""
    return Work(**json.loads(sys.argv[1]))


def requests() -> Iterator[None]:
    """Once for each step that the driver asks for; tells it the cost of the steps asked for."""
    print("ready", flush=True)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.monotonic()
        for _ in range(int(line)):
            yield
        cost = Cost(time.process_time() - cpu, time.monotonic() - wall)
        print("cost", json.dumps(asdict(cost)), flush=True)
