"""The files of one run, and how they are written: whole or not at all, private to the group."""

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
# The file whose presence makes a checkpoint complete.
CHECKPOINT_MARKER = "COMPLETE"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class DocumentError(ValueError):
    """A file that is not what its name says; the message says why, in one line."""


@dataclass(frozen=True)
class RunDir:
    """Paths of the run that lives in `path`; each is made once, for the daemon asks often."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @cached_property
    def spec(self) -> Path:
        """run.json: what was asked for; written once, by `start`."""
        return self.path / "run.json"

    @cached_property
    def log(self) -> Path:
        """trainer.log: the guide's blocks."""
        return self.path / "trainer.log"

    @cached_property
    def control(self) -> Path:
        """control/: desired states, append-only."""
        return self.path / "control"

    @cached_property
    def applied(self) -> Path:
        """applied.jsonl: what the trainer took over, and when."""
        return self.path / "applied.jsonl"

    @cached_property
    def state(self) -> Path:
        """state.json: the supervisor's."""
        return self.path / "state.json"

    @cached_property
    def dialect(self) -> Path:
        """dialect.json: whose format an attached log has, once the daemon has found out."""
        return self.path / "dialect.json"

    @cached_property
    def detached(self) -> Path:
        """detached.json: since when nobody looks at an attached log any more."""
        return self.path / "detached.json"

    @cached_property
    def heartbeat(self) -> Path:
        """heartbeat.json: the trainer's phase."""
        return self.path / "heartbeat.json"

    @cached_property
    def exit_code(self) -> Path:
        """exit-code: the trainer's own, where a launcher would make another of it."""
        return self.path / "exit-code"

    @cached_property
    def acknowledged(self) -> Path:
        """acknowledged: there once somebody has seen that the run failed."""
        return self.path / "acknowledged"

    @cached_property
    def checkpoints(self) -> Path:
        """checkpoints/: one directory each, complete with its marker."""
        return self.path / "checkpoints"

    @cached_property
    def samples(self) -> Path:
        """samples.jsonl: completions with verdicts and rewards."""
        return self.path / "samples.jsonl"

    @cached_property
    def mode(self) -> Path:
        """mode.json: what the autopilot may do, where that was changed after the start."""
        return self.path / "mode.json"

    @cached_property
    def declined(self) -> Path:
        """declined/: suggestions that a person declined, one file each."""
        return self.path / "declined"

    @cached_property
    def lock(self) -> Path:
        """run.lock: held by whoever trains, through supervisor and trainer alike."""
        return self.path / "run.lock"

    @cached_property
    def supervisor_lock(self) -> Path:
        """supervisor.lock: held by the supervisor alone, so that one revived can adopt."""
        return self.path / "supervisor.lock"

    @cached_property
    def stacks(self) -> Path:
        """stacks.log: what every thread did when the trainer stood still."""
        return self.path / "stacks.log"

    @cached_property
    def supervisor_log(self) -> Path:
        """supervisor.log: the supervisor's own words, and a trainer's before it has a log."""
        return self.path / "supervisor.log"


def is_run_name(name: str) -> bool:
    """Whether `name` can be a run's: 1 to 64 of A-Z a-z 0-9 . _ -, not starting with . _ or -."""
    return _RUN_NAME.fullmatch(name) is not None


def make_directories(path: Path) -> None:
    """Like `mkdir -p -m 0750`: Path.mkdir gives the mode to the last one only."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def write_all(path: Path, data: bytes) -> None:
    """Create `path` with `data`, on disk when this returns. An existing file is an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fsync_directory(path: Path) -> None:
    """Make the entries of a directory (a rename, a link) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `path` atomically: readers see the old or the new, never a part.

    Not `durable` skips the fsyncs, for what is rewritten every second and means nothing after a
    power cut.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if durable:
            aside.unlink(missing_ok=True)
            write_all(aside, data)
        else:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        fsync_directory(path.parent)


def replace_json(path: Path, document: Mapping[str, object], *, durable: bool = True) -> None:
    """`replace` with a JSON object, indented for the person who opens it."""
    replace(path, (json.dumps(document, indent=1) + "\n").encode(), durable=durable)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a fifo under its name would wait for its writer for ever.

    Raises:
        OSError: It is not there, cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_json(path: Path) -> dict[str, object]:
    """A file's JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        DocumentError: It holds something else.
    """
    with open_regular(path) as file:
        data = file.read()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise DocumentError(f"{path}: not a JSON object")
    return document
