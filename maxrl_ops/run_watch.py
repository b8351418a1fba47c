"""One run under the daemon's eyes: its log is taken in, judged, and answered with a control.

Exactly once, whenever this process dies: events, decisions on them and the place in the log are one
transaction; a decision is published under an id that is found again in control/.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from maxrl_ops.attached import (
    dialect_of,
    found_out,
    keep_dialect,
    log_of,
    open_reader,
    still_to_read,
)
from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import (
    Decision,
    Declined,
    ForeignControl,
    Frozen,
    Hold,
    Input,
    ModeSet,
    Output,
    PolicyChanged,
    Published,
    Superseded,
)
from maxrl_ops.core.policy import Mode, Policy
from maxrl_ops.core.policy_table import policy_of
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import Totals
from maxrl_ops.dialects import Past, Reader
from maxrl_ops.hearing import Hearing, stamp_of
from maxrl_ops.own_log import say
from maxrl_ops.run_controls import RunControls
from maxrl_ops.store import Store, Stretch, Taken, Tally
from maxrl_ops.tailer import CHUNK, Chunk, Tailer
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.lines import TOO_LONG
from maxrl_ops.wire.record import (
    ControlApplied,
    ControlRejected,
    Event,
    IterationRecord,
    Unparsed,
)
from maxrl_ops.wire.rundir import RunDir

_ITERATION = re.compile(rb"^Iteration (\d{1,9})\b", re.M)
_TAIL = 256 * 1024
E = TypeVar("E", bound=Input)

_BUILT_IN = Policy()
# How many iterations are kept in memory, of each run: the newest is shown.
_MOST_KEPT = 64
# Stored events folded in a turn: about a third of a second of iterations.
_SLICE = 2000
_OF_CONTROL = (
    Decision | Published | Superseded | ForeignControl | Declined | Frozen | ModeSet | PolicyChanged
)
# A log that is so far ahead is read for seconds, of which people want to know.
_LONG = 64 << 20
_TELL_SECONDS = 5.0
# A full disk is not asked four times a second.
_RETRY_SECONDS = 5.0


class _Parsed(NamedTuple):
    """Complete lines, bytes and torn lines that are done with."""

    lines: int = 0
    bytes: int = 0
    torn: int = 0

    def since(self, before: "_Parsed") -> "_Parsed":
        """What was added to `before`."""
        return _Parsed(*(now - then for now, then in zip(self, before, strict=True)))


class RunWatch:
    """A run, from where its history ends.

    Attributes:
        run: Where it lies.
        spec: Its run.json.
        state: The autopilot's.
        history: The log, folded.
        totals: Counters over the log.
        tally: Counters of the tail.
        dialect: The log's format; None while it is not known.
        last_read: When bytes were read last (seconds since the epoch); None before the first.
    """

    def __init__(
        self,
        run: RunDir,
        spec: RunSpec,
        store: Store,
        policy: Policy,
        is_frozen: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take up the run's history, which the first ticks fold.

        `policy` is the one to judge by from now on; `is_frozen` says whether the host's autopilot
        is.

        Raises:
            HistoryError: It cannot be read.
        """
        self.run, self.spec = run, spec
        self._spec_stamp = stamp_of(run.spec)
        self.state = autopilot.State(mode=_mode(spec))
        self.history, self.totals = RunHistory(most_kept=_MOST_KEPT), Totals()
        self.last_read: float | None = None
        self.dialect = dialect_of(run, spec)
        self._store = store
        self._hearing = Hearing(run, policy, is_frozen)
        # The policy that the stored events tell; those of a history before there were any, the
        # built-in one judged.
        self._told: Policy | None = None
        self._id = store.run(spec.name, spec.created, spec.job_name)
        place, self.tally = store.place(self._id)
        self._folded, self._stored = 0, store.last_event(self._id)
        self._controls = RunControls(
            run, store.intended(self._id), store.newest_revision(self._id), is_frozen
        )
        self._tailer = Tailer(log_of(run, spec), place)
        self._parser: Reader = open_reader(run, spec, Past())
        # Of parsers before this one.
        self._closed = _Parsed()
        # When it was said how far a long log has been read (monotonic); None while there is none.
        self._told_at: float | None = None

    @property
    def id(self) -> int:
        """In the history."""
        return self._id

    @property
    def policy(self) -> Policy:
        """The one in force."""
        return _BUILT_IN if self._told is None else self._told

    def judge_by(self, policy: Policy) -> None:
        """Judge by another policy from the next turn on."""
        self._hearing.policy = policy

    @property
    def control_revision(self) -> int:
        """The newest control that was published, 0 before the first."""
        return self._controls.newest

    def is_replaced(self) -> bool:
        """Another run stands under this one's name."""
        return stamp_of(self.run.spec) != self._spec_stamp

    @property
    def lag(self) -> int:
        """Bytes of the log that were there and have not been read."""
        return self._tailer.lag

    @property
    def is_catching_up(self) -> bool:
        """The history is not folded up to its end: counters are too low, and no state is now's."""
        return self._folded < self._stored

    @property
    def is_settled(self) -> bool:
        """All is done that was to be done: a tick does something only once a file changes."""
        return not self.is_catching_up and not self._controls.intended and self._tailer.is_settled

    def has_news(self, *, is_frozen: bool) -> bool:
        """A tick would find something to do, as far as a look at the files tells.

        `is_frozen`: the host's autopilot was, a moment ago.
        """
        return (
            not self.is_settled
            or self._tailer.has_news
            or self._hearing.has_news(self.state, self._told, is_frozen=is_frozen)
        )

    # --- One turn ---------------------------------------------------------------------------------

    def tick(self, *, is_over: bool, is_frozen: bool | None = None) -> bool:
        """Fold a piece of the history, then read pieces of the log, and act on it.

        Returns:
            Whether anything happened.

        Args:
            is_over: Nobody writes the log any more: its last block is whole.
            is_frozen: The host's autopilot was, a moment ago; None: it is looked at.

        Raises:
            OSError: The log cannot be read.
            HistoryError: The history cannot be written; the piece will be read again.
        """
        if self.is_catching_up:
            self._catch_up()
            if not self.is_catching_up:
                self._parser = self._reopened()
            return True
        heard = self._hear(is_frozen)
        # An intent of a daemon that was killed comes before anything new.
        published = bool(self._controls.intended) and self._attend_control(
            self._publish_intended, is_over=is_over
        )
        chunk = self._next(is_over=is_over)
        before = self._parsed(len(chunk.data))
        events: list[Event] = []
        if chunk.is_fresh and not chunk.continues:
            events += self._end_file()
        events += self._parser.feed(chunk.data)
        if is_over and (not chunk.data if self.spec.is_attached else not self._tailer.lag):
            events += self._end_file()
        done = self._parsed().since(before)
        has_news = bool(chunk.data or chunk.lost or events or done.torn)
        if has_news:
            self._take(events, chunk, done)
            self._tell_progress()
        published |= self._attend_control(self._answer_control, is_over=is_over)
        return has_news or published or heard

    def _next(self, *, is_over: bool) -> Chunk:
        """The log's next piece; of a detached one, none beyond its end at that time."""
        if not (is_over and self.spec.is_attached):
            return self._tailer.read()
        left = still_to_read(self.run, log_of(self.run, self.spec), self._tailer.here)
        return self._tailer.read(min(CHUNK, left)) if left else Chunk(b"")

    def _parsed(self, to_come: int = 0) -> _Parsed:
        """What has been read so far but for what is pending, and for what is still to come.

        What is pending counts once it is done with: a restart begins in front of it.
        """
        done, parser = self._closed, self._parser
        return _Parsed(done.lines + parser.lines, -parser.pending - to_come, done.torn)

    def _end_file(self) -> list[Event]:
        """The events that a file's end completes; a last line without an end is in none."""
        events = self._parser.close()
        if self._parser.pending:
            # Nobody completes it any more: nobody has to begin with it again.
            self._closed = _Parsed(
                self._closed.lines + self._parser.lines, 0, self._closed.torn + 1
            )
            self._parser = self._reopened()
        return events

    def _reopened(self) -> Reader:
        """A reader that goes on behind all that was folded."""
        return open_reader(self.run, self.spec, Past(self.history.started, self.history.newest))

    def _tell_progress(self) -> None:
        """Say now and then how far a long log has been read."""
        now = time.monotonic()
        if self._tailer.lag < _LONG and self._told_at is None:
            return
        if self._told_at is None or now - self._told_at >= _TELL_SECONDS or not self._tailer.lag:
            done = self._tailer.here[1]
            whole = done + self._tailer.lag
            say(f"{self.run.name}: has read {done >> 20} of {whole >> 20} MiB of its log")
            self._told_at = now if self._tailer.lag else None

    def _catch_up(self) -> None:
        last = min(self._folded + _SLICE, self._stored)
        events = list(self._store.events(self._id, self._folded + 1, last))
        for piece in self._pieces(events):
            if isinstance(piece, list):
                self._fold_unjudged(piece)
            else:
                self._fold(piece, deciding=False)
        self._folded = last

    def _take(self, events: Sequence[Event], chunk: Chunk, done: _Parsed) -> None:
        """Fold the events in and commit them with the place behind them."""
        unparsed = dict(self.tally.unparsed)
        taken: list[Taken | Stretch] = []
        for piece in self._pieces(events):
            if isinstance(piece, list):
                taken.append(self._fold_unjudged(piece))
            elif isinstance(piece, Unparsed):
                unparsed[piece.reason] = unparsed.get(piece.reason, 0) + 1
                self.history.append(piece)
            else:
                if isinstance(piece, ControlApplied | ControlRejected):
                    taken += self._found_controls(piece.revision)
                waiting = set(self.state.suggested)
                taken.append(self._fold(piece))
                taken += self._outdated(waiting - self.state.suggested.keys())
        cut = sum(isinstance(event, Unparsed) and event.reason == TOO_LONG for event in events)
        self.tally = Tally(
            lines=self.tally.lines + done.lines,
            bytes=self.tally.bytes + done.bytes,
            unparsed=unparsed,
            rotations=self.tally.rotations + chunk.is_fresh,
            lost=self.tally.lost + chunk.lost,
            truncated=self.tally.truncated + done.torn + cut,
        )
        if chunk.data:
            self.last_read = time.time()
        if self.dialect is None and (found := found_out(self._parser)) is not None:
            # Before the commit: behind it the lines that told may not come again.
            keep_dialect(self.run, found)
            self.dialect = found
            say(f"{self.run.name}: its log is of the dialect {found}")
        self._commit(taken)

    def _outdated(self, intents: set[str]) -> list[Taken]:
        """Suggestions that nobody can approve any more: other values are in force."""
        at, why = self.state.iteration, "other values came into force before it was approved"
        return [self._fold(Superseded(intent, at, why)) for intent in sorted(intents)]

    def _pieces(self, events: Sequence[E]) -> Iterator[E | list[IterationRecord]]:
        """The events one by one, but for iterations that nobody judges: those at once.

        Each is to be folded in before the next is asked for.
        """
        start = 0
        while start < len(events):
            unjudged = self._unjudged(events, start)
            yield unjudged or events[start]
            start += len(unjudged) or 1

    def _unjudged(self, events: Sequence[Input], start: int) -> list[IterationRecord]:
        """The iterations from `start` on, each beyond the one before, while the rules are off."""
        found: list[IterationRecord] = []
        # An answer that is waited for may be missed at any iteration.
        if self.state.mode is not Mode.OFF or self.state.in_flight:
            return found
        highest = self.state.iteration
        for place in range(start, len(events)):
            event = events[place]
            if not isinstance(event, IterationRecord) or event.iteration <= highest:
                break
            highest = event.iteration
            found.append(event)
        return found

    def _fold_unjudged(self, records: list[IterationRecord]) -> Stretch:
        self.history.extend(records)
        self.totals.extend(records)
        newest = records[-1]
        self.state.iteration = newest.iteration
        self.state.target_iterations = newest.target_iterations or self.state.target_iterations
        return Stretch(records, self.state.attempt)

    def _fold(self, event: Input, *, deciding: bool = True) -> Taken:
        if not isinstance(event, _OF_CONTROL):
            self.history.append(event)
            self.totals.append(event)
        if isinstance(event, ControlRejected):
            self._controls.rejected.add(event.revision)
        is_off = self.state.mode is Mode.OFF
        deciding = deciding and not is_off
        if isinstance(event, PolicyChanged):
            told, now = policy_of(event.policy), self._hearing.policy
            # One and the same, where it is: compared with each other four times a second.
            self._told = now if told == now else told
        self.state, outputs = autopilot.reduce(self.state, event, self.policy, deciding=deciding)
        if deciding:
            self._intended_from(outputs)
        if is_off:
            outputs = tuple(output for output in outputs if not isinstance(output, Hold))
        return Taken(event, self.state.attempt, outputs)

    def _intended_from(self, outputs: Sequence[Output]) -> None:
        decisions = [output for output in outputs if isinstance(output, Decision)]
        self._controls.intended += [d for d in decisions if d.mode is Mode.ACT]

    def _commit(self, taken: Sequence[Taken | Stretch]) -> None:
        place = self._tailer.cursor(self._parser.pending)
        self._store.take(self._id, taken, (place, self.tally))

    # --- What people say --------------------------------------------------------------------------

    def _hear(self, is_frozen: bool | None) -> bool:
        """Take in another policy, a freeze, another mode and declined suggestions, if there are."""
        if is_frozen is None:
            is_frozen = self._hearing.is_frozen()
        told = self._hearing.heard(self.state, self._told, is_frozen=is_frozen)
        heard = [self._fold(event) for event in told]
        if heard:
            self._store.take(self._id, heard)
        return bool(heard)

    # --- Controls ---------------------------------------------------------------------------------

    def _attend_control(self, deed: Callable[..., bool], *, is_over: bool) -> bool:
        """Do something in control/, where there is one."""
        if self.spec.is_attached:
            return False
        return self._controls.attend(lambda: deed(is_over=is_over))

    def _answer_control(self, *, is_over: bool) -> bool:
        """Take in what others have published, and bring out what was decided."""
        # Before that, the log is still to tell of decisions that these may be the controls of.
        if not self._tailer.lag and self._controls.has_changed():
            self._take_controls()
        return self._publish_intended(is_over=is_over)

    def _take_controls(self) -> None:
        """Take in what others have published since the last look."""
        if taken := self._found_controls():
            self._store.take(self._id, taken)

    def _found_controls(self, highest: int | None = None) -> list[Taken]:
        """Controls up to that one that were not known; each comes before the answer to it."""
        found = self._controls.found(self.state, self.history.started, highest)
        return [self._fold(each) for each in found]

    def _publish_intended(self, *, is_over: bool) -> bool:
        """Bring every decision out that is not out yet, or say why not."""
        intended = self._controls.intended
        had = bool(intended)
        if had:
            # What is published must not be known to control/ alone.
            self._store.settle()
        while intended:
            outcome = self._controls.publish(intended[0], self.state, self.policy, is_over=is_over)
            taken = self._fold(outcome)
            self._store.take(self._id, [taken])
            intended.pop(0)
            if isinstance(outcome, Published):
                self._controls.newest = max(self._controls.newest, outcome.revision)
        return had


def _mode(spec: RunSpec) -> Mode:
    try:
        return Mode(spec.mode)
    except ValueError:
        # A mode of a newer version: whatever it allows, watching is allowed.
        return Mode.OBSERVE
