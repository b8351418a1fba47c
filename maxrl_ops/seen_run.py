"""A run as the daemon has seen it last, and when it is to be looked at again."""

import math
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from maxrl_ops import supervisor, systemd
from maxrl_ops.attached import log_of
from maxrl_ops.core.attached import DETACHED, state_of_attached
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.run_state import State
from maxrl_ops.core.snapshot import UNWATCHED, state_of
from maxrl_ops.exporter import Lines
from maxrl_ops.hearing import Stamp, stamp_of
from maxrl_ops.notify import is_service
from maxrl_ops.own_log import say
from maxrl_ops.run_reader import Life, age_of, heartbeat_of, life_of
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.systemd_files import RUN_UNIT
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import DocumentError, RunDir

# How often the list of runs, and the state of each, is looked at again; of one that nobody trains.
LOOK_SECONDS = 1.0
_REST_SECONDS = 5.0
# Between two supervisors spawned for one run, where the first did not come up.
_REVIVE_SECONDS = 30.0
# How long an ended run's series stay: for a last scrape, and for whoever looks why it failed.
GRACE_SECONDS = {
    State.FINISHED: 3600.0,
    State.STOPPED: 3600.0,
    State.FAILED: 86_400.0,
    **dict.fromkeys(UNWATCHED, 86_400.0),
    DETACHED: 3600.0,
}


@dataclass(slots=True)
class SeenRun:
    """A run as of the last looks.

    Attributes:
        watch: None while it cannot be loaded, or need not be.
        problem: Why it cannot, as said last.
        retry_at: Not before this (monotonic seconds).
        life: Of its supervisor and trainer.
        state: What `status` calls it.
        looked_at: When these were read (monotonic seconds).
        polled_at: When its log was looked at last while it was at rest (monotonic seconds).
        revived_at: When its supervisor was spawned anew last (monotonic seconds).
        lines: Its series.
        shown_as: What they were made of, beside its log and history.
        shown_at: When they were written (monotonic seconds).
        is_stale: Something has changed since.
        done_as: Stamps of run.json and state.json, and of an attached log, of a run that is over,
            taken in whole, and its series gone; None for any other.
        attached_log: The log of an attached run.
        looked_as: Stamps of all that a look looks at, where nothing but them can change it.
        is_busy: There may be more of what was looked at last.
    """

    run: RunDir
    watch: RunWatch | None = None
    problem: str | None = None
    retry_at: float = 0.0
    life: Life | None = None
    state: str = State.STARTING
    looked_at: float = -LOOK_SECONDS
    polled_at: float = -LOOK_SECONDS
    revived_at: float = -math.inf
    done_as: tuple[Stamp | None, ...] | None = None
    attached_log: Path | None = None
    lines: Lines = field(default_factory=dict)
    shown_as: object = None
    shown_at: float = -math.inf
    is_stale: bool = True
    looked_as: tuple[Stamp | None, ...] | None = None
    is_busy: bool = False

    def is_due(self, now: float, *, is_watched: bool) -> bool:
        """Something may have come, or it is time to look. Asked four times a second, of each run.

        An idle daemon does nothing else: a look takes a hundred times as long.
        """
        if self.is_busy:
            return True
        if self.looked_as is not None and is_watched:
            # Nobody trains it, and should its log grow all the same, that wakes the loop.
            if now - self.polled_at < LOOK_SECONDS:
                return False
            self.polled_at = now
        if now - self.looked_at >= (LOOK_SECONDS if self.looked_as is None else _REST_SECONDS):
            return True
        if self.done_as is not None:
            return False
        # What has changed but is not shown yet waits for the next look, where there is one soon.
        is_unshown = self.is_stale and self.looked_as is not None
        return self.watch is None or is_unshown or self.watch.has_news

    @property
    def is_over(self) -> bool:
        """Nobody writes its log any more."""
        return self.life is not None and self.life.has_ended


def spec_of(run: RunDir) -> RunSpec:
    """Its run.json.

    Raises:
        DocumentError: It is missing or damaged.
    """
    try:
        return RunSpec.load(run)
    except FileNotFoundError:
        raise DocumentError(f"{run.spec}: there is no such file") from None


def look(seen: SeenRun, now: float) -> None:
    """See what the run is doing."""
    seen.life, seen.looked_at = life_of(seen.run), now
    spec = spec_of(seen.run)
    if spec.is_attached:
        seen.attached_log = log_of(seen.run, spec)
        history = seen.watch.history if seen.watch is not None else RunHistory()
        age = age_of(seen.attached_log)
        seen.state = state_of_attached(history, age, is_detached=seen.life.is_detached)
        return
    seen.state = state_of(
        spec.created,
        seen.life.state,
        heartbeat_of(seen.run),
        datetime.now(UTC),
        is_watched=seen.life.supervisor_alive,
        is_cut_off=seen.life.is_cut_off,
    )


def revive(seen: SeenRun, now: float) -> None:
    """Give a trainer that lives on without its supervisor another one, which adopts it.

    And a run that is to go on after a reboot. Only those of ours: a supervisor of another user's
    could neither signal the trainer nor write.
    """
    life = seen.life
    if life is None or life.has_ended or life.supervisor_alive:
        return
    if not life.trainer_alive and not (life.is_cut_off and spec_of(seen.run).restart_on_boot):
        return
    is_due = now - seen.revived_at >= _REVIVE_SECONDS
    if not is_due or seen.run.state.stat().st_uid != os.getuid():
        return
    trainer = None if life.state is None else life.state.trainer
    if trainer is not None and systemd.holds(seen.run, trainer.pid):
        # Its unit starts another supervisor.
        return
    is_first, seen.revived_at = math.isinf(seen.revived_at), now
    if is_service(os.environ):
        # One of ours would end with us, and could reach no GPU.
        if is_first:
            unit = RUN_UNIT.format(seen.run.name)
            say(f"{seen.run.name}: {_found(life)}: start {unit}")
        return
    try:
        pid = supervisor.spawn(seen.run)
    except OSError as error:
        say(f"{seen.run.name}: {_found(life)}, and no supervisor came up: {in_one_line(error)}")
        return
    does = "adopts it" if life.trainer_alive else "goes on with it"
    say(f"{seen.run.name}: {_found(life)}: pid {pid} {does}")


def _found(life: Life) -> str:
    if life.trainer_alive:
        return "its supervisor is dead, its trainer lives"
    return "a reboot has cut it off"


def stamps_of(seen: SeenRun) -> tuple[Stamp | None, ...]:
    """Of what tells that another run stands in its place, or that it goes on."""
    run = seen.run
    own = stamp_of(run.spec), stamp_of(run.detached) or stamp_of(run.state)
    return own if seen.attached_log is None else (*own, stamp_of(seen.attached_log))


def all_stamps_of(seen: SeenRun) -> tuple[Stamp | None, ...]:
    """Of all that a look looks at."""
    run = seen.run
    return (*stamps_of(seen), *map(stamp_of, (run.heartbeat, run.control, run.checkpoints)))


def is_at_rest(seen: SeenRun) -> bool:
    """Only its files can change what there is to say of it: nobody trains, and no time runs."""
    if seen.attached_log is not None or seen.life is None or seen.life.is_active:
        return False
    return seen.state in GRACE_SECONDS and not is_past(seen)


def is_past(seen: SeenRun) -> bool:
    """The run has been over, or nobody's, for so long that nobody scrapes it any more."""
    if seen.state not in GRACE_SECONDS or (seen.life is not None and seen.life.trainer_alive):
        return False
    run = seen.run
    if seen.state == State.FAILED and run.acknowledged.exists():
        return True
    told = (run.spec, run.state, run.detached, seen.attached_log or run.log)
    stamps = [stamp for path in told if (stamp := stamp_of(path))]
    newest = max((stamp.mtime_ns for stamp in stamps), default=0)
    return time.time() - newest / 1e9 > GRACE_SECONDS[seen.state]


def in_one_line(error: Exception) -> str:
    """What a person is told of an error."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the run'}: {error.strerror or error}"
    return str(error)
