"""sweeps/NAME.json: what a sweep was asked for. Written once; all else is in its runs' files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from maxrl_ops.core.sweep import Axis, Sweep
from maxrl_ops.wire.rundir import DocumentError, fsync_directory, read_json, write_all
from maxrl_ops.wire.settings import SETTINGS, SettingError, Value, from_table, to_text


def save(path: Path, sweep: Sweep) -> None:
    """Write it, whole or not at all.

    Raises:
        FileExistsError: There is one.
    """
    document = {
        "name": sweep.name,
        "job_name": sweep.job_name,
        "created": sweep.created,
        "axes": {axis.key: list(axis.values) for axis in sweep.axes},
        "seeds": list(sweep.seeds),
        "settings": dict(sweep.settings),
        "command": list(sweep.command),
        "mode": sweep.mode,
        "actuate": sweep.actuate,
    }
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    write_all(aside, (json.dumps(document, indent=1) + "\n").encode())
    try:
        os.link(aside, path)
    finally:
        aside.unlink()
    fsync_directory(path.parent)


def clear_leftovers(path: Path) -> None:
    """Remove what was written aside by whoever was killed; only with the sweep's lock held."""
    for left in path.parent.glob(f".{path.name}.*"):
        if left.name.removeprefix(f".{path.name}.").isdecimal():
            left.unlink(missing_ok=True)


def load(path: Path) -> Sweep:
    """Read it.

    Raises:
        FileNotFoundError: There is no such sweep.
        DocumentError: It is damaged.
    """
    raw = read_json(path)
    try:
        axes = cast("Mapping[str, list[Value]]", raw["axes"])
        actuate = raw.get("actuate")
        sweep = Sweep(
            name=str(raw["name"]),
            job_name=str(raw["job_name"]),
            axes=tuple(
                Axis(key, tuple(SETTINGS[key].parse(to_text(v), key) for v in values))
                for key, values in axes.items()
            ),
            seeds=tuple(int(seed) for seed in cast("list[int]", raw["seeds"])),
            settings=from_table(cast("Mapping[str, object]", raw["settings"]), str(path)),
            command=tuple(str(word) for word in cast("list[object]", raw["command"])),
            mode=str(raw["mode"]),
            actuate=None if actuate is None else str(actuate),
            created=str(raw["created"]),
        )
    except SettingError as error:
        raise DocumentError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DocumentError(f"{path}: {error!r} is missing or of a wrong kind") from None
    if sweep.name != path.stem or not sweep.axes or not all(a.values for a in sweep.axes):
        raise DocumentError(f"{path}: is not of the sweep {path.stem!r}, or varies nothing")
    return sweep
