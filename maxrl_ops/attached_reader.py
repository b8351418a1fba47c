"""An attached log for whoever looks at it once: as the daemon has read it, and on from there.

Its files may have been rotated away, and its lines may carry no numbers: read from its beginning it
would tell something else than the history does.
"""

from contextlib import closing
from pathlib import Path

from maxrl_ops import read_only
from maxrl_ops.attached import dialect_of, found_out, log_of, open_reader, still_to_read
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.dialects import Past, Reader
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.store import place_of
from maxrl_ops.stored_events import events as stored_events
from maxrl_ops.tailer import CHUNK, Chunk, Cursor, Tailer
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.record import Event
from maxrl_ops.wire.rundir import RunDir


class AttachedReader:
    """The log of an attached run, a piece more at each call.

    Attributes:
        history: Everything read so far, folded.
    """

    def __init__(self, run: RunDir, spec: RunSpec, database: Path | None = None) -> None:
        """Begin where the daemon is, by `database`; without it, at the log's beginning.

        Raises:
            DialectError: The log's dialect is none, or fails.
        """
        self._run, self._spec = run, spec
        self._log = log_of(run, spec)
        self._untold, place = ([], Cursor()) if database is None else _taken_in(database, spec)
        self.history = RunHistory.of(self._untold)
        self._tailer = Tailer(self._log, place)
        self._parser = self._reopened()

    @property
    def dialect(self) -> str | None:
        """The log's format; None while it is not known."""
        return dialect_of(self._run, self._spec) or found_out(self._parser)

    def read(self) -> list[Event]:
        """Fold in what is new, and return it; a log that is not there is empty.

        Raises:
            OSError: It cannot be read.
        """
        events, self._untold = self._untold, []
        while (chunk := self._next()).data:
            if chunk.is_fresh and not chunk.continues:
                events += self.close()
                self._parser = self._reopened()
            events += self._fold(self._parser.feed(chunk.data))
        return events

    def close(self) -> list[Event]:
        """Fold in a last block that nothing closes."""
        return self._fold(self._parser.close())

    def _next(self) -> Chunk:
        limit = CHUNK
        if self._run.detached.exists():
            limit = min(limit, still_to_read(self._run, self._log, self._tailer.here))
        return self._tailer.read(limit) if limit else Chunk(b"")

    def _reopened(self) -> Reader:
        return open_reader(self._run, self._spec, Past(self.history.started, self.history.newest))

    def _fold(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.history.append(event)
        return events


def _taken_in(database: Path, spec: RunSpec) -> tuple[list[Event], Cursor]:
    """What the history holds of the run, and the place behind it; nothing where it has not begun.

    One that cannot be read is said elsewhere: the log alone tells most.
    """
    try:
        with closing(read_only.connect(database)) as db, read_only.explained(database):
            # Of one moment, while a daemon writes.
            db.execute("BEGIN")
            query = "SELECT id FROM runs WHERE name = ? AND created = ?"
            found = db.execute(query, (spec.name, spec.created)).fetchone()
            if found is None:
                return [], Cursor()
            told = [event for event in stored_events(db, found[0]) if isinstance(event, Event)]
            return told, place_of(db, found[0])[0]
    except (FileNotFoundError, HistoryError):
        return [], Cursor()
