"""Where a run's log is, and who reads it: our own in our own format, an attached one in its own."""

from contextlib import suppress
from pathlib import Path

from maxrl_ops.dialects import BUILT_IN, Past, Reader, load
from maxrl_ops.dialects.detecting import DetectingReader
from maxrl_ops.wire.documents import RunSpec
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
