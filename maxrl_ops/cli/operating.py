"""`approve`, `decline`, `freeze`, `unfreeze`, `set mode=`: a person's word on the autopilot."""

import sys
from collections.abc import Sequence

from maxrl_ops import control_writer, operator_files
from maxrl_ops.cli import change
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, meant, refuse_attached
from maxrl_ops.core.entry import Entry, values_text
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.printable import one_line
from maxrl_ops.daemon_file import running
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.journal import Journal
from maxrl_ops.operator_files import Wish
from maxrl_ops.wire import control
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.rundir import RunDir, make_directories
from maxrl_ops.wire.settings import nearest


def _wish() -> Wish:
    return Wish(control_writer.operator(), utc_now())


def _told(sentence: str) -> None:
    """Say it; where no daemon runs, that it takes effect once one does."""
    later = "" if running(home()) else " (no daemon is running: it counts once one does)"
    sys.stdout.write(one_line(f"{sentence}{later}.") + "\n")


# --- Suggestions ----------------------------------------------------------------------------------


def approve(name: str | None, intent: str | None, *, wait: float) -> int:
    """Publish what was suggested, under the suggestion's intent."""
    run = change.to_change(name)
    meant = _suggestion(run, intent)
    reason = f"approve {meant.intent}"
    return change.publish(run, meant.control, reason, wait=wait, intent=meant.intent)


def decline(name: str | None, intent: str | None) -> int:
    """Say that a suggestion is not wanted; it is not made again."""
    run = meant(name)
    declined = _suggestion(run, intent)
    operator_files.decline(run, str(declined.intent), _wish())
    _told(f"{run.name}: {declined.rule} is not to set {values_text(declined.control)}")
    return ExitCode.OK


def _suggestion(run: RunDir, intent: str | None) -> Entry:
    """The suggestion that is meant, which nobody has answered yet.

    Raises:
        CommandError: There is none, several wait, or somebody was quicker.
    """
    waiting = _waiting(run)
    if intent is not None:
        found = [entry for entry in waiting if entry.intent == intent]
        if not found:
            known = [str(entry.intent) for entry in waiting]
            which = f"; these wait: {', '.join(known)}" if known else "; none waits"
            raise CommandError(
                f"{run.name} has no suggestion {intent!r}{nearest(intent, known)}{which}",
                ExitCode.NOT_FOUND,
            )
        return found[0]
    if not waiting:
        raise CommandError(
            f"{run.name} has no suggestion that waits; maxrl-ops decisions {run.name} --why-not "
            "tells what is held",
            ExitCode.NOT_FOUND,
        )
    if len(waiting) > 1:
        listed = "; ".join(f"{each.intent} ({values_text(each.control)})" for each in waiting)
        raise CommandError(f"{run.name} has {len(waiting)} suggestions, name one: {listed}")
    return waiting[0]


def _waiting(run: RunDir) -> Sequence[Entry]:
    """Suggestions, without those that were answered since the daemon looked last."""
    try:
        with Journal(home().history) as journal:
            entries = journal.entries(run.name)
    except FileNotFoundError:
        return []
    except HistoryError as error:
        raise CommandError(str(error), ExitCode.BAD) from None
    suggested = [entry for entry in entries if entry.outcome == "suggested" and entry.intent]
    published = _published(run) if suggested else set()
    return [
        entry
        for entry in suggested
        if entry.intent not in published and not operator_files.is_declined(run, str(entry.intent))
    ]


def _published(run: RunDir) -> set[str | None]:
    revisions = control.revisions(run.control)
    return {found.intent for n in revisions if (found := control.read(run.control, n)) is not None}


# --- Modes ----------------------------------------------------------------------------------------


def mode_of(text: str) -> Mode:
    """The mode of that name.

    Raises:
        CommandError: There is none.
    """
    if text not in set(Mode):
        known = ", ".join(Mode)
        raise CommandError(
            f"mode={text!r} is not allowed{nearest(text, list(Mode))}: give one of {known}"
        )
    return Mode(text)


def set_mode(name: str | None, text: str) -> int:
    """Say what the autopilot may do in a run from now on."""
    mode = mode_of(text)
    run = meant(name)
    refuse_attached(run)
    operator_files.set_mode(run, mode, _wish())
    _told(f"{run.name}: the autopilot's mode is {mode}")
    return ExitCode.OK


# --- The host's autopilot -------------------------------------------------------------------------


def freeze() -> int:
    """Let the autopilot of every run change nothing."""
    make_directories(home().path)
    operator_files.freeze(home(), _wish())
    frozen = operator_files.frozen_by(home())
    since = f", since {frozen.time} by {frozen.author}" if frozen and frozen.time else ""
    _told(f"The autopilot of {home().path} is frozen{since}: it changes nothing in any run")
    return ExitCode.OK


def unfreeze() -> int:
    """Set it free again."""
    if operator_files.unfreeze(home()):
        _told(f"The autopilot of {home().path} is free again")
    else:
        sys.stdout.write("It is not frozen.\n")
    return ExitCode.OK
