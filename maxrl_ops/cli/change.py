"""`set`, `switch`, `pause` and the like: publish a person's wish, await the trainer's answer."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from maxrl_ops import control_writer
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import active, is_active, named, names, refuse_attached
from maxrl_ops.cli.plain import line_of
from maxrl_ops.core.in_force import CONTROLLED, InForce
from maxrl_ops.core.printable import one_line
from maxrl_ops.run_reader import LogReader
from maxrl_ops.wire.control import Control, RevisionTakenError
from maxrl_ops.wire.logformat import number
from maxrl_ops.wire.record import Algorithm, ControlApplied, ControlRejected, Event
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import SETTINGS, SettingError, nearest
from trainer.objectives import DEFAULT_OBJECTIVE

_POLL_SECONDS = 0.1


def switch(algorithm: str, name: str | None, *, wait: float) -> int:
    """Switch to the algorithm's default objective."""
    families = {family.value.lower(): family for family in Algorithm}
    family = families.get(algorithm.lower())
    if family is None:
        raise CommandError(f"there is no algorithm {algorithm!r}: give {' or '.join(families)}")
    changes = {"objective": DEFAULT_OBJECTIVE[family]}
    return _change(name, changes, f"switch {family.value.lower()}", wait=wait)


def set_values(pairs: list[str], name: str | None, *, wait: float) -> int:
    """Change the values that `pairs` (KEY=VALUE) name; `mode` is the autopilot's, not the run's."""
    modes = [pair for pair in pairs if pair.partition("=")[0].strip() == "mode"]
    if modes:
        from maxrl_ops.cli.operating import set_mode  # noqa: PLC0415 - it imports this module

        if len(pairs) > 1:
            raise CommandError("mode=VALUE stands alone: no control carries it")
        return set_mode(name, modes[0].partition("=")[2].strip())
    return _change(name, _parsed(pairs), f"set {' '.join(pairs)}", wait=wait)


def live(lifecycle: str, name: str | None, *, wait: float) -> int:
    """Pause, continue, or save a checkpoint: the control's word for it is `lifecycle`."""
    words = {"run": "continue"}.get(lifecycle, lifecycle)
    return _change(name, {"lifecycle": lifecycle}, words, wait=wait)


def _parsed(pairs: list[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise CommandError(f"{pair!r} is not KEY=VALUE, as n_samples=16")
        if key not in CONTROLLED:
            hint = nearest(key, list(CONTROLLED))
            raise CommandError(
                f"{key!r} cannot be changed in a run{hint}; these can: {', '.join(CONTROLLED)}"
            )
        if key in changes:
            raise CommandError(f"{key} is given twice")
        try:
            changes[key] = SETTINGS[key].parse(text, key)
        except SettingError as error:
            raise CommandError(str(error)) from None
    return changes


def _change(name: str | None, changes: Mapping[str, Any], reason: str, *, wait: float) -> int:
    return publish(to_change(name), changes, reason, wait=wait)


def publish(
    run: RunDir,
    changes: Mapping[str, Any],
    reason: str,
    *,
    wait: float,
    intent: str | None = None,
) -> int:
    """Publish the changes that change anything, and say what the trainer answers.

    Raises:
        CommandError: They cannot be, or the trainer rejected them.
    """
    log = LogReader(run)
    log.read()
    _check_bounds(run, log, changes)
    in_force, acknowledged = log.history.in_force, log.history.acknowledged_revision or 0
    if not (new := _new(run, in_force, acknowledged, changes)):
        said = ", ".join(f"{key} is {value} already" for key, value in changes.items())
        sys.stdout.write(f"{run.name}: {said}.\n")
        return ExitCode.OK
    try:
        control = control_writer.change(run, in_force, acknowledged, new, reason, intent)
    except RevisionTakenError:
        raise CommandError(
            f"{run.name}: others publish controls all the time, try again", ExitCode.IN_USE
        ) from None
    return _answer(run, log, control, wait)


def to_change(name: str | None) -> RunDir:
    """The run, which somebody must be training.

    Raises:
        CommandError: It is over, or it is not clear which one is meant.
    """
    if name is not None:
        run = named(name)
        refuse_attached(run)
        if not is_active(run):
            raise CommandError(f"{name} is over, or nobody trains it: nothing can be changed")
        return run
    candidates = active()
    if len(candidates) != 1:
        which = f"{names(candidates)} are active; give --run" if candidates else "none is active"
        raise CommandError(f"which run? {which}")
    return candidates[0]


def _check_bounds(run: RunDir, log: LogReader, changes: Mapping[str, Any]) -> None:
    """Refuse at once what the trainer would reject."""
    started, threshold = log.history.started, changes.get("correctness_threshold")
    if threshold is None or started is None or started.bounds is None:
        return
    low, high = started.bounds
    if not low <= threshold <= high:
        raise CommandError(
            f"correctness_threshold={number(threshold)} is outside the bounds of {run.name}'s "
            f"task: give {number(low)} to {number(high)}"
        )


def _new(
    run: RunDir, in_force: InForce, acknowledged: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The changes that change anything.

    Raises:
        CommandError: The log does not tell what they would be made to.
    """
    wished = control_writer.wished(run, in_force, acknowledged)
    if wished is None:
        raise CommandError(
            f"{run.name}'s log does not tell its training state: it has not begun yet, or its "
            f"trainer cannot be changed while it runs"
        )
    before = {**asdict(wished), "lifecycle": control_writer.lifecycle(run)}
    if (before["lifecycle"], changes.get("lifecycle")) == ("pause", "checkpoint"):
        raise CommandError(
            f"{run.name} is paused, and saved a checkpoint when it was: nothing to save since"
        )
    if "restart_from" in changes:
        # Whatever else is so already: it is gone back for.
        return dict(changes)
    return {key: value for key, value in changes.items() if before[key] != value}


def _answer(run: RunDir, log: LogReader, control: Control, wait: float) -> int:
    """Wait for the trainer's answer, and say it."""
    deadline = time.monotonic() + wait
    while True:
        # Asked before reading: what was answered just before the end is seen.
        goes_on = is_active(run)
        if (answer := _find(log.read(), control.revision)) is not None:
            break
        if time.monotonic() >= deadline:
            sys.stdout.write(
                f"Control {control.revision} of {run.name} is published and not answered yet; "
                f"maxrl-ops decisions {run.name} will tell.\n"
            )
            return ExitCode.OK
        if not goes_on:
            raise CommandError(
                f"{run.name} ended before it answered control {control.revision}", ExitCode.BAD
            )
        time.sleep(_POLL_SECONDS)
    if isinstance(answer, ControlRejected):
        raise CommandError(
            f"{run.name} rejected control {control.revision}: {answer.reason}", ExitCode.BAD
        )
    sys.stdout.write(one_line(f"{run.name}: {line_of(answer)}") + "\n")
    return ExitCode.OK


def _find(events: list[Event], revision: int) -> ControlApplied | ControlRejected | None:
    """The answer to that control, or to one published after it, which holds it too."""
    for event in events:
        if isinstance(event, ControlApplied | ControlRejected) and event.revision >= revision:
            return event
    return None
