"""The iterations of a run as a person asks for them: read from history.db, current rows alone."""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

from maxrl_ops import read_only
from maxrl_ops.core.since import Since
from maxrl_ops.history_schema import HistoryError, check_identity
from maxrl_ops.record_rows import COLUMNS

NAMES = ("attempt", *COLUMNS)
"""What may be known of an iteration, in the order in which tables have it."""

_MAPPINGS = ("rewards_above", "extra")
# The view came with this version.
_FIRST_VERSION = 2


def iterations(
    path: Path, name: str, since: Since, last: int | None = None
) -> Iterator[dict[str, Any]]:
    """What was measured, by name, of each iteration since then, oldest first; the `last` of them.

    A number that is not finite is the text `nan`, `inf` or `-inf`, as JSON has none.

    Raises:
        FileNotFoundError: No daemon has ever run here.
        HistoryError: It cannot be read.
        LookupError: It knows no such run.
    """
    with closing(read_only.connect(path)) as db, read_only.explained(path):
        if check_identity(db, path) < _FIRST_VERSION:
            raise HistoryError(f"{path} is of an older version: maxrl-ops daemon takes it up")
        # A directory made anew under an old name is another run: only the newest is meant.
        (run,) = db.execute("SELECT MAX(id) FROM runs WHERE name = ?", (name,)).fetchone()
        if run is None:
            raise LookupError(name)
        query = (
            "SELECT * FROM (SELECT * FROM iterations WHERE run_id = :run AND NOT superseded"
            " AND (:iteration IS NULL OR iteration >= :iteration)"
            # NULL, and hence left out, where the log tells no time.
            " AND (:time IS NULL OR julianday(at) >= julianday(:time))"
            " ORDER BY seq DESC LIMIT :last) ORDER BY seq"
        )
        time = since.time.astimezone(UTC).isoformat() if since.time else None
        asked = {
            "run": run,
            "iteration": since.iteration,
            "time": time,
            "last": -1 if last is None else last,
        }
        for row in db.execute(query, asked):
            yield {
                key: _value(key, row[key])
                for key in row.keys()  # noqa: SIM118 - of a row, not of a mapping
                if key in NAMES and row[key] is not None
            }


def _value(name: str, stored: Any) -> Any:
    if name in _MAPPINGS:
        return json.loads(stored)
    if isinstance(stored, float) and not math.isfinite(stored):
        return str(stored)
    return stored
