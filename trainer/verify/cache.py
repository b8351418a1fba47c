"""Verdicts remembered: in a file that several trainers share, or in memory where that fails.

The file is a convenience, never a reason to stop: damaged, locked, full or somebody else's, it is
done without, said in one line.
"""

import json
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trainer.verdict import Verdict

CACHE_DIR_ENV = "MAXRL_OPS_CACHE_DIR"
_FILE = "verdicts.sqlite3"
# In the file's own numbering: another layout than this one is done without.
_LAYOUT = 1
_MEMORY = ":memory:"
_BUSY_SECONDS = 5.0
# SQLite takes at least 999 variables in one statement.
_MOST_VARIABLES = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts
    (key TEXT PRIMARY KEY, body TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_used ON verdicts (used);
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is remembered; what was used longest ago goes first.

    Attributes:
        entries: Verdicts.
        size: Bytes of the database, without its write-ahead log, which SQLite keeps short.
    """

    entries: int = 50_000
    size: int = 64 << 20


class VerdictCache:
    """Verdicts by key (see `RustVerifier`); one a process, several processes a file.

    Args:
        path: The SQLite file; None for memory alone.
        bounds: What is kept at most.
        say: Told, once, in one line, why the file is done without.
    """

    def __init__(
        self,
        path: Path | None = None,
        bounds: Bounds | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self._path = path
        self._bounds = bounds or Bounds()
        self._say = say or _say_on_stderr
        self._database = _open(_MEMORY)
        if path is not None:
            with self._or_memory():
                _claim(path)
                self._database = _open(str(path))

    @classmethod
    def find(cls, env: Mapping[str, str]) -> "VerdictCache":
        """The user's: below MAXRL_OPS_CACHE_DIR, which may be empty for none, else XDG's place."""
        given = env.get(CACHE_DIR_ENV)
        if given is not None:
            place = Path(os.path.expanduser(given))  # noqa: PTH111 - Path's own may raise
            return cls(place.absolute() / _FILE if given.strip() else None)
        caches = env.get("XDG_CACHE_HOME", "")
        try:
            base = Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache"
        except RuntimeError:  # a user without a home
            return cls()
        return cls(base / "maxrl-ops" / _FILE)

    def get(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """What is known of `keys`; each then counts as just used."""
        for _ in range(2):  # the second time in memory, where the file failed
            with self._or_memory():
                return self._get(keys)
        return {}

    def put(self, verdicts: Mapping[str, Verdict]) -> None:
        """Remember what was scored; a host's failure may pass and is not remembered."""
        bodies = {key: _body(v) for key, v in verdicts.items() if v.unscored is None}
        for _ in range(2):
            with self._or_memory():
                self._put(bodies)
                return

    def close(self) -> None:
        """Leave the file, its log written back."""
        self._database.close()

    @contextmanager
    def _or_memory(self) -> Iterator[None]:
        """What fails in here is said, and the file done without from then on."""
        try:
            yield
        except (sqlite3.Error, OSError, _Unusable) as problem:
            detail = getattr(problem, "strerror", None) or str(problem)
            self._say(f"no verdicts are remembered across runs: {self._path}: {detail}")
            self._database = _open(_MEMORY)

    def _get(self, keys: Sequence[str]) -> dict[str, Verdict]:
        found: dict[str, Verdict] = {}
        for start in range(0, len(keys), _MOST_VARIABLES):
            some = keys[start : start + _MOST_VARIABLES]
            marks = ", ".join("?" * len(some))
            query = f"SELECT key, body FROM verdicts WHERE key IN ({marks})"  # noqa: S608 - marks
            for key, body in self._database.execute(query, some):
                verdict = _verdict(body)
                if verdict is not None:
                    found[key] = verdict
        if found:
            with self._writing() as now:
                update = "UPDATE verdicts SET used = ? WHERE key = ?"
                self._database.executemany(update, [(now, key) for key in found])
        return found

    def _put(self, bodies: Mapping[str, str]) -> None:
        if not bodies:
            return
        with self._writing() as now:
            insert = "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)"
            rows = [(key, body, now) for key, body in bodies.items()]
            self._database.executemany(insert, rows)
            self._forget()

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """A transaction, and the number of this use: uses are counted, so no clock can mislead."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._one("SELECT coalesce(max(used), 0) + 1 FROM verdicts")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _forget(self) -> None:
        """Drop what was used longest ago until both bounds hold with a tenth to spare."""
        entries = self._one("SELECT count(*) FROM verdicts")
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        size = pages * self._one("PRAGMA page_size")
        fullness = max(entries / self._bounds.entries, size / self._bounds.size)
        if fullness > 1:
            surplus = max(1, round(entries * (1 - 0.9 / fullness)))
            self._database.execute(
                "DELETE FROM verdicts WHERE key IN"
                " (SELECT key FROM verdicts ORDER BY used, key LIMIT ?)",
                (surplus,),
            )

    def _one(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])


class _Unusable(Exception):  # noqa: N818 - becomes a line, never surfaces
    """Why a file that could be opened is not."""


def _claim(path: Path) -> None:
    """Make the file and its directory ours alone, before SQLite or anybody else opens it.

    Who can write here decides what is rewarded, so others' files and directories are not used.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_ours(path.parent.stat())
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _Unusable("is no ordinary file")
        _check_ours(found)
    finally:
        os.close(descriptor)


def _check_ours(found: os.stat_result) -> None:
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise _Unusable("somebody else may write there")


def _open(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # What a power cut takes is judged again.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA journal_size_limit = 1048576")
        layout = database.execute("PRAGMA user_version").fetchone()[0]
        if layout not in (0, _LAYOUT):
            raise _Unusable("made by another version of maxrl-ops")
        database.executescript(f"{_SCHEMA} PRAGMA user_version = {_LAYOUT};")
    except BaseException:
        database.close()
        raise
    return database


def _body(verdict: Verdict) -> str:
    """JSON; times belong to the run that took them."""
    return json.dumps({k: v for k, v in asdict(verdict).items() if k != "seconds"})


_NAMES = frozenset(field.name for field in fields(Verdict)) - {"seconds"}


def _verdict(body: Any) -> Verdict | None:
    """The verdict that `_body` wrote; None for anything else, which is then judged again."""
    try:
        values = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(values, dict) or values.keys() != _NAMES:
        return None
    return Verdict(**values)


def _say_on_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
