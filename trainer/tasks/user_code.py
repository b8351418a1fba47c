"""Loading a task from somebody's own code, with one line for whatever is wrong with it."""

import importlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from maxrl_ops.wire.settings import SETTINGS
from maxrl_ops.wire.task_spec import Kind, TaskSpec
from trainer.errors import ExitCode, TrainerError
from trainer.reward import PROFILES
from trainer.tasks.base import Task
from trainer.tasks.reason import one_line

_LONGEST_MESSAGE = 300
# draw_document is for building shipped models alone.
_METHODS = ("prepare", "training_prompts", "held_out_prompts", "answer_end", "verify")


def load(spec: TaskSpec) -> Task:
    """Import the module or file, call the function, and see that it gives a task.

    A task without a name gets that of its file or module.

    Raises:
        TrainerError: What is wrong, and in which line of the code.
    """
    module = _import_file(spec) if spec.kind is Kind.FILE else _import_module(spec)
    where = f"--task {spec.text}"
    make = getattr(module, spec.function, None)
    if make is None:
        raise TrainerError(f"{where}: {spec.place} has no {spec.function!r}", ExitCode.NOT_FOUND)
    if not callable(make):
        raise TrainerError(
            f"{where}: {spec.function} is a {type(make).__name__}, not a function that returns "
            f"a task"
        )
    task = _guarded(where, f"{spec.function}()", make)
    _check(task, f"{where}: {spec.function}() returns a {type(task).__name__} that is no task")
    return cast("Task", task)


def _import_module(spec: TaskSpec) -> ModuleType:
    where = f"--task {spec.text}"
    name = ""
    # Package by package: a module that is not there is told apart from one that fails.
    for part in spec.place.split("."):
        name = f"{name}.{part}" if name else part
        if not _is_there(name):
            raise TrainerError(
                f"{where}: there is no module {name!r}: install it, or put its directory on "
                f"PYTHONPATH",
                ExitCode.NOT_FOUND,
            )
        _guarded(where, f"importing {name}", partial(importlib.import_module, name))
    return sys.modules[name]


def _is_there(name: str) -> bool:
    """Whether a module exists; its packages are imported already."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # What it should lie in is no package.
        return False


def _import_file(spec: TaskSpec) -> ModuleType:
    where = f"--task {spec.text}"
    path = cast("Path", spec.path).resolve()
    if not path.is_file():
        raise TrainerError(f"{where}: {spec.place} is no file", ExitCode.NOT_FOUND)
    # Modules beside it can be imported; last, so that they never stand before anybody else's.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"maxrl_own_{spec.stem.replace('-', '_')}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise TrainerError(f"{where}: {path} cannot be imported")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    loader = found.loader
    _guarded(where, f"importing {path.name}", lambda: loader.exec_module(module))
    return module


def _guarded(where: str, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise TrainerError(f"{where}: {what} raises {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An exception in one line: its kind, its message, and the line of code it came from."""
    said = one_line(str(error), _LONGEST_MESSAGE)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        # Its message ends with the file and the line already, or the frames are the importer's.
        place = "" if "line" in said else f" ({Path(error.filename).name}:{error.lineno})"
    kind = type(error).__name__
    return (f"{kind}: {said}" if said else kind) + place


def _check(task: object, complaint: str) -> None:
    """See that `task` has what trainer.tasks.base.Task asks for.

    Raises:
        TrainerError: Something is missing or of a wrong kind; it is named.
    """
    for name in _METHODS:
        if not callable(getattr(task, name, None)):
            raise TrainerError(f"{complaint}: it has no method {name!r}")
    for name, (is_right, wanted) in _ATTRIBUTES.items():
        if not hasattr(task, name):
            raise TrainerError(f"{complaint}: it has no attribute {name!r}: {wanted}")
        value = getattr(task, name)
        if not is_right(value):
            raise TrainerError(f"{complaint}: its {name} is {value!r:.80}: {wanted}")


def _is_number(value: Any) -> bool:
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)


def _are_ascending(values: Any) -> bool:
    is_sequence = isinstance(values, tuple | list) and len(values) > 0
    return is_sequence and all(map(_is_number, values)) and list(values) == sorted(set(values))


def _are_bounds(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(map(_is_number, values))
        and values[0] <= values[1]
    )


_ATTRIBUTES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda v: isinstance(v, str) and v.isprintable() and len(v) <= 64,
        "up to 64 printable characters",
    ),
    "reference_threshold": (_is_number, "a number"),
    "reward_grid": (_are_ascending, "numbers, ascending, at least one"),
    "threshold_bounds": (_are_bounds, "the lowest and the highest threshold"),
    "reward_profiles": (
        lambda v: isinstance(v, tuple | list) and len(v) > 0 and all(p in PROFILES for p in v),
        f"one or more of {', '.join(PROFILES)}",
    ),
    "model_dir": (lambda v: v is None or isinstance(v, Path), "a pathlib.Path or None"),
    "is_chat": (lambda v: isinstance(v, bool), "True where prompts are messages to the model"),
    "profile": (
        lambda v: isinstance(v, Mapping) and all(key in SETTINGS for key in v),
        "settings by their keys, or {}",
    ),
}
