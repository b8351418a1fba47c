"""Where a run's log is, and who reads it: our own in our own format, an attached one in its own."""

from contextlib import suppress
from pathlib import Path

from maxrl_ops.dialects import BUILT_IN, Past, Reader, load
from maxrl_ops.dialects.detecting import DetectingReader
from maxrl_ops.log_files import look
from maxrl_ops.wire.documents import Detached, RunSpec
from maxrl_ops.wire.rundir import DocumentError, RunDir, read_json, replace_json

GUIDE = BUILT_IN[0]


def log_of(run: RunDir, spec: RunSpec) -> Path:
    """The log that tells of the run."""
    return run.log if spec.log is None else Path(spec.log)


def dialect_of(run: RunDir, spec: RunSpec) -> str | None:
    """The format of that log; None where nobody knows it yet."""
    if spec.dialect is not None:
        return spec.dialect
    if not spec.is_attached:
        return GUIDE
    # One that cannot be read is found out anew.
    with suppress(OSError, DocumentError, KeyError):
        return str(read_json(run.dialect)["dialect"])
    return None


def keep_dialect(run: RunDir, name: str) -> None:
    """Write down what was found out.

    Raises:
        OSError: It cannot be written.
    """
    replace_json(run.dialect, {"dialect": name})


def open_reader(run: RunDir, spec: RunSpec, past: Past) -> Reader:
    """A reader of the log, from behind what was told before.

    Raises:
        DialectError: There is no such dialect, or it fails.
    """
    dialect = dialect_of(run, spec)
    return DetectingReader(past) if dialect is None else load(dialect).open(past)


def found_out(reader: Reader) -> str | None:
    """The dialect that a reader has found out; None where it has not, or did not have to."""
    return reader.dialect if isinstance(reader, DetectingReader) else None


def still_to_read(run: RunDir, log: Path, here: tuple[int, int]) -> int:
    """How many bytes of a detached log are the run's still; of a file before its last, any number.

    Args:
        run: It is detached.
        log: Its log.
        here: Inode and offset of what would be read next; 0 and 0 before the first byte.

    Raises:
        DocumentError: What was written at the end is damaged.
        OSError: It cannot be read.
    """
    end, (inode, offset) = Detached.load(run), here
    if inode == end.inode:
        return max(0, end.size - offset)
    newest = look(log)
    # The file under the log's name came after the run's last one.
    return 0 if newest is not None and newest.inode == inode else end.size
