"""What rich prints: hostile text never taken for its markup, and tables of which nothing is cut."""

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.text import Text

from maxrl_ops.core.printable import one_line


def shown(text: str, style: str = "") -> Text:
    """`text` for rich: one line, never markup."""
    return Text(one_line(text), style=style)


# More than any table takes.
_WIDEST = 10_000


def print_whole(console: Console, table: RenderableType) -> None:
    """Print a table with nothing of it cut: where a line is longer, the terminal folds it."""
    options = console.options.update(width=_WIDEST)
    wanted, width = Measurement.get(console, options, table).maximum, console.width
    console.width = max(width, wanted)
    console.print(table)
    console.width = width
