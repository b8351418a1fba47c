"""A policy as a table of tables: how a history, a file and a person see it."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from maxrl_ops.core.policy import Mode, Policy


def table_of(policy: Any) -> dict[str, Any]:
    """A policy, or one group of it; as JSON takes it, without modes that are not given."""
    return {key: _plain(value) for key, value in asdict(policy).items() if value is not None}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items() if each is not None}
        case tuple():
            return list(value)
        case Mode():
            return str(value)
    return value


def policy_of(table: Mapping[str, Any]) -> Policy:
    """The policy that `table_of` was given.

    What a table of another version lacks is as the guide's policy has it, and what it has beyond
    is left out: nothing here could go by it.
    """
    filled: Policy = _filled(Policy(), table)
    return filled


def _filled(default: Any, table: Mapping[str, Any]) -> Any:
    values = {
        each.name: _value(each.name, getattr(default, each.name), table[each.name])
        for each in fields(default)
        if each.name in table
    }
    return type(default)(
        **{each.name: getattr(default, each.name) for each in fields(default)} | values
    )


def _value(name: str, default: Any, raw: Any) -> Any:
    if is_dataclass(default):
        return _filled(default, raw)
    if name == "mode":
        return Mode(raw)
    return tuple(raw) if isinstance(default, tuple) else raw
