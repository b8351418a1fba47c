"""The healthy tasks that runs train on, and how long."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from trainer.tasks.base import Task

# Names the task that a sick one is made of.
TASK_ENV = "RESCUE_TASK"


@dataclass(frozen=True)
class SmallTask:
    """A task whose training costs CPU seconds.

    Attributes:
        spec: As `--task` takes it.
        place: Module and name of what makes it.
        flags: Of `start`: how it is trained when all is well.
        iterations: How long.
        samples: Drawn in an iteration.
        hard: The families that its model is worst at.
    """

    spec: str
    place: tuple[str, str]
    flags: tuple[str, ...]
    iterations: int
    samples: int
    hard: frozenset[str] = frozenset()

    @property
    def budget(self) -> int:
        """Samples that a healthy run draws."""
        return self.iterations * self.samples

    def make(self) -> Task:
        """The task itself."""
        module, name = self.place
        return cast("Task", getattr(import_module(module), name)())


def _flags(iterations: int, prompts: int, n_samples: int, every: int) -> tuple[str, ...]:
    return (
        *("--iterations", str(iterations)),
        *("--prompts-per-iteration", str(prompts)),
        *("--n-samples", str(n_samples)),
        *("--evaluate-every", str(every)),
        *("--evaluation-prompts", "64"),
        *("--checkpoint-every", "10"),
    )


def _small(name: str, hard: Sequence[str] = ()) -> SmallTask:
    module = f"benchmarks.small_tasks.{name}.task"
    return SmallTask(
        f"{module}:task", (module, "task"), _flags(200, 8, 8, 20), 200, 64, frozenset(hard)
    )


TASKS: Mapping[str, SmallTask] = {
    "rules": _small("rules", ("exchange", "interleave", "next", "sort")),
    "maze": _small("maze"),
    "arithmetic": SmallTask(
        "arithmetic",
        ("trainer.tasks.arithmetic.task", "ArithmeticTask"),
        _flags(100, 8, 8, 20),
        100,
        64,
        frozenset({"subtract"}),
    ),
}


def of_environment() -> SmallTask:
    """The one that RESCUE_TASK names."""
    return TASKS[os.environ[TASK_ENV]]


class Wrapped:
    """A healthy task under another roof: all that a subclass does not change is the task's."""

    def __init__(self) -> None:
        self.healthy = of_environment().make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.healthy, name)
