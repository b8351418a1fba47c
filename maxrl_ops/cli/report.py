"""`report` and `compare`: runs as HTML files that need nothing else, and as a table."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from maxrl_ops import sweep_file
from maxrl_ops.cli import finding
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, meant, named
from maxrl_ops.cli.printable import print_whole, shown
from maxrl_ops.core import secret_words
from maxrl_ops.core.entry import Entry
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.core.sweep import Sweep
from maxrl_ops.journal import Journal
from maxrl_ops.report import one_run, several
from maxrl_ops.report.curves import Curves
from maxrl_ops.report.one_run import Sample, Told
from maxrl_ops.report.several import Compared
from maxrl_ops.run_reader import RunReader
from maxrl_ops.store import HistoryError
from maxrl_ops.wire.documents import Exit, RunSpec, SupervisorState, utc_now
from maxrl_ops.wire.logformat import exact, percent
from maxrl_ops.wire.record import RunStarted
from maxrl_ops.wire.rundir import DocumentError, RunDir, is_run_name, open_regular, replace
from maxrl_ops.wire.user_paths import expanded

# Of the newest samples: as many correct ones as others.
_SAMPLES = 12
_TAIL = 512 * 1024
_MOST_RUNS = 8


def report(name: str | None, to: str | None) -> int:
    """Write the run's report."""
    run = meant(name)
    target = target_of(to, f"{run.name}.html")
    write_page(target, one_run.render(_told(run)))
    sys.stdout.write(f"{target}\n")
    return ExitCode.OK


def compare(names: list[str], to: str | None, *, as_json: bool) -> int:
    """Show runs beside each other, and write a page of them where one is asked for."""
    if len(names) == 1 and (asked := sweep_named(names[0])) is not None:
        from maxrl_ops.cli.sweep_results import show  # noqa: PLC0415 - it has its curves from here

        return show(asked, None if to is None else target_of(to, ""), as_json=as_json)
    if len(set(names)) < 2:
        raise CommandError(
            "give two runs or more, as: maxrl-ops compare grpo maxrl; or the name of a sweep"
        )
    if len(set(names)) > _MOST_RUNS:
        raise CommandError(f"give {_MOST_RUNS} runs at most: more cannot be told apart")
    compared = [_compared(named(name)) for name in dict.fromkeys(names)]
    target = None if to is None else target_of(to, "")
    if target is not None:
        write_page(target, several.render(compared, utc_now()))
    if as_json:
        sys.stdout.write(json.dumps([each.to_json() for each in compared], indent=1) + "\n")
    else:
        print_whole(Console(highlight=False), _table(compared))
        if target is not None:
            sys.stdout.write(f"{target}\n")
    return ExitCode.OK


def sweep_named(name: str) -> Sweep | None:
    """The sweep of that name; None where there is none."""
    try:
        return sweep_file.load(home().sweep(name)) if is_run_name(name) else None
    except FileNotFoundError:
        return None


def target_of(to: str | None, name: str) -> Path:
    """The file that a page is to be written to; `name` where none was given.

    Raises:
        CommandError: It cannot be.
    """
    target = expanded(to or name).absolute()
    if target.is_dir():
        raise CommandError(f"--to={to!r}: {target} is a directory, give a file")
    if not target.parent.is_dir():
        raise CommandError(f"--to={to!r}: there is no directory {target.parent}")
    return target


def write_page(target: Path, content: str) -> None:
    """Write it whole, whatever a model has put into it."""
    replace(target, content.encode("utf-8", "replace"))


# --- Reading --------------------------------------------------------------------------------------


def curves_of(run: RunDir) -> tuple[RunReader, Curves, RunSnapshot]:
    """The run as its files tell it, its log folded whole."""
    curves = Curves()
    reader = RunReader(run, finding.journal())
    snapshot, events = reader.look()
    for event in events:
        curves.append(event)
    return reader, curves, snapshot


def _told(run: RunDir) -> Told:
    reader, curves, snapshot = curves_of(run)
    return Told(
        run=snapshot,
        curves=curves,
        entries=_entries(run.name),
        header=_set_up(reader.spec, reader.history.started),
        exits=_exits(run),
        samples=_samples(run),
        made_at=utc_now(),
    )


def _compared(run: RunDir) -> Compared:
    _, curves, snapshot = curves_of(run)
    return Compared(snapshot, curves)


def _entries(name: str) -> list[Entry]:
    try:
        with Journal(home().history) as journal:
            return journal.entries(name)
    except (FileNotFoundError, HistoryError):
        # Without a journal there is still a log.
        return []


def _exits(run: RunDir) -> tuple[Exit, ...]:
    try:
        return SupervisorState.load(run).exits
    except (FileNotFoundError, DocumentError):
        return ()


def _set_up(spec: RunSpec, header: RunStarted | None) -> dict[str, object]:
    """Everything that the run was started with, by the words of the log and of run.json."""
    told: dict[str, object] = {"created": spec.created, "job": spec.job_name, "mode": spec.mode}
    if spec.command:
        told["command"] = secret_words.masked(spec.command)
    if header is not None:
        own = asdict(header)
        extra = own.pop("extra")
        told |= {key.replace("_", " "): _spelt(v) for key, v in own.items() if v is not None}
        told |= dict(extra)
    told |= {f"given: {key}": _spelt(value) for key, value in spec.settings.items()}
    return told | {key.replace("_", " "): value for key, value in spec.provenance.items()}


def _spelt(value: object) -> str:
    match value:
        case float():
            return exact(value)
        case tuple() | list():
            return "-".join(_spelt(each) for each in value)
    return str(value)


def _samples(run: RunDir) -> list[Sample]:
    """The newest samples, correct ones and others."""
    newest = list(_newest_samples(run))
    passed = [each for each in newest if each.is_correct][: _SAMPLES // 2]
    failed = [each for each in newest if not each.is_correct][: _SAMPLES - len(passed)]
    return [*passed, *failed]


def _newest_samples(run: RunDir) -> Iterator[Sample]:
    try:
        with open_regular(run.samples) as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read(_TAIL).split(b"\n")
    except FileNotFoundError:
        return
    seen: set[str] = set()
    # The first may be half a line, and so may the last.
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sample = one_run.of_json(json.loads(line))
            if sample.text not in seen:
                seen.add(sample.text)
                yield sample


# --- A table in the terminal ----------------------------------------------------------------------


def _table(compared: Iterable[Compared]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    levels = [f"to {percent(level)}" for level in several.LEVELS]
    for head in ("run", "objective", "iterations", "samples", "pass@1", *levels):
        table.add_column(head, justify="left" if head in ("run", "objective") else "right")
    for each in compared:
        table.add_row(*(shown("-" if cell is None else str(cell)) for cell in several.row(each)))
    return table
