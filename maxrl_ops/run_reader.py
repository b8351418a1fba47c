"""Reads a run's files for whoever watches it: the log incrementally, the rest as it stands.

Reading only: a run is never changed, locked or slowed by being looked at.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from maxrl_ops import processes, taken_in
from maxrl_ops.attached import GUIDE, log_of
from maxrl_ops.continued_reader import ContinuedReader
from maxrl_ops.core import snapshot
from maxrl_ops.core.entry import Told
from maxrl_ops.core.interruption import is_cut_off
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.run_state import ENDED
from maxrl_ops.core.snapshot import Observed, RunSnapshot
from maxrl_ops.journal import JournalReader
from maxrl_ops.log_files import RenamingError, rotated
from maxrl_ops.operator_files import mode_of
from maxrl_ops.refusal import refusal
from maxrl_ops.wire import control
from maxrl_ops.wire.documents import Heartbeat, ProcessIdentity, RunSpec, SupervisorState
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import Event
from maxrl_ops.wire.rundir import DocumentError, RunDir, open_regular

_CHUNK = 1024 * 1024


class LogReader:
    """trainer.log from its beginning, a piece more at each call.

    Attributes:
        history: Everything read so far, folded.
        dialect: The log's format.
    """

    dialect = GUIDE

    def __init__(self, run: RunDir) -> None:
        self.history = RunHistory()
        self._path = run.log
        self._parser = Parser()
        self._inode = 0
        self._offset = 0

    def read(self) -> list[Event]:
        """Fold in what the log has grown by, and return it; a log that is not there is empty.

        A log that was replaced or cut is read again from its beginning, and what rotation has made
        of it before comes first.
        """
        events: list[Event] = []
        try:
            with open_regular(self._path) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    events += self._restart(status.st_ino)
                file.seek(self._offset)
                while data := file.read(_CHUNK):
                    self._offset += len(data)
                    events += self._fold(self._parser.feed(data))
        except FileNotFoundError:
            pass
        return events

    def close(self) -> list[Event]:
        """Fold in a last block that nothing closes, once nobody writes any more."""
        return self._fold(self._parser.close())

    def _restart(self, inode: int) -> list[Event]:
        self._inode, self._offset = inode, 0
        self._parser, self.history = Parser(), RunHistory()
        events: list[Event] = []
        with suppress(RenamingError, OSError):
            for earlier in rotated(self._path):
                if earlier.inode == inode:
                    continue
                with open_regular(earlier.path) as file:
                    while data := file.read(_CHUNK):
                        events += self._fold(self._parser.feed(data))
        return events

    def _fold(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.history.append(event)
        return events


class RunReader:
    """One run, looked at again and again.

    Attributes:
        run: Where it lies.
        spec: Its run.json.
        is_brief: The history tells how it stood, and the log is read from there.
    """

    def __init__(
        self, run: RunDir, journal: JournalReader | None = None, newest: int | None = None
    ) -> None:
        """Read run.json; `journal` tells of decisions.

        Args:
            run: Where it lies.
            journal: Tells of decisions, and of what the daemon has read of the log.
            newest: What it has read is not read again, for only so many of the newest iterations
                are asked for; None: all.

        Raises:
            DocumentError: It is missing or damaged.
        """
        self.run = run
        try:
            self.spec = RunSpec.load(run)
        except FileNotFoundError:
            raise DocumentError(f"{run.spec}: there is no such file") from None
        self._log: LogReader | ContinuedReader = LogReader(run)
        known = journal.newest(self.spec, newest) if newest and journal else None
        self.is_brief = known is not None
        if self.spec.is_attached and journal and not newest:
            known = taken_in.whole(journal.path, self.spec)
        if known is not None or self.spec.is_attached:
            self._log = ContinuedReader(run, self.spec, known)
        self._journal = journal

    @property
    def history(self) -> RunHistory:
        """The log, folded, as of the last look."""
        return self._log.history

    def look(self, life: "Life | None" = None) -> tuple[RunSnapshot, list[Event]]:
        """What the run is like now, and what its log told since the last look.

        `life` was looked at a moment ago.

        Raises:
            DocumentError: state.json is damaged.
        """
        # The state first: a run that is over when it is read has its whole log behind it.
        life = life or life_of(self.run)
        events = self._log.read()
        shown = self._take(life)
        if shown.is_over and (rest := self._log.close()):
            events += rest
            shown = self._take(life)
        return shown, events

    def _take(self, life: "Life") -> RunSnapshot:
        return snapshot.take(
            self.spec, life.state, heartbeat_of(self.run), self.history, self._observed(life)
        )

    def _observed(self, life: "Life") -> Observed:
        newest = control.read_newest(self.run.control).newest
        return Observed(
            now=datetime.now(UTC),
            supervisor_alive=life.supervisor_alive,
            trainer_alive=life.trainer_alive,
            is_cut_off=life.is_cut_off,
            refusal=refusal(self.run.path) if life.is_behind else None,
            control_revision=newest.revision if newest else None,
            log_age=age_of(log_of(self.run, self.spec)),
            is_detached=life.is_detached,
            dialect=self._log.dialect,
            mode=self._mode(),
            told=self._journal.told(self.run.name) if self._journal else Told(),
        )

    def _mode(self) -> str | None:
        try:
            found = mode_of(self.run)
        except (DocumentError, OSError):
            # The daemon says so, and goes by what was so before.
            return None
        return None if found is None else str(found[0])


@dataclass(frozen=True, slots=True)
class Life:
    """What state.json says, None while there is none, and which of its processes live.

    Of an attached run nobody knows more than its log tells, and whether it is still looked at.

    Attributes:
        is_cut_off: Neither does, since the machine was rebooted.
    """

    state: SupervisorState | None
    supervisor_alive: bool
    trainer_alive: bool
    is_detached: bool = False
    is_cut_off: bool = False

    @property
    def has_ended(self) -> bool:
        """The run is over, by its supervisor's own word, or a person's."""
        return self.is_detached or (self.state is not None and self.state.state in ENDED)

    @property
    def is_behind(self) -> bool:
        """The trainer has ended, and its supervisor has not written that down."""
        is_told = self.state is None or self.state.trainer is None or self.has_ended
        return self.supervisor_alive and not self.trainer_alive and not is_told

    @property
    def is_active(self) -> bool:
        """Somebody trains it, or watches over it."""
        return not self.has_ended and (self.supervisor_alive or self.trainer_alive)


def life_of(run: RunDir) -> Life:
    """Read state.json, and look for the processes it names.

    Raises:
        DocumentError: It is damaged.
    """
    life = _life_of(run)
    if life.state is None or life.has_ended or life.supervisor_alive:
        return life
    # A supervisor that ended between the two looks wrote its last word before.
    return _life_of(run)


def heartbeat_of(run: RunDir) -> Heartbeat | None:
    """The trainer's heartbeat; None where there is none that can be read."""
    try:
        return Heartbeat.load(run)
    except (DocumentError, OSError):
        # It is rewritten several times an iteration, and means nothing after a power cut.
        return None


def _life_of(run: RunDir) -> Life:
    try:
        state = SupervisorState.load(run)
    except FileNotFoundError:
        gone = run.detached.exists()
        return Life(None, supervisor_alive=False, trainer_alive=False, is_detached=gone)
    return Life(
        state,
        _is_alive(state.supervisor),
        _is_alive(state.trainer),
        is_cut_off=is_cut_off(state, processes.boot()),
    )


class AllRuns:
    """Every run of a home, looked at again and again without reading a log twice.

    What the daemon has read of one, or has read since the last look, nobody reads again: thousands
    that are over cost as little as their number allows.
    """

    def __init__(self, journal: JournalReader) -> None:
        self._journal = journal
        # Of runs that the history does not tell of.
        self._readers: dict[str, RunReader] = {}

    def look(self, runs: list[RunDir]) -> list[RunSnapshot]:
        """A snapshot of each, newest first; one that cannot be read says why."""
        with self._journal.kept_open():
            shown = [self._look_at(run) for run in runs]
        return sorted(shown, key=lambda run: (run.created or "", run.name), reverse=True)

    def _look_at(self, run: RunDir) -> RunSnapshot:
        try:
            life = life_of(run)
            reader = self._readers.get(run.name)
            if reader is None:
                newest = taken_in.OF_ENDED if life.has_ended else taken_in.OF_ACTIVE
                reader = RunReader(run, self._journal, newest)
                if not reader.is_brief:
                    self._readers[run.name] = reader
            return reader.look(life)[0]
        except DocumentError as error:
            return snapshot.damaged(run.name, str(error))
        except OSError as error:
            return snapshot.damaged(run.name, f"{error.filename or run.path}: {error.strerror}")


def _is_alive(identity: ProcessIdentity | None) -> bool:
    return identity is not None and processes.is_alive(identity)


def age_of(log: Path) -> float | None:
    """Seconds since a log last grew; None where it is not there."""
    try:
        return max(0.0, time.time() - log.stat().st_mtime)
    except OSError:
        return None
