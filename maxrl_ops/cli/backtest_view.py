"""What came of a backtest, for people."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.backtest import Done
from maxrl_ops.cli.printable import shown
from maxrl_ops.core.backtest import Decided, Firing
from maxrl_ops.core.decision import Scalar
from maxrl_ops.core.entry import values_text
from maxrl_ops.core.printable import one_line

_ASSUMED = (
    "* assumed to be acknowledged: the log goes on under the old values, so what follows tells "
    "nothing of the change"
)
_AT_LIVE = (
    "judged at the live threshold, for the log tells no reference threshold: suggestions only"
)


def show(done: Sequence[Done]) -> None:
    """Print each log's firings and decisions."""
    console = Console(highlight=False)
    for each in done:
        console.print(_page(each))


def _page(done: Done) -> RenderableType:
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
