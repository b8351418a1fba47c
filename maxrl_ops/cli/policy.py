"""`policy`: the numbers in force, or a file's, as a policy.toml that says what each means."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.core.policy import POLICIES
from maxrl_ops.core.policy_table import table_of
from maxrl_ops.core.printable import one_line
from maxrl_ops.policy_file import PolicyError, PolicyFile, to_toml
from maxrl_ops.settings import Home
from maxrl_ops.wire.settings import nearest
from maxrl_ops.wire.user_paths import expanded


def policy(named: str | None, check: str | None, *, as_json: bool) -> int:
    """Print a policy, or say what a file changes."""
    if named is not None and check is not None:
        raise CommandError("--named and --check: give one of them")
    meant = _named(named) if named is not None else in_force() if check is None else read(check)
    changed = changes_of(meant)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(meant, changed), indent=1) + "\n")
    elif check is not None:
        sys.stdout.write(_said(meant, changed))
    else:
        sys.stdout.write(to_toml(meant))
    return ExitCode.OK


def in_force() -> PolicyFile:
    """The home's policy.toml; the guide's policy where there is none.

    Raises:
        CommandError: It is there, and cannot be used.
    """
    try:
        return PolicyFile.of_home(Home.find(os.environ).policy)
    except PolicyError as error:
        raise CommandError(str(error)) from None


def read(file: str) -> PolicyFile:
    """The policy in that file.

    Raises:
        CommandError: There is none, or it cannot be used.
    """
    path = expanded(file)
    try:
        return PolicyFile.load(path)
    except FileNotFoundError:
        raise CommandError(f"there is no file {file}", ExitCode.NOT_FOUND) from None
    except PolicyError as error:
        raise CommandError(str(error)) from None


def _named(name: str) -> PolicyFile:
    if name not in POLICIES:
        known = " or ".join(POLICIES)
        hint = nearest(name, list(POLICIES))
        raise CommandError(f"there is no policy {name!r}{hint}: give {known}")
    return PolicyFile(POLICIES[name])


def changes_of(meant: PolicyFile) -> dict[str, tuple[Any, Any]]:
    """What it has otherwise than the named policy that it begins with: (there, here), by key."""
    base = _flat(table_of(POLICIES[meant.policy.name]))
    here = _flat(table_of(meant.policy))
    keys = [*here, *(base.keys() - here.keys())]
    return {key: (base.get(key), here.get(key)) for key in keys if base.get(key) != here.get(key)}


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": each for name, each in value.items()}
        else:
            found[key] = value
    return found


def _said(meant: PolicyFile, changed: Mapping[str, tuple[Any, Any]]) -> str:
    lines = [f"{meant.source}: a policy, {meant.policy.name} with {len(changed)} changes"]
    lines += [f"{key} = {here} (was {was})" for key, (was, here) in changed.items()]
    lines += [f"{name}: at most {mode}" for name, mode in meant.runs.items()]
    return "\n  ".join(map(one_line, lines)) + "\n"


def _as_json(meant: PolicyFile, changed: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {
        "source": None if meant.source is None else str(meant.source),
        "policy": table_of(meant.policy),
        "runs": {name: str(mode) for name, mode in meant.runs.items()},
        "changed": {key: {"was": was, "is": here} for key, (was, here) in changed.items()},
    }
