"""A log for whoever looks at it once: as the daemon has read it, and on from there.

Of an attached log files may have been rotated away, and its lines may carry no numbers: read from
its beginning it would tell something else than the history does. Of our own that takes long.
"""

from maxrl_ops.attached import dialect_of, found_out, log_of, open_reader, still_to_read
from maxrl_ops.dialects import Past, Reader
from maxrl_ops.tailer import CHUNK, Chunk, Tailer
from maxrl_ops.taken_in import TakenIn, nothing
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.record import Event
from maxrl_ops.wire.rundir import RunDir


class ContinuedReader:
    """The log of a run, a piece more at each call.

    Attributes:
        history: Everything read so far, folded.
    """

    def __init__(self, run: RunDir, spec: RunSpec, begun: TakenIn | None = None) -> None:
        """Begin behind what was taken in; without that, at the log's beginning.

        Raises:
            DialectError: The log's dialect is none, or fails.
        """
        self._run, self._spec = run, spec
        self._log = log_of(run, spec)
        self.history, self._place, self._untold = begun or nothing()
        self._tailer = Tailer(self._log, self._place)
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
        if self._place.is_end_of(self._log):
            return events
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
        if self._spec.is_attached and self._run.detached.exists():
            limit = min(limit, still_to_read(self._run, self._log, self._tailer.here))
        return self._tailer.read(limit) if limit else Chunk(b"")

    def _reopened(self) -> Reader:
        return open_reader(self._run, self._spec, Past(self.history.started, self.history.newest))

    def _fold(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.history.append(event)
        return events
