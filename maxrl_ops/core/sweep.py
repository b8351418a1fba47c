"""What a sweep varies, and the runs that follow from it. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import TypeVar

from maxrl_ops.wire.logkeys import exact
from maxrl_ops.wire.rundir import is_run_name
from maxrl_ops.wire.settings import SETTINGS, SettingError, Value, nearest, to_text

T = TypeVar("T")

PRESETS: Mapping[str, str] = {
    "threshold": "correctness_threshold=15,20,25,30",
    "samples": "n_samples=4,8,16,32",
    "temperature": "weight_temperature=0.5,1,2",
}
"""The guide's three ablations."""

MOST_RUNS = 256
MOST_SEEDS = 100


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting, and the values that it takes."""

    key: str
    values: tuple[Value, ...]


Point = Mapping[str, Value]
"""A value for each axis, in their order."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a sweep."""

    name: str
    point: Point
    seed: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was asked for.

    Attributes:
        name: Its own, which its runs' names begin with.
        job_name: The group that its runs are in.
        axes: What is varied; all values of each with all of the others.
        seeds: Each point is run with each.
        settings: What all runs have in common; never a swept one, nor the seed.
        command: A command of the user's own instead of our trainer, or empty.
        mode, actuate: As in run.json.
        created: RFC 3339 in UTC.
    """

    name: str
    job_name: str
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Value] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    mode: str = "observe"
    actuate: str | None = None
    created: str = ""

    def points(self) -> list[Point]:
        """Every combination of values, the last axis turning fastest."""
        keys = [axis.key for axis in self.axes]
        return [
            dict(zip(keys, values, strict=True))
            for values in product(*(axis.values for axis in self.axes))
        ]

    def runs(self) -> list[Planned]:
        """Every run, seed by seed: a sweep cut short has all points with some seeds."""
        points = self.points()
        stems = _stems(self, points)
        return [
            Planned(f"{stem}-s{seed}", point, seed)
            for seed in self.seeds
            for stem, point in zip(stems, points, strict=True)
        ]


def label(point: Point) -> str:
    """`n_samples 4, learning_rate 0.001`."""
    return ", ".join(f"{key} {spelt(value)}" for key, value in point.items())


def spelt(value: Value) -> str:
    """A value as a person would write it: 20, not 20.0."""
    return exact(value) if isinstance(value, float) else to_text(value)


def _stems(sweep: Sweep, points: Sequence[Point]) -> list[str]:
    """Names of the points by key and value; by number where these are too long, or alike."""
    stems = [
        "-".join([sweep.name, *(f"{key}-{_plain(value)}" for key, value in point.items())])
        for point in points
    ]
    longest = f"-s{max(sweep.seeds)}"
    if len(set(stems)) == len(stems) and all(is_run_name(stem + longest) for stem in stems):
        return stems
    width = len(str(len(points)))
    return [f"{sweep.name}-{number:0{width}d}" for number in range(1, len(points) + 1)]


def _plain(value: Value) -> str:
    # Of a path its last part says enough.
    return re.sub(r"[^A-Za-z0-9._-]+", "-", spelt(value).rpartition("/")[2])


# --- What a person writes -------------------------------------------------------------------------


def axes_of(words: Sequence[str]) -> tuple[Axis, ...]:
    """The axes of presets and KEY=A,B,C.

    Raises:
        SettingError: A word is neither, names no setting, or has a value that it cannot take.
    """
    axes = tuple(_axis(PRESETS.get(word, word)) for word in words)
    key = _twice(axis.key for axis in axes)
    if key is not None:
        raise SettingError(f"{key} is given twice: give all of its values at once")
    return axes


def _twice(values: Iterable[T]) -> T | None:
    """One that is there again."""
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _axis(word: str) -> Axis:
    key, equals, values = word.partition("=")
    key = key.strip().replace("-", "_")
    if not equals:
        raise SettingError(
            f"there is no preset {word!r}{nearest(word, list(PRESETS))}: "
            f"give {', '.join(PRESETS)}, or KEY=A,B,C"
        )
    if key == "seed":
        raise SettingError("seed: give --seeds instead, for results are means over seeds")
    if key not in SETTINGS:
        hint = nearest(key, list(SETTINGS))
        raise SettingError(f"{word}: there is no setting {key!r}{hint}")
    parsed = tuple(SETTINGS[key].parse(text, key) for text in values.split(","))
    if (value := _twice(parsed)) is not None:
        raise SettingError(f"{word[:80]}: {spelt(value)} stands twice")
    return Axis(key, parsed)


def seeds_of(text: str) -> tuple[int, ...]:
    """`3` is 0, 1 and 2; `0,5` and `7,` are those seeds.

    Raises:
        SettingError: It is neither a count nor a list of different seeds.
    """
    if "," not in text:
        if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not 1 <= int(text) <= MOST_SEEDS:
            raise SettingError(
                f"--seeds={text!r} is not allowed: give a count from 1 to {MOST_SEEDS}, "
                f"or seeds with commas, as 0,1,2"
            )
        return tuple(range(int(text)))
    parts = [part for part in text.split(",") if part.strip()]
    seeds = tuple(int(SETTINGS["seed"].parse(part, "--seeds")) for part in parts)
    if not seeds or len(set(seeds)) != len(seeds):
        raise SettingError(f"--seeds={text!r} is not allowed: give different seeds, as 0,1,2")
    return seeds


def check_size(axes: Sequence[Axis], seeds: Sequence[int]) -> None:
    """Refuse what nobody waits for.

    Raises:
        SettingError: It would be more than MOST_RUNS runs.
    """
    points = prod(len(axis.values) for axis in axes)
    if points * len(seeds) > MOST_RUNS:
        raise SettingError(
            f"that would be {points * len(seeds)} runs ({points} points, {len(seeds)} seeds), "
            f"and a sweep has {MOST_RUNS} at most: give fewer values or seeds"
        )


def differences(asked: Sweep, now: Sweep) -> Iterator[str]:
    """How what is asked for now differs from what was asked for: `seeds 0,1 (was 0,1,2)`."""
    was, new = _facts(asked), _facts(now)
    for key in dict.fromkeys([*was, *new]):
        if was.get(key) != new.get(key):
            yield f"{key} {new.get(key, 'not given')} (was {was.get(key, 'not given')})"


def _facts(sweep: Sweep) -> dict[str, str]:
    """What a person may have asked for otherwise, as texts."""
    told = {axis.key: ",".join(map(spelt, axis.values)) for axis in sweep.axes}
    told["seeds"] = ",".join(map(str, sweep.seeds))
    told["job"], told["mode"] = sweep.job_name, sweep.mode
    told |= {key: spelt(value) for key, value in sweep.settings.items()}
    if sweep.command:
        told["command"] = " ".join(sweep.command)
    if sweep.actuate is not None:
        told["actuate"] = sweep.actuate
    return told
