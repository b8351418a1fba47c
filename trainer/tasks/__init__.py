"""Tasks by name or by where they are; a task's module is imported when it is chosen."""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from maxrl_ops.wire.settings import SettingError
from maxrl_ops.wire.task_spec import ALLOWED, Kind, TaskSpec
from trainer.tasks.base import Task

TASKS: Mapping[str, str] = {
    "rust": "trainer.tasks.rust.task:RustTask",
    "arithmetic": "trainer.tasks.arithmetic.task:ArithmeticTask",
}

# Seconds for the verdicts of a batch of somebody's own task.
REWARD_TIMEOUT = 60.0


def load_task(
    text: str,
    reward_command: str | None = None,
    reward_timeout: float = REWARD_TIMEOUT,
    *,
    unsafe_no_sandbox: bool = False,
) -> Task:
    """Build the task that `text`, a value of `--task`, stands for.

    Only the task rust runs what a model writes, and looks at `unsafe_no_sandbox`.

    Raises:
        SettingError: There is no such task, or a reward command where none belongs, or none.
        TrainerError: A task of one's own cannot be loaded.
    """
    try:
        spec = TaskSpec.parse(text)
    except ValueError:
        raise SettingError(f"there is no task {text!r}: give {ALLOWED}") from None
    if reward_command is not None and spec.kind is not Kind.PROMPTS:
        raise SettingError(
            f"MAXRL_REWARD_COMMAND goes with MAXRL_TASK=FILE.jsonl, and the task is {text}: "
            f"leave it out"
        )
    if spec.kind is Kind.SHIPPED:
        module, _, attribute = TASKS[spec.place].partition(":")
        options = {"unsafe_no_sandbox": unsafe_no_sandbox} if spec.place == "rust" else {}
        return cast("Task", getattr(import_module(module), attribute)(**options))
    if spec.kind is Kind.PROMPTS:
        from trainer.tasks.commanded import CommandTask  # noqa: PLC0415

        if reward_command is None:
            raise SettingError(
                f"the task {text} has prompts and no reward: give MAXRL_REWARD_COMMAND, such as "
                f"'python grade.py'"
            )
        return CommandTask(spec, reward_command, reward_timeout)
    from trainer.tasks import user_code  # noqa: PLC0415
    from trainer.tasks.guarded import GuardedTask  # noqa: PLC0415

    return GuardedTask(user_code.load(spec), spec, reward_timeout)


def close_task(task: Task) -> None:
    """End what a task keeps running."""
    close = getattr(task, "close", None)
    if close is not None:
        close()
