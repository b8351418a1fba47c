"""The guide's format, which our trainer writes too: wire/logformat.py is its only home."""

import re

from maxrl_ops.dialects.base import Dialect, Past, Reader
from maxrl_ops.wire.logformat import Parser

__all__ = ["DIALECT", "NAME", "Parser"]

NAME = "guide"
_TELLING = re.compile(r"RL Method: (?:GRPO|MaxRL)|  Correctness: \d{1,18}/\d{1,18}(?: \(.*)?")


def _open(_: Past) -> Reader:
    # Its iterations carry their number, and its headers the attempt's.
    return Parser()


DIALECT = Dialect(NAME, _open, lambda line: _TELLING.fullmatch(line) is not None)
