"""history.db for those who only read it: beside a daemon that writes, or with none."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maxrl_ops.history_schema import HistoryError, check_identity

_BUSY_SECONDS = 5.0


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite says against it as a HistoryError."""
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryError(f"{path}: {error}") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection that has read from the file; rows by name.

    Raises:
        FileNotFoundError: No daemon has ever run here.
        HistoryError: It is not ours, of a newer version, or damaged.
    """
    if path.stat().st_size == 0:
        # A daemon is making it this very moment.
        raise FileNotFoundError(path)
    with explained(path):
        try:
            db = _opened(path, "mode=ro")
        except sqlite3.OperationalError:
            # Where no daemon runs, a reader would have to make the files of the write-ahead
            # log, which one of the group may not; without them nobody is writing.
            if path.with_name(f"{path.name}-wal").exists():
                raise
            db = _opened(path, "mode=ro&immutable=1")
    db.row_factory = sqlite3.Row
    return db


def _opened(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_SECONDS)
    try:
        check_identity(db, path)
    except BaseException:
        db.close()
        raise
    return db
