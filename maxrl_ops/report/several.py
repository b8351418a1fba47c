"""Runs beside each other: their curves overlaid, and when each reached what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.report.chart import Band, Chart, Line, share
from maxrl_ops.report.curves import WINDOW, Curves, reached
from maxrl_ops.report.one_run import pass_at_1, smoothed
from maxrl_ops.report.page import charts, page, section, table, text
from maxrl_ops.wire.logformat import percent

LEVELS = (0.50, 0.75, 0.90, 0.95)


@dataclass(frozen=True, slots=True)
class Compared:
    """One run of a comparison."""

    run: RunSnapshot
    curves: Curves

    def reached(self) -> dict[str, int | None]:
        """The iteration at which held-out pass@1 had each level twice running; None: never."""
        return {percent(level): reached(self.curves.evaluations, level) for level in LEVELS}

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        held = self.run.held_out
        return {
            "name": self.run.name,
            "objective": self.run.objective,
            "iteration": self.run.iteration,
            "samples": self.curves.samples_at(self.curves.last),
            "pass_at_1": held.pass_at_1,
            "se": held.se,
            "first_pass_at_1": held.first_pass_at_1,
            "reached": {
                level: None
                if at is None
                else {"iteration": at, "samples": self.curves.samples_at(at)}
                for level, at in self.reached().items()
            },
        }


def row(each: Compared) -> tuple[object, ...]:
    """A run's row of the table: what it is, how far it came, and when it reached what.

    What is not known is None.
    """
    held = each.run.held_out
    spread = "" if held.se is None else f" ± {percent(held.se)}"
    return (
        each.run.name,
        each.run.objective,
        each.run.iteration,
        each.curves.samples_at(each.curves.last),
        None if held.pass_at_1 is None else f"{percent(held.pass_at_1)}{spread}",
        *("never" if at is None else at for at in each.reached().values()),
    )


def render(compared: Sequence[Compared], made_at: str) -> str:
    """The whole page."""
    head = ("run", "objective", "iterations", "samples", "held-out pass@1")
    levels = tuple(f"iterations to {percent(level)}" for level in LEVELS)
    names = ", ".join(each.run.name for each in compared)
    return page(
        f"{names}: maxrl-ops compare",
        f'<header><h1>{text(names)}</h1><p class="soft">as of {text(made_at)}</p></header>',
        section(
            "Outcome",
            table((*head, *levels), map(row, compared), numbers=7),
            '<p class="soft">A level is reached at the second of two evaluations in a row that '
            "have it; &plusmn; is a standard error over prompts.</p>",
        ),
        section("Curves", charts(_charts(compared), max(each.curves.last for each in compared))),
        section(
            "In a sentence",
            table(("run", ""), ((each.run.name, each.run.sentence) for each in compared)),
        ),
    )


def _charts(compared: Sequence[Compared]) -> list[Chart]:
    smooth = [
        smoothed(
            each.run.name,
            each.curves.reference if each.curves.reference.middle.whole()
            else each.curves.correctness,
            colour,
        )
        for colour, each in enumerate(compared)
    ]  # fmt: skip
    held = [pass_at_1(e.run.name, e.curves, c) for c, e in enumerate(compared)]
    bands: list[Band] = [band for _, band in smooth]
    return [
        Chart(
            "Held-out pass@1",
            lines=[Line(d.label, [p[:2] for p in d.points], d.colour) for d in held],
            dots=held,
            form=share,
            bounds=(0.0, 1.0),
            note="With standard errors over prompts.",
        ),
        Chart(
            "Correctness at the reference threshold",
            lines=[line for line, _ in smooth],
            bands=bands,
            form=share,
            bounds=(0.0, 1.0),
            note=f"Means of {WINDOW} iterations with 95% intervals; a log without a reference "
            "threshold is shown at its live one.",
        ),
        _overlaid("Reward", "reward_mean", compared),
        _overlaid("Loss", "loss", compared),
        _overlaid("Entropy", "entropy", compared),
        _overlaid("Gradient norm", "grad_norm", compared, is_logarithmic=True),
        _overlaid("Tokens a second", "tokens_per_second", compared),
    ]


def _overlaid(
    title: str, name: str, compared: Sequence[Compared], *, is_logarithmic: bool = False
) -> Chart:
    lines = [Line(e.run.name, e.curves.curve(name), c) for c, e in enumerate(compared)]
    return Chart(title, lines, is_logarithmic=is_logarithmic)
