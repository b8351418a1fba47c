"""Hostile text for rich: plain, and never taken for its markup."""

from rich.text import Text

from maxrl_ops.core.printable import one_line


def shown(text: str, style: str = "") -> Text:
    """`text` for rich: one line, never markup."""
    return Text(one_line(text), style=style)
