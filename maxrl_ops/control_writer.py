"""Publishes changes to a run's training: read what is wished now, change it, link it in."""

import os
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from maxrl_ops.core.in_force import CONTROLLED, InForce, carried, desired, with_changes
from maxrl_ops.wire.control import (
    Control,
    RevisionTakenError,
    TrainingState,
    publish,
    read_applied,
    read_newest,
)
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.rundir import RunDir

_ATTEMPTS = 10


class UnknownStateError(Exception):
    """The run's log does not tell what is in force: there is nothing to base a change on."""


def operator() -> str:
    """How a person's controls are signed: whoever called sudo, for root may be anybody."""
    caller = os.environ.get("SUDO_UID", "")
    if os.getuid() == 0 and caller.isascii() and caller.isdigit():
        return f"uid:{caller}"
    return f"uid:{os.getuid()}"


def wished(run: RunDir, in_force: InForce, acknowledged: int) -> TrainingState | None:
    """The training state that the next control starts from; None where nobody tells it."""
    answers = read_applied(run.applied)
    newest = read_newest(run.control).newest
    return desired(in_force, acknowledged, newest, answers[-1] if answers else None)


def lifecycle(run: RunDir) -> str:
    """What the next control says of the run's life where it is about something else."""
    answers = read_applied(run.applied)
    return carried(read_newest(run.control).newest, answers[-1] if answers else None)


def change(
    run: RunDir,
    in_force: InForce,
    acknowledged: int,
    changes: Mapping[str, Any],
    reason: str,
    intent: str | None = None,
) -> Control:
    """Publish an operator's change on top of what is wished now.

    `lifecycle` and `restart_from` may be among the changes; `intent` is that of the suggestion
    which is approved by it.

    Raises:
        UnknownStateError: The log does not tell the whole training state.
        RevisionTakenError: Others publish faster than we can read.
        OSError: control/ cannot be written.
    """
    for attempt in range(_ATTEMPTS):
        found = read_newest(run.control)
        base = wished(run, in_force, acknowledged)
        if base is None:
            raise UnknownStateError(run.name)
        highest = max([0 if found.newest is None else found.newest.revision, *found.unreadable])
        control = Control(
            revision=highest + 1,
            base_revision=highest,
            state=with_changes(base, {k: v for k, v in changes.items() if k in CONTROLLED}),
            author=operator(),
            reason=reason,
            time=utc_now(),
            lifecycle=str(changes.get("lifecycle", lifecycle(run))),
            intent=intent or uuid4().hex,
            restart_from=changes.get("restart_from"),
        )
        try:
            publish(run.control, control)
        except RevisionTakenError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return control
    raise AssertionError("unreachable: the last attempt returns or raises")
