"""A run's secrets: lines NAME=VALUE in a file of its owner's, read at each start of its trainer.

run.json names the file, and nothing of ours holds what stands in it. It is what systemd's
`EnvironmentFile=` reads, but for values that go over several lines.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import open_regular

_LONGEST_FILE = 64 * 1024
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_OTHERS = 0o007


class EnvironmentFileError(ValueError):
    """It cannot be used; the message is one line, without anything of what stands in the file."""


def of(spec: RunSpec) -> Mapping[str, str]:
    """What the run's trainer is told beside its settings.

    Raises:
        OSError: The file is not there, or cannot be read.
        EnvironmentFileError: It is none, or everybody may read it.
    """
    return {} if spec.environment_file is None else read(Path(spec.environment_file))


def read(path: Path) -> Mapping[str, str]:
    """The variables of a file; raises as `of` does."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise EnvironmentFileError(f"{path}: everybody may read it: chmod 600 {path}")
        data = file.read(_LONGEST_FILE + 1)
    if len(data) > _LONGEST_FILE:
        raise EnvironmentFileError(f"{path}: longer than {_LONGEST_FILE} bytes")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise EnvironmentFileError(f"{path}: not UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and line[0] not in "#;":
            name, value = _variable(line, f"{path}: line {number}")
            found[name] = value
    return found


def _variable(line: str, where: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None or "\0" in line:
        raise EnvironmentFileError(f"{where} is not NAME=VALUE")
    name, value = match[1], match[2].strip()
    if name == "USE_MAXRL" or name.startswith("MAXRL_"):
        raise EnvironmentFileError(f"{where}: {name} is a setting: give it to maxrl-ops start")
    if value[:1] in ("'", '"'):
        if len(value) < 2 or value[-1] != value[0]:
            raise EnvironmentFileError(f"{where}: its quote is not closed")
        quote, value = value[0], value[1:-1]
        if quote == '"':
            value = re.sub(r'\\(["\\$`])', r"\1", value)
    return name, value
