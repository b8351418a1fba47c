"""What held-out evaluations say at the start, in the middle and at the end, as a table."""

from rich import box
from rich.table import Table

from maxrl_ops.core.snapshot import Evaluation, RunSnapshot


def evaluations_table(run: RunSnapshot) -> Table | None:
    """Start, middle and end; None without an evaluation."""
    rows = _telling(run.evaluations)
    if not rows:
        return None
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("held-out at", justify="right")
    for heading in ("greedy", "pass@1", "pass@8"):
        table.add_column(heading, justify="right")
    with_wrong = any(row.compiles_but_wrong is not None for row in rows)
    if with_wrong:
        table.add_column("compiles but wrong", justify="right")
    for row in rows:
        cells = [str(row.iteration), _percent(row.greedy), _pass_at_1(row)]
        cells.append(_percent(row.pass_at_k.get("8")))
        table.add_row(*cells, *([_percent(row.compiles_but_wrong)] if with_wrong else []))
    return table


def _telling(evaluations: tuple[Evaluation, ...]) -> list[Evaluation]:
    """First, middle and last; fewer where there are fewer."""
    if len(evaluations) <= 3:
        return list(evaluations)
    return [evaluations[0], evaluations[len(evaluations) // 2], evaluations[-1]]


def _pass_at_1(row: Evaluation) -> str:
    se = "" if row.se is None else f" +- {row.se:.1%}"
    return _percent(row.pass_at_1) + se


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"
