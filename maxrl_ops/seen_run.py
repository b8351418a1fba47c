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
from maxrl_ops.pace import LOOK_SECONDS, REST_SECONDS
from maxrl_ops.run_reader import Life, age_of, heartbeat_of, life_of
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.systemd_files import RUN_UNIT
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import DocumentError, RunDir

# A log that was written within this grows.
_GROWING_SECONDS = 30.0
# A directory that was changed a moment ago may change again within one tick of the file system's
# clock: its time tells nothing yet.
_CLOCK_SECONDS = 1.0
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
        watch: None while it cannot be loaded, or need not be: what is over and shown costs no
            memory but its series.
        problem: Why it cannot, as said last.
        retry_at: Not before this (monotonic seconds).
        life: Of its supervisor and trainer.
        state: What `status` calls it.
        looked_at: When these were read (monotonic seconds).
        revived_at: When its supervisor was spawned anew last (monotonic seconds).
        lines: Its series.
        shown_as: What they were made of, beside its log and history.
        show_at: Not to be written anew before this (monotonic seconds).
        is_stale: Something has changed since.
        done_as: Stamps of run.json and state.json, and of an attached log, of a run that is over,
            taken in whole, and its series gone; None for any other.
        attached_log: The log of an attached run.
        looked_as: Stamps of all that a look looks at, where nothing but them can change it; none
            where they tell nothing yet.
        past_at: From when on nobody scrapes it any more, as of these (seconds since the epoch).
        is_busy: There may be more of what was looked at last.
        is_woken: Its log was written to since it was looked at.
        grown_at: When something of its log was read last (monotonic seconds).
        wakes: What is written to its log is taken to wake the loop: nothing was found unannounced
            since something was announced last.
    """

    run: RunDir
    watch: RunWatch | None = None
    problem: str | None = None
    retry_at: float = 0.0
    life: Life | None = None
    state: str = State.STARTING
    looked_at: float = -LOOK_SECONDS
    revived_at: float = -math.inf
    done_as: tuple[Stamp | None, ...] | None = None
    attached_log: Path | None = None
    lines: Lines = field(default_factory=dict)
    shown_as: object = None
    show_at: float = -math.inf
    is_stale: bool = True
    looked_as: tuple[Stamp | None, ...] | None = None
    past_at: float = -math.inf
    is_busy: bool = False
    is_woken: bool = False
    grown_at: float = -math.inf
    wakes: bool = True

    @property
    def trained(self) -> bool:
        """Somebody trained it, or was about to, at the last look: that it rests takes two looks."""
        return self.life is not None and self.state not in GRACE_SECONDS

    def is_due(
        self, now: float, *, is_watched: bool, is_frozen: bool, look_seconds: float = LOOK_SECONDS
    ) -> bool:
        """Something may have come, or it is time to look. Asked at each turn, of each run.

        An idle daemon does nothing else: a look takes a hundred times as long.
        """
        if self.is_busy or self.is_woken:
            return True
        if now - self.looked_at >= (look_seconds if self.looked_as is None else REST_SECONDS):
            return True
        # What has changed but is not shown yet waits for the next look, where there is one soon.
        is_unshown = self.is_stale and self.looked_as is not None and now >= self.show_at
        if self.watch is None:
            return self.looked_as is None
        if is_unshown:
            return True
        if is_watched and not self.is_hasty:
            # Should its log grow, that wakes the loop. Should it not, the look above finds it.
            return False
        return self.watch.has_news(is_frozen=is_frozen)

    @property
    def is_hasty(self) -> bool:
        """It is to be looked at at every tick: there may be more to do, and nothing wakes."""
        return not self.wakes or (self.watch is not None and not self.watch.is_settled)

    def goes_on(self, now: float) -> bool:
        """Somebody trains it, or its log grows; the others are of no account, however many."""
        is_live = self.looked_as is None or now - self.grown_at < _GROWING_SECONDS
        return self.watch is not None and is_live

    @property
    def is_over(self) -> bool:
        """Nobody writes its log any more."""
        return self.life is not None and self.life.has_ended

    def tick(self, watch: RunWatch, now: float, *, is_frozen: bool) -> bool:
        """A tick of the run's watch, of which is kept whether its log's writes wake.

        `is_frozen`: the host's autopilot was, a moment ago.
        """
        was_settled, last_read = watch.is_settled, watch.last_read
        has_done = watch.tick(is_over=self.is_over, is_frozen=is_frozen)
        if watch.last_read != last_read:
            self.grown_at = now
            if was_settled and not self.is_woken:
                # On a network file system, behind a link, or with nothing left to watch by. If the
                # wake is only late, it sets this right.
                self.wakes = False
        return has_done


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
    spec = spec_of(seen.run) if seen.watch is None else seen.watch.spec
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
    """Of all that a look looks at, none where one may change without another time.

    Of a file that is replaced whole, the directory's tells.
    """
    run = seen.run
    stamps = tuple(map(stamp_of, (run.path, run.control, run.checkpoints, run.log)))
    newest = max((stamp.mtime_ns for stamp in stamps if stamp), default=0)
    return stamps if time.time() - newest / 1e9 > _CLOCK_SECONDS else ()


def is_at_rest(seen: SeenRun) -> bool:
    """Only its files can change what there is to say of it: nobody trains, and no time runs."""
    if seen.attached_log is not None or seen.life is None or seen.life.is_active:
        return False
    return seen.state in GRACE_SECONDS and time.time() <= seen.past_at


def is_past(seen: SeenRun) -> bool:
    """The run has been over, or nobody's, for so long that nobody scrapes it any more."""
    return time.time() > past_at(seen)


def past_at(seen: SeenRun) -> float:
    """From when on that is so, in seconds since the epoch, if nothing is written any more."""
    if seen.state not in GRACE_SECONDS or (seen.life is not None and seen.life.trainer_alive):
        return math.inf
    run = seen.run
    if seen.state == State.FAILED and run.acknowledged.exists():
        return -math.inf
    told = (run.spec, run.state, run.detached, seen.attached_log or run.log)
    stamps = [stamp for path in told if (stamp := stamp_of(path))]
    newest = max((stamp.mtime_ns for stamp in stamps), default=0)
    return newest / 1e9 + GRACE_SECONDS[seen.state]


def in_one_line(error: Exception) -> str:
    """What a person is told of an error."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the run'}: {error.strerror or error}"
    return str(error)
