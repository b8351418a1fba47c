"""Tasks by name; a task's module is imported when it is chosen."""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from trainer.tasks.base import Task

TASKS: Mapping[str, str] = {
    "rust": "trainer.tasks.rust.task:RustTask",
    "arithmetic": "trainer.tasks.arithmetic.task:ArithmeticTask",
}


def load_task(name: str) -> Task:
    """Build the task called `name`.

    Raises:
        ValueError: There is no such task; the message names those there are.
    """
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}: give {' or '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    return cast("Task", getattr(import_module(module), attribute)())
