"""policy.toml: what a host's or a person's policy changes of a named one, checked to the column."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self

from maxrl_ops.core.policy import POLICIES, Mode, Policy
from maxrl_ops.core.policy_table import policy_of, table_of
from maxrl_ops.toml_places import Places, complaint_of, places_of
from maxrl_ops.wire.rundir import is_run_name, open_regular
from maxrl_ops.wire.settings import OBJECTIVE_NAMES, nearest

_LONGEST = 256 * 1024
_BASE = "guide"
# Off is a run's own: it is not judged at all.
_MODES = (Mode.ACT, Mode.SUGGEST, Mode.OBSERVE)

ORDERED = (
    ("low.below", "low.clears_above"),
    ("low.warm_up_least", "low.warm_up"),
    ("high.clears_below", "high.above"),
    ("unstable.least_baseline", "unstable.baseline"),
    ("unstable.spikes", "unstable.spikes_within"),
    ("unstable.drift_note", "unstable.drift_act"),
    ("nonfinite.skipped", "nonfinite.within"),
    ("judging.least_before", "judging.before"),
    ("bounds.threshold_least", "bounds.threshold_most"),
    ("bounds.weight_temperature_least", "bounds.weight_temperature_most"),
    ("bounds.n_samples_least", "bounds.n_samples_most"),
)
"""Pairs of numbers, as `group.name`: the first may not lie above the second."""


class PolicyError(ValueError):
    """A policy that cannot be used; the message is `file:line:column: what` in one line."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, and which runs may do less than it says.

    Attributes:
        policy: The whole of it.
        runs: What the autopilot may do at most, by the run's name.
        source: Its file; None where there is none, and the guide's policy is in force.
    """

    policy: Policy = field(default_factory=Policy)
    runs: Mapping[str, Mode] = field(default_factory=dict)
    source: Path | None = None

    def for_run(self, name: str) -> Policy:
        """The policy that one run is judged by."""
        own = self.runs.get(name)
        if own is None:
            return self.policy
        return replace(self.policy, mode=own.at_most(self.policy.mode))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it.

        Raises:
            FileNotFoundError: There is none.
            OSError: It cannot be read.
            PolicyError: Something in it is wrong.
        """
        with open_regular(path) as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise PolicyError(f"{path}: longer than {_LONGEST >> 10} KiB: no policy is")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PolicyError(f"{path}: not UTF-8 text (byte {error.start})") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Read what stands in `path`.

        Raises:
            PolicyError: Something in it is wrong.
        """
        try:
            table = tomllib.loads(text)
            places = places_of(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyError(f"{path}:{complaint_of(error, text)}") from None
        except ValueError:
            # Python's own limit; TOML has none.
            raise PolicyError(f"{path}: it has a number of thousands of digits") from None
        except RecursionError:
            raise PolicyError(f"{path}: nested too deeply: no policy is") from None
        return cls(*_Reader(path, places).read(table), path)

    @classmethod
    def of_home(cls, path: Path) -> Self:
        """Read it; the guide's policy where there is no file.

        Raises:
            OSError: It is there and cannot be read.
            PolicyError: Something in it is wrong.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            return cls()


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one file's table, and says where what is wrong stands."""

    path: Path
    places: Places

    def read(self, table: Mapping[str, Any]) -> tuple[Policy, Mapping[str, Mode]]:
        left = dict(table)
        base = self._base(left.pop("policy", _BASE))
        runs = self._runs(left.pop("runs", {}))
        changed = policy_of(table_of(base) | self._group((), base, left))
        self._check_order(changed)
        return changed, runs

    def _base(self, name: object) -> Policy:
        if not isinstance(name, str) or name not in POLICIES:
            hint = nearest(str(name), list(POLICIES))
            raise self._wrong(("policy",), f"there is no policy {name!r}{hint}; {_or(POLICIES)}")
        return POLICIES[name]

    def _runs(self, raw: object) -> dict[str, Mode]:
        if not isinstance(raw, dict):
            raise self._wrong(("runs",), 'runs is a table: [runs], and "rust-1" = "observe" below')
        for name in raw:
            if not is_run_name(name):
                raise self._wrong(("runs", name), f"{name!r} cannot be a run's name", at_key=True)
        return {name: self._mode(("runs", name), mode) for name, mode in raw.items()}

    def _group(self, at: tuple[str, ...], default: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The whole group as a table: what `raw` gives, and `default` elsewhere."""
        known = {each.name: each for each in fields(default) if (*at, each.name) != ("name",)}
        values = table_of(default)
        for key, value in raw.items():
            path = (*at, key)
            if key not in known:
                names = [*known, *(() if at else ("policy", "runs"))]
                where = f"in [{'.'.join(at)}]" if at else "in a policy"
                what = f"there is no {key!r} {where}{nearest(key, names)}"
                raise self._wrong(path, what, at_key=True)
            values[key] = self._value(path, getattr(default, key), value, known[key].metadata)
        return values

    def _value(
        self, path: tuple[str, ...], default: Any, raw: object, limits: Mapping[str, Any]
    ) -> Any:
        if is_dataclass(default):
            if not isinstance(raw, dict):
                raise self._wrong(path, f"{path[-1]} is a table: [{path[-1]}], and its keys below")
            return self._group(path, default, raw)
        if path[-1] == "mode":
            return str(self._mode(path, raw))
        match default:
            case bool():
                if isinstance(raw, bool):
                    return raw
                raise self._not_allowed(path, raw, "true or false")
            case str():
                return self._objective(path, raw)
            case tuple():
                return self._sizes(path, raw, limits)
        return self._number(path, default, raw, limits)

    def _mode(self, path: tuple[str, ...], raw: object) -> Mode:
        if not isinstance(raw, str) or raw not in set(_MODES):
            raise self._not_allowed(path, raw, _or(_MODES))
        return Mode(raw)

    def _objective(self, path: tuple[str, ...], raw: object) -> str:
        if not isinstance(raw, str) or raw not in OBJECTIVE_NAMES:
            raise self._not_allowed(path, raw, _or(OBJECTIVE_NAMES))
        return raw

    def _sizes(
        self, path: tuple[str, ...], raw: object, limits: Mapping[str, Any]
    ) -> tuple[int, ...]:
        what = f"1 to 16 whole numbers {_range(limits)}, rising, as [20, 30, 40, 60]"
        if not isinstance(raw, list) or not 1 <= len(raw) <= 16:
            raise self._not_allowed(path, raw, what)
        is_rising = all(_is_within(each, 0, limits) for each in raw) and raw == sorted(set(raw))
        if not is_rising:
            raise self._not_allowed(path, raw, what)
        return tuple(raw)

    def _number(
        self, path: tuple[str, ...], default: Any, raw: object, limits: Mapping[str, Any]
    ) -> Any:
        if not _is_within(raw, default, limits):
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise self._not_allowed(path, raw, f"{kind} {_range(limits)}")
        return type(default)(raw)

    def _check_order(self, policy: Policy) -> None:
        for low, high in ORDERED:
            below, above = number_at(policy, low), number_at(policy, high)
            if below > above:
                given = [key for key in (low, high) if tuple(key.split(".")) in self.places.values]
                path = tuple((given or [low])[-1].split("."))
                raise self._wrong(
                    path, f"{low} = {below:g} lies above {high} = {above:g}: change one of them"
                )

    def _not_allowed(self, path: tuple[str, ...], raw: object, allowed: str) -> PolicyError:
        return self._wrong(path, f"{'.'.join(path)} = {_spelt(raw)} is not allowed: give {allowed}")

    def _wrong(self, path: tuple[str, ...], what: str, *, at_key: bool = False) -> PolicyError:
        """The complaint, placed at the value, or at the key where there is no value of its own."""
        values, keys = self.places.values, self.places.keys
        place = (None if at_key else values.get(path)) or keys.get(path)
        return PolicyError(f"{self.path}:{place}: {what}" if place else f"{self.path}: {what}")


def number_at(policy: Policy, key: str) -> float:
    """The number that `group.name` names."""
    group, name = key.split(".")
    return float(getattr(getattr(policy, group), name))


def _is_within(raw: object, default: float, limits: Mapping[str, Any]) -> bool:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return False
    if isinstance(default, int) and not isinstance(raw, int):
        return False
    return math.isfinite(raw) and limits["least"] <= raw <= limits["most"]


def _range(limits: Mapping[str, Any]) -> str:
    return f"from {limits['least']:.10g} to {limits['most']:.10g}"


def _or(words: Any) -> str:
    return " or ".join(str(word) for word in words)


def _spelt(raw: object) -> str:
    """As it stands in the file, more or less, and short."""
    match raw:
        case bool():
            text = str(raw).lower()
        case str() | list() | dict():
            text = repr(raw)
        case _:
            text = str(raw)
    return text if len(text) <= 60 else text[:57] + "..."


# --- For people -----------------------------------------------------------------------------------


def to_toml(shown: PolicyFile) -> str:
    """The whole policy as a policy.toml with what every number means; it reads back as the same."""
    policy = shown.policy
    lines = [
        f"policy = {_quoted(policy.name)}",
        *_setting("mode", policy.mode, "what the autopilot may do at most, in every run"),
        "",
        "[runs]",
        '# "rust-1" = "observe"  # what it may do at most in one run',
        *(f"{_quoted(name)} = {_quoted(mode)}" for name, mode in shown.runs.items()),
    ]
    for name, group in groups_of(policy):
        lines += ["", f"# {(type(group).__doc__ or '').splitlines()[0]}", f"[{name}]"]
        for each in fields(group):
            about = each.metadata["about"]
            if "least" in each.metadata:
                about += f" [{_range(each.metadata).removeprefix('from ')}]"
            lines += _setting(each.name, getattr(group, each.name), about)
    return "\n".join(lines) + "\n"


def groups_of(policy: Policy) -> Iterator[tuple[str, Any]]:
    """Its groups of numbers, by name."""
    for each in fields(policy):
        if is_dataclass(group := getattr(policy, each.name)):
            yield each.name, group


def _setting(key: str, value: object, about: str) -> list[str]:
    match value:
        case None:
            return [f'# {key} = "observe"  # {about}']
        case bool():
            text = str(value).lower()
        case str():
            text = _quoted(value)
        case tuple():
            text = str(list(value))
        case _:
            text = str(value)
    return [f"{key} = {text}  # {about}"]


def _quoted(text: str) -> str:
    return f'"{text}"'
