"""The supervisor's side of a control that asks to start again from an earlier checkpoint.

The wish stands in control/, the answer in applied.jsonl: whoever is killed in between, the next
supervisor does the rest, and once it is answered nobody does it again.
"""

from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.control import (
    Applied,
    Control,
    append_applied,
    newest_answered,
    out_of_bounds,
    read_newest,
)
from maxrl_ops.wire.rundir import RunDir


def is_asked(run: RunDir, newest: Control | None) -> bool:
    """Whether the newest control asks for it, nobody has answered, and the checkpoint is there.

    What cannot be done is the trainer's to reject, which goes on.

    Raises:
        OSError: applied.jsonl cannot be read.
    """
    if newest is None or newest.restart_from is None:
        return False
    is_possible = checkpoints.can_go_back(run, newest.restart_from)
    is_new = newest.revision > newest_answered(run.applied)
    return is_new and is_possible and out_of_bounds(newest.state) is None


def go_back(run: RunDir) -> Control | None:
    """Do what is asked, if it is: the control that was answered; only with the run's lock held.

    Raises:
        OSError: Something could not be read or written; it is to be tried again before a trainer
            starts.
    """
    newest = read_newest(run.control).newest
    if newest is None or newest.restart_from is None or not is_asked(run, newest):
        return None
    # In this order: a trainer that finds the answer must not find a later checkpoint.
    checkpoints.drop_beyond(run, newest.restart_from)
    applied = Applied(
        newest.revision, newest.restart_from + 1, newest.state, None, newest.lifecycle
    )
    append_applied(run.applied, applied)
    return newest
