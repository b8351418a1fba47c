"""The guide's format, which our trainer writes too: wire/logformat.py is its only home."""

from maxrl_ops.wire.logformat import Parser

__all__ = ["NAME", "Parser"]

NAME = "guide"
