"""What an attached run is doing, as far as its log tells: nobody of ours trains it. Pure."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median

from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.run_state import State

WAITING = "waiting"
SILENT = "silent"
DETACHED = "detached"

_LEAST_SILENCE = 600.0
_OF_THE_LONGEST = 5.0
_RECENT = 50
_LAST_WORDS = {"finished": State.FINISHED, "failed": State.FAILED, "stopped": State.STOPPED}


def state_of_attached(history: RunHistory, log_age: float | None, *, is_detached: bool) -> str:
    """DETACHED, the log's last word, WAITING without a log, SILENT, or State.RUNNING.

    Args:
        history: The log, folded.
        log_age: Seconds since the log last grew; None where it is not there.
        is_detached: A person has ended it.
    """
    if is_detached:
        return DETACHED
    if history.ended is not None and history.ended.outcome in _LAST_WORDS:
        return str(_LAST_WORDS[history.ended.outcome])
    if log_age is None:
        return WAITING
    return SILENT if log_age > silence(history) else str(State.RUNNING)


def silence(history: RunHistory) -> float:
    """Seconds without a byte from which on a log counts as silent.

    Five times its longest iteration, of the recent ones; never less than ten minutes, for an
    evaluation or a checkpoint may be longer than any iteration.
    """
    records = history.iterations[-_RECENT:]
    lengths = [record.duration for record in records if record.duration is not None]
    lengths += _gaps([record.at for record in records])
    return max(_LEAST_SILENCE, _OF_THE_LONGEST * max(lengths, default=0.0))


def _gaps(times: Sequence[str | None]) -> list[float]:
    known = [datetime.fromisoformat(time) for time in times if time and _is_time(time)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(known)]
    # A trainer that stood still overnight does not have iterations of a night.
    typical = median(gaps) if gaps else 0.0
    return [gap for gap in gaps if gap <= 10 * typical]


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
