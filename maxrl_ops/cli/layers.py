"""Where settings come from, lowest first: --from RUN, --config FILE, the environment, flags."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.wire.record import Algorithm
from maxrl_ops.wire.settings import SCHEDULES, SETTINGS, Value, from_environment, from_table
from trainer.objectives import OBJECTIVES

Layer = dict[str, Value]

# Two ways to say the same: who gives one of them replaces both of a lower layer.
_SAME = frozenset({"use_maxrl", "objective"})
# Which algorithm, in all words that there are for it.
_ALGORITHM = _SAME | {"schedule"}


_ALGORITHMS = ("grpo", "maxrl", "hybrid", "adaptive")


def of_flags(flags: Mapping[str, str | bool | None], algorithm: str | None) -> Layer:
    """The settings given on the command line.

    Raises:
        SettingError: A value is not allowed.
        CommandError: Two flags contradict each other.
    """
    layer: Layer = {}
    for key, given in flags.items():
        if isinstance(given, bool):
            layer[key] = given
        elif given is not None:
            layer[key] = SETTINGS[key].parse(given, "--" + key.replace("_", "-"))
    if algorithm is not None:
        _add_algorithm(layer, algorithm)
    refuse_contradiction(layer, _as_flag)
    return layer


def _add_algorithm(layer: Layer, algorithm: str) -> None:
    folded = algorithm.strip().lower()
    if folded not in _ALGORITHMS:
        allowed = " or ".join(_ALGORITHMS)
        raise CommandError(f"--algorithm={algorithm!r} is not allowed: give {allowed}")
    if folded in SCHEDULES:
        layer["schedule"] = folded
    # What begins with GRPO ends with MaxRL.
    use_maxrl = folded != "grpo"
    if layer.get("use_maxrl", use_maxrl) != use_maxrl:
        other = _as_flag("use_maxrl", layer["use_maxrl"])
        raise CommandError(
            f"--algorithm {folded} and {other} contradict each other: leave one of them out"
        )
    layer["use_maxrl"] = use_maxrl


def of_environment(env: Mapping[str, str]) -> Layer:
    """The settings in `USE_MAXRL` and `MAXRL_*`."""
    layer = from_environment(env)
    refuse_contradiction(layer, lambda key, value: f"{SETTINGS[key].env}={str(value).lower()}")
    return layer


def of_file(path: Path) -> Layer:
    """The settings in a TOML file.

    Raises:
        CommandError: There is no such file, or it is not TOML.
        SettingError: It has an unknown key or a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"--config: there is no file {path}", ExitCode.NOT_FOUND) from None
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: not UTF-8 text (byte {error.start})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CommandError(_where(path, text, str(error))) from None
    layer = from_table(table, str(path))
    refuse_contradiction(layer, lambda key, value: f"{path}: {key} = {str(value).lower()}")
    return layer


def _where(path: Path, text: str, complaint: str) -> str:
    """A complaint `Invalid value (at line 3, column 5)` of tomllib as file:3:5: Invalid value."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", complaint, re.DOTALL)
    if found:
        return f"{path}:{found[2]}:{found[3]}: {found[1]}"
    lines = text.split("\n")
    what = complaint.removesuffix(" (at end of document)")
    return f"{path}:{len(lines)}:{len(lines[-1]) + 1}: {what} (the file ends here)"


def merge(*layers: Mapping[str, Value]) -> Layer:
    """Layers, lowest first, as one."""
    merged: Layer = {}
    for layer in layers:
        if _ALGORITHM & layer.keys():
            merged = {key: value for key, value in merged.items() if key not in _ALGORITHM}
        merged.update(layer)
    return merged


def _as_flag(key: str, value: Value) -> str:
    if key == "use_maxrl":
        return "--use-maxrl" if value else "--use-grpo"
    return f"--{key.replace('_', '-')} {value}"


def refuse_contradiction(layer: Layer, spell: Callable[[str, Value], str]) -> None:
    """One layer must not ask for GRPO and for a MaxRL objective.

    Raises:
        CommandError: It does.
    """
    if not layer.keys() >= _SAME:
        return
    objective = str(layer["objective"])
    algorithm = OBJECTIVES[objective].algorithm
    if layer["use_maxrl"] != (algorithm is Algorithm.MAXRL):
        both = " and ".join(spell(key, layer[key]) for key in ("use_maxrl", "objective"))
        raise CommandError(
            f"{both} contradict each other: {objective} is a {algorithm} objective; "
            f"leave one of them out"
        )
