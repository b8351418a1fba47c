"""`backtest`: what a policy would have made of recorded logs, as tables and as JSON."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli import policy as policies
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.backtest import Backtest, Decided, Firing, backtest
from maxrl_ops.core.decision import Scalar
from maxrl_ops.core.entry import values_text
from maxrl_ops.core.policy import POLICIES
from maxrl_ops.core.printable import one_line
from maxrl_ops.dialects import DialectError, Past, Reader, load
from maxrl_ops.dialects.detecting import DetectingReader
from maxrl_ops.log_files import RenamingError, rotated
from maxrl_ops.policy_file import PolicyFile
from maxrl_ops.wire.record import Event
from maxrl_ops.wire.rundir import is_run_name, open_regular

_PIECE = 1 << 20
_ASSUMED = (
    "* assumed to be acknowledged: the log goes on under the old values, so what follows tells "
    "nothing of the change"
)
_AT_LIVE = (
    "judged at the live threshold, for the log tells no reference threshold: suggestions only"
)


@dataclass(frozen=True, slots=True)
class _Done:
    """A log, and what came of it."""

    log: str
    dialect: str
    policy: str
    found: Backtest


def backtest_logs(
    logs: list[str], policy: str | None, dialect: str | None, *, as_json: bool
) -> int:
    """Fold each log by the policy, and print what came of it."""
    meant = _policy(policy)
    done = [_one(log, meant, dialect) for log in logs]
    if as_json:
        told = [_as_json(each) for each in done]
        document: object = told[0] if len(told) == 1 else told
        sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
    else:
        console = Console(highlight=False)
        for each in done:
            console.print(_page(each))
    return ExitCode.OK


def _policy(named: str | None) -> PolicyFile:
    """A named policy, a file's, or the one in force."""
    if named is None:
        return policies.in_force()
    return PolicyFile(POLICIES[named]) if named in POLICIES else policies.read(named)


def _one(log: str, meant: PolicyFile, dialect: str | None) -> _Done:
    reader = _reader(dialect)
    files = _files(log)
    found = backtest(_events(files, reader), meant.for_run(log))
    spoken = dialect or getattr(reader, "dialect", None)
    if spoken is None:
        raise CommandError(f"{log}: no line of it tells its format; give --dialect", ExitCode.BAD)
    if not found.iterations:
        raise CommandError(f"{log}: it tells no iteration, read as {spoken}", ExitCode.BAD)
    name = found.policy.name if meant.source is None else str(meant.source)
    return _Done(log, spoken, name, found)


def _reader(dialect: str | None) -> Reader:
    if dialect is None:
        return DetectingReader(Past())
    try:
        return load(dialect).open(Past())
    except DialectError as error:
        raise CommandError(str(error)) from None


def _files(log: str) -> list[Path]:
    """The file of that name; the log of the run of that name, with what rotation made of it.

    Raises:
        CommandError: There is neither.
    """
    if log == "-" or (path := Path(log).expanduser()).exists():
        return [Path("/dev/stdin") if log == "-" else path]
    if is_run_name(log) and (run := home().run(log)).log.exists():
        try:
            return [*(file.path for file in rotated(run.log)), run.log]
        except RenamingError:
            raise CommandError(f"{log}: its log is being rotated, try again") from None
    raise CommandError(f"there is no file and no run {log!r}", ExitCode.NOT_FOUND)


def _events(files: Iterable[Path], reader: Reader) -> Iterator[list[Event]]:
    for path in files:
        with _opened(path) as file:
            while data := file.read(_PIECE):
                yield reader.feed(data)
    yield reader.close()


def _opened(path: Path) -> BinaryIO:
    return sys.stdin.buffer if path == Path("/dev/stdin") else open_regular(path)


# --- JSON -----------------------------------------------------------------------------------------


def _as_json(done: _Done) -> dict[str, Any]:
    found = done.found
    return {
        "log": done.log,
        "dialect": done.dialect,
        "iterations": found.iterations,
        "policy": done.policy,
        "judged_at": _judged_at(found),
        "reference_threshold": found.state.reference_threshold,
        "firings": [_firing_json(each) for each in found.firings],
        "decisions": [_decision_json(each) for each in found.decisions],
        "flaps": found.flaps,
        "assumed": found.assumed,
    }


def _judged_at(found: Backtest) -> str:
    return "reference threshold" if found.state.has_reference else "live threshold"


def _firing_json(firing: Firing) -> dict[str, Any]:
    return {
        "rule": firing.rule,
        "iteration": firing.iteration,
        "ended": firing.ended,
        "delay": firing.delay,
        "evidence": dict(firing.evidence),
    }


def _decision_json(decided: Decided) -> dict[str, Any]:
    decision = decided.decision
    return {
        "iteration": decision.iteration,
        "rule": decision.rule,
        "control": dict(decision.changes),
        "because": decision.because,
        "intent": decision.intent,
        "mode": str(decision.mode),
        "held": decided.held,
        "acknowledged": decided.acknowledged,
        "revision": decided.revision,
        "judged": decided.judged,
        "evidence": dict(decision.evidence),
    }


# --- For people -----------------------------------------------------------------------------------


def _page(done: _Done) -> RenderableType:
    found = done.found
    counts = f"{len(found.firings)} firings, {len(found.decisions)} decisions, {found.flaps} flaps"
    head = Text.assemble(
        (one_line(done.log), "bold"),
        f"  {done.dialect}, {found.iterations} iterations, policy {one_line(done.policy)}: ",
        counts,
    )
    parts: list[RenderableType] = [head]
    if not found.state.has_reference:
        parts.append(Text("  " + _AT_LIVE, style="yellow"))
    if found.firings:
        parts.append(Padding(_firings(found.firings), (0, 0, 0, 2)))
    parts += [Padding(_decision(each), (0, 0, 0, 2)) for each in found.decisions]
    if found.assumed:
        parts.append(Text("  " + _ASSUMED, style="dim"))
    return Group(*parts, Text())


def _firings(firings: list[Firing]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for name in ("fired at", "delay", "over at"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("evidence")
    for each in firings:
        figures = [_count(figure) for figure in (each.iteration, each.delay, each.ended)]
        table.add_row(each.rule, *figures, shown(_seen(each.evidence), "dim"))
    return table


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _seen(evidence: Mapping[str, Scalar]) -> str:
    """The interval that a verdict on correctness rests on, else the gradient's figures."""
    parts = []
    if "lower" in evidence:
        interval = f"{evidence['lower']:.0%} to {evidence['upper']:.0%}"
        parts.append(f"{evidence['correctness']:.0%} ({interval}) over {evidence['iterations']}")
    if "gradient_z" in evidence:
        parts.append(f"gradient z {evidence['gradient_z']}, drift {evidence['drift']}")
    return "; ".join(parts)


def _decision(decided: Decided) -> RenderableType:
    decision = decided.decision
    mark = {"assumed": "*", None: f" ({decision.mode})"}.get(decided.acknowledged, "")
    first = Text.assemble(
        f"iteration {decision.iteration}  {decision.rule}  ",
        one_line(values_text(decision.changes)),
        (mark, "yellow"),
        "" if decided.held is None else f"  {decided.held} iterations after it fired",
        "" if decided.judged is None else f"  {decided.judged}",
    )
    return Group(first, Padding(shown(decision.because), (0, 0, 0, 2)))
