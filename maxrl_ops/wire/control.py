"""Control: the append-only sequence of desired states, and what the trainer made of it.

A control is published by writing a file aside and link(2)-ing it to its number, which fails when
the number is taken: two writers can never both believe they published revision 7.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from maxrl_ops.wire.rundir import DocumentError, fsync_directory, open_regular, write_all

# `checkpoint` saves one now and goes on; stop and restart_from are the supervisor's.
LIFECYCLES = ("run", "pause", "checkpoint", "stop", "restart_from")
_NAME = re.compile(r"(\d{6})\.json")
_LONGEST_FILE = 64 * 1024


class RevisionTakenError(Exception):
    """Another writer published this revision first: read again and decide again."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a control may change of the training, whole.

    Attributes:
        objective: The exact formula, a name of trainer.objectives.
        correctness_threshold: A sample is correct when its reward is strictly above.
        weight_temperature: Of the MaxRL weights' softmax.
        n_samples: Completions for each prompt.
        learning_rate: AdamW's.
    """

    objective: str
    correctness_threshold: float
    weight_temperature: float
    n_samples: int
    learning_rate: float

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> Self:
        """Check kinds, not bounds: those are the task's, and the trainer knows them.

        Raises:
            DocumentError: A value is missing or of a wrong kind.
        """
        return cls(
            objective=_text(raw, "objective"),
            correctness_threshold=_number(raw, "correctness_threshold"),
            weight_temperature=_number(raw, "weight_temperature"),
            n_samples=_whole(raw, "n_samples"),
            learning_rate=_number(raw, "learning_rate"),
        )


@dataclass(frozen=True, slots=True)
class Control:
    """One desired state of a run.

    Attributes:
        revision: Its number; the file's name.
        base_revision: The newest revision its author had seen; 0 when there was none.
        state: The whole desired training state, never a patch.
        lifecycle: One of LIFECYCLES.
        restart_from: With lifecycle `restart_from`, and only then: the checkpoint's iteration. The
            trainer ends at its next boundary, and the supervisor starts it again from that
            checkpoint, or the newest complete one before it where it is gone. It is applied with
            the first iteration after the checkpoint: from there on `state` is in force, and what
            the attempts before had applied behind it is not.
        intent: Unique id of the wish, by which a writer finds it again after a crash.
        author: `uid:1000` or `rule:LOW`.
        reason: One line for a person.
        time: RFC 3339 in UTC.
    """

    revision: int
    base_revision: int
    state: TrainingState
    author: str
    reason: str
    time: str
    lifecycle: str = "run"
    intent: str = ""
    restart_from: int | None = None

    def to_bytes(self) -> bytes:
        """The file's content."""
        flat = asdict(self)
        state = flat.pop("state")
        return (json.dumps(flat | state, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a control file.

        Raises:
            DocumentError: It is not one.
        """
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise DocumentError("not a JSON object")
        lifecycle = _text(raw, "lifecycle")
        if lifecycle not in LIFECYCLES:
            raise DocumentError(f"lifecycle is {lifecycle!r}, not one of {', '.join(LIFECYCLES)}")
        restart_from = raw.get("restart_from")
        if (restart_from is not None) != (lifecycle == "restart_from"):
            raise DocumentError("restart_from goes with lifecycle restart_from, and only with it")
        return cls(
            revision=_whole(raw, "revision"),
            base_revision=_whole(raw, "base_revision"),
            state=TrainingState.from_json(raw),
            author=_text(raw, "author"),
            reason=_text(raw, "reason"),
            time=_text(raw, "time"),
            lifecycle=lifecycle,
            intent=_text(raw, "intent"),
            restart_from=None if restart_from is None else _whole(raw, "restart_from"),
        )


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise DocumentError(f"{key} is not a text")
    try:
        # JSON can spell half a surrogate pair, which no database and no terminal takes.
        value.encode()
    except UnicodeEncodeError:
        raise DocumentError(f"{key} is no Unicode text") from None
    return value


def _number(raw: Mapping[str, object], key: str) -> float:
    value = raw.get(key)
    with suppress(OverflowError):  # a whole number beyond all floats
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    raise DocumentError(f"{key} is not a finite number")


def _whole(raw: Mapping[str, object], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DocumentError(f"{key} is not a whole number")
    return value


def path_of(directory: Path, revision: int) -> Path:
    """Where revision N lies."""
    return directory / f"{revision:06d}.json"


def publish(directory: Path, control: Control) -> None:
    """Make `control` visible under its number, complete or not at all.

    Raises:
        RevisionTakenError: The number exists already, whoever made it.
        OSError: The directory cannot be written.
    """
    aside = directory / f".{control.revision:06d}.{os.getpid()}.{uuid4().hex}"
    try:
        write_all(aside, control.to_bytes())
        os.link(aside, path_of(directory, control.revision))
    except FileExistsError:
        raise RevisionTakenError(f"control {control.revision} exists") from None
    finally:
        aside.unlink(missing_ok=True)
    fsync_directory(directory)


@dataclass(frozen=True, slots=True)
class ControlDirectory:
    """What control/ holds: the newest readable control, and the files above it that are not.

    `unreadable` gives each skipped revision its reason.
    """

    newest: Control | None
    unreadable: Mapping[int, str]


def revisions(directory: Path, above: int = 0) -> list[int]:
    """The numbers above `above` that are taken, lowest first."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
    taken = (int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
    return sorted(revision for revision in taken if revision > above)


def load(directory: Path, revision: int) -> Control:
    """The control of that number.

    Raises:
        DocumentError: The file holds something else.
        OSError: It cannot be read.
    """
    control = Control.from_bytes(_read_bounded(path_of(directory, revision)))
    if control.revision != revision:
        raise DocumentError(f"says it is revision {control.revision}")
    return control


def read(directory: Path, revision: int) -> Control | None:
    """The control of that number; None where there is none that can be read."""
    try:
        return load(directory, revision)
    except (DocumentError, OSError):
        return None


def read_newest(directory: Path, above: int = 0) -> ControlDirectory:
    """Look for the highest readable revision above `above`; unreadable ones are skipped."""
    unreadable: dict[int, str] = {}
    for revision in reversed(revisions(directory, above)):
        try:
            return ControlDirectory(load(directory, revision), unreadable)
        except (DocumentError, OSError) as error:
            unreadable[revision] = str(error)
    return ControlDirectory(None, unreadable)


def _read_bounded(path: Path) -> bytes:
    with open_regular(path) as file:
        data = file.read(_LONGEST_FILE + 1)
    if len(data) > _LONGEST_FILE:
        raise DocumentError(f"longer than {_LONGEST_FILE} bytes")
    return data


@dataclass(frozen=True, slots=True)
class Applied:
    """A line of applied.jsonl: from `iteration` on, `state` is in force by `revision`.

    Attributes:
        revision: The control the trainer looked at.
        iteration: The first iteration that `state` holds for.
        state: What is in force; unchanged where the control was rejected.
        rejected: Why the trainer did not follow the control, or None.
        lifecycle: What it asked for, one of LIFECYCLES; what it was before, where it was rejected.
    """

    revision: int
    iteration: int
    state: TrainingState
    rejected: str | None = None
    lifecycle: str = "run"


def append_applied(path: Path, applied: Applied) -> None:
    """Add a line and fsync it: the state may be used only after this returns.

    Raises:
        OSError: It could not be written whole, and does not count.
    """
    flat = asdict(applied)
    state = flat.pop("state")
    line = (json.dumps(flat | state) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    # A buffered file writes all of it or raises: on a disk that is nearly full, write(2) stops.
    with os.fdopen(descriptor, "ab") as file:
        size = os.fstat(descriptor).st_size
        # A torn last line of a killed writer must not swallow this one.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(descriptor)
    if not size:
        fsync_directory(path.parent)


def read_applied(path: Path) -> list[Applied]:
    """What stands, in order: a torn line was never used, and a restart voids what lay behind it.

    Voided are the lines before a restart's that hold for its iteration, or a later one.
    """
    found = list[Applied]()
    for applied in _read_lines(path):
        if applied.lifecycle == "restart_from" and applied.rejected is None:
            found = [each for each in found if each.iteration < applied.iteration]
        found.append(applied)
    return found


def newest_answered(path: Path) -> int:
    """The highest revision that was ever applied or rejected, 0 before the first."""
    return max((applied.revision for applied in _read_lines(path)), default=0)


def _read_lines(path: Path) -> list[Applied]:
    try:
        with open_regular(path) as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            raw = json.loads(line)
            state = TrainingState.from_json(raw)
            rejected = None if raw.get("rejected") is None else _text(raw, "rejected")
            numbers = _whole(raw, "revision"), _whole(raw, "iteration")
            lifecycle = str(raw.get("lifecycle", "run"))
            found.append(Applied(*numbers, state, rejected, lifecycle))
        except (ValueError, AttributeError):
            continue
    return found
