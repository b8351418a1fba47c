"""Follows one run to its end: the live view on a terminal, plain lines anywhere else."""

import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from maxrl_ops.cli.live import Sight, view
from maxrl_ops.cli.plain import line_of
from maxrl_ops.cli.printable import print_whole
from maxrl_ops.cli.summary import evaluations_table
from maxrl_ops.core.printable import one_line
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.run_reader import RunReader

_FRAME_SECONDS = 0.25


def follow(reader: RunReader) -> RunSnapshot | None:
    """Show the run until it is over, and sum it up; None when Ctrl-C detached before."""
    console = Console(highlight=False)
    name = reader.run.name
    try:
        shown = _live(reader, console) if console.is_terminal else _plain(reader)
    except KeyboardInterrupt:
        sys.stdout.write(
            f"\nDetached; {name} goes on. Come back: maxrl-ops status {name} --watch. "
            f"End it: maxrl-ops stop {name}\n"
        )
        return None
    _sum_up(shown, console)
    return shown


def _looks(reader: RunReader, seconds: float) -> Iterator[Sight]:
    """A look at the run every `seconds`, the last one when it is over."""
    while True:
        shown, events = reader.look()
        yield Sight(shown, reader.history, events)
        if shown.is_over:
            return
        time.sleep(seconds)


def _live(reader: RunReader, console: Console) -> RunSnapshot:
    sight = None
    with (
        without_caret_c(),
        Live(console=console, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        for sight in _looks(reader, _FRAME_SECONDS):
            live.update(view(sight, console.width, console.encoding), refresh=True)
    assert sight is not None  # noqa: S101 - a run is looked at at least once
    return sight.run


@contextmanager
def without_caret_c() -> Iterator[None]:
    """Keep the terminal from echoing `^C` into the last frame."""
    try:
        saved = termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError):
        # Standard input is no terminal: nothing will be echoed.
        yield
        return
    quiet = [*saved]
    quiet[3] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, saved)


def _plain(reader: RunReader) -> RunSnapshot:
    """One short line an event: for CI, pipes and files."""
    sight = None
    for sight in _looks(reader, 1.0):
        for event in sight.events:
            if (line := line_of(event)) is not None:
                sys.stdout.write(line + "\n")
        sys.stdout.flush()
    assert sight is not None  # noqa: S101 - as above
    return sight.run


def _sum_up(run: RunSnapshot, console: Console) -> None:
    # On a terminal the last frame of the live view stays, with the sentence in it.
    if not console.is_terminal:
        sys.stdout.write(one_line(run.sentence) + "\n")
        sys.stdout.flush()
    if (table := evaluations_table(run)) is not None:
        print_whole(console, table)
