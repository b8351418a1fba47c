"""The journal as a person asks for it: read from history.db, which is never changed by that."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from maxrl_ops import read_only, taken_in
from maxrl_ops.core.entry import Entry, Held, Told
from maxrl_ops.history_schema import HistoryError
from maxrl_ops.taken_in import TakenIn
from maxrl_ops.wire.documents import RunSpec

T = TypeVar("T")

_ENTRIES = """
    SELECT runs.name AS run, decisions.revision, COALESCE(decisions.iteration, answers.iteration)
        AS iteration, decisions.time, decisions.author AS by, decisions.rule, decisions.evidence,
        decisions.control, COALESCE(answers.outcome, decisions.fate) AS outcome,
        answers.effective, answers.iteration AS answered_at, decisions.because,
        answers.because AS answer, decisions.id AS position, worth.verdict,
        worth.iteration AS judged_at, worth.evidence AS judgement, worth.because AS judged_because,
        decisions.intent
    FROM decisions JOIN runs ON runs.id = decisions.run
        LEFT JOIN answers ON answers.run = decisions.run AND answers.revision = decisions.revision
        LEFT JOIN {judgements} AS worth
            ON worth.run = decisions.run AND worth.revision = decisions.revision
    WHERE runs.id IN ({runs})
    UNION ALL
    SELECT runs.name, answers.revision, answers.iteration, NULL, 'unknown', NULL, '{{}}', '{{}}',
        answers.outcome, answers.effective, answers.iteration, '', answers.because,
        (SELECT MAX(id) FROM decisions
            WHERE decisions.run = answers.run AND decisions.revision < answers.revision),
        NULL, NULL, NULL, NULL, NULL
    FROM answers JOIN runs ON runs.id = answers.run
    WHERE runs.id IN ({runs}) AND NOT EXISTS (
        SELECT 1 FROM decisions
        WHERE decisions.run = answers.run AND decisions.revision = answers.revision)
    ORDER BY run, position, revision
"""
# A history that no daemon has brought up to this version yet.
_NO_JUDGEMENTS = """(SELECT NULL AS run, NULL AS revision, NULL AS verdict, NULL AS iteration,
    NULL AS evidence, NULL AS because)"""
_HOLDS = """SELECT runs.name AS run, iteration, rule, because
    FROM holds JOIN runs ON runs.id = holds.run WHERE holds.run IN"""
# A directory made anew under an old name is another run: only the newest is meant.
_NEWEST = "SELECT MAX(id) FROM runs GROUP BY name"
_NAMED = "SELECT MAX(id) FROM runs WHERE name = :name"


class Journal:
    """history.db, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            FileNotFoundError: No daemon has ever run here.
            HistoryError: It is not ours, of a newer version, or damaged.
        """
        self._path = path
        self._db = read_only.connect(path)

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def entries(self, name: str | None = None) -> list[Entry]:
        """The decisions of one run, or of all, each run's in order."""
        with read_only.explained(self._path):
            known = "SELECT 1 FROM sqlite_master WHERE name = 'judgements'"
            has_judgements = self._db.execute(known).fetchone() is not None
            query = _ENTRIES.format(
                runs=_NEWEST if name is None else _NAMED,
                judgements="judgements" if has_judgements else _NO_JUDGEMENTS,
            )
            return [_entry(row) for row in self._db.execute(query, {"name": name})]

    def holds(self, name: str | None = None) -> list[Held]:
        """Why nothing was changed, in one run or in all, each run's in order."""
        query = f"{_HOLDS} ({_NEWEST if name is None else _NAMED}) ORDER BY run, holds.id"
        with read_only.explained(self._path):
            return [Held(*row) for row in self._db.execute(query, {"name": name})]

    def held(self, name: str) -> Held | None:
        """What was said last about not changing anything in that run."""
        query = f"{_HOLDS} ({_NAMED}) ORDER BY holds.id DESC LIMIT 1"
        with read_only.explained(self._path):
            row = self._db.execute(query, {"name": name}).fetchone()
        return None if row is None else Held(*row)

    def newest(self, spec: RunSpec, most: int) -> TakenIn | None:
        """How the run stands, as far as its log was taken in: `taken_in.newest`."""
        with read_only.explained(self._path):
            return taken_in.newest(self._db, spec, most)


class JournalReader:
    """What the journal tells of each run, read anew at each question.

    Attributes:
        path: history.db.
        problem: Why it could not be read at the last question, in one line; None where it could,
            or where no daemon has ever run.
    """

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self.path = path
        self._journal: Journal | None = None
        self._is_kept = False

    def told(self, run: str) -> Told:
        """The run's last decision, and the last reason for none."""

        def told(journal: Journal) -> Told:
            entries = journal.entries(run)
            return Told(entries[-1] if entries else None, journal.held(run))

        return self._ask(told) or Told()

    def newest(self, spec: RunSpec, most: int) -> TakenIn | None:
        """How the run stands, as far as its log was taken in; None where nobody can tell."""
        return self._ask(lambda journal: journal.newest(spec, most))

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Open it once for all questions meanwhile; where one fails, the others are not asked.

        Whoever locks it lets each wait for seconds.
        """
        self.problem, self._is_kept = None, True
        try:
            yield
        finally:
            self._is_kept = False
            self._close()

    def _ask(self, question: Callable[[Journal], T]) -> T | None:
        """The answer; None where nobody can give one."""
        if not self._is_kept:
            self.problem = None
        elif self.problem is not None:
            return None
        try:
            self._journal = self._journal or Journal(self.path)
            return question(self._journal)
        except FileNotFoundError:
            return None
        except HistoryError as error:
            self.problem = str(error)
            return None
        finally:
            if not self._is_kept:
                self._close()

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = None


def _entry(row: sqlite3.Row) -> Entry:
    # The trainer's word on a rejection says more than what was wished.
    because = " - ".join(part for part in (row["because"], row["answer"]) if part)
    return Entry(
        revision=row["revision"],
        run=row["run"],
        iteration=row["iteration"],
        time=row["time"],
        by=row["by"],
        rule=row["rule"],
        evidence=json.loads(row["evidence"]),
        control=json.loads(row["control"]),
        outcome=row["outcome"],
        effective=None if row["effective"] is None else json.loads(row["effective"]),
        judged=row["verdict"],
        because=because,
        judgement=None if row["verdict"] is None else _judgement(row),
        answered_at=row["answered_at"],
        intent=row["intent"],
    )


def _judgement(row: sqlite3.Row) -> Mapping[str, Any]:
    told = {"iteration": row["judged_at"], "because": row["judged_because"]}
    return {**told, **json.loads(row["judgement"])}
