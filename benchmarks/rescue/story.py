"""One rescue, told from its journal, with a chart. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.rescue.kinds import KINDS
from benchmarks.rescue.outcome import Outcome, Outcomes
from benchmarks.rescue.tables import ARM_NAMES
from maxrl_ops.report.chart import Chart, Dots, Line, Mark, share, svg

# The first of these that was rescued with a change, and was not without, is told.
_TOLD = ("learning rate x 30", "learning rate x 100", "threshold too high", "loss not finite")
_SIZE, _SIZE_WITH_LEGEND = 'viewBox="0 0 640 260"', 'viewBox="0 -24 640 284"'
_STYLE = """<style>
svg { font: 11px sans-serif; background: #fff; } text { fill: #444; } text.y { text-anchor: end; }
text.x, .mark text { text-anchor: middle; } line.grid { stroke: #ddd; } line.axis { stroke: #888; }
polyline { fill: none; } polyline, line { stroke-width: 1.8; }
line.grid, line.axis, .d line, .mark line { stroke-width: 1; }
.mark line { stroke: #b3264a; stroke-dasharray: 4 3; }
.c0 { stroke: #2166ac; } .c1 { stroke: #c2570c; } .c2 { stroke: #8a3ea8; } .c7 { stroke: #8593a3; }
.d circle { stroke: none; } .d.c0 circle { fill: #2166ac; } .d.c1 circle { fill: #c2570c; }
.d.c2 circle { fill: #8a3ea8; } .d.c7 circle { fill: #8593a3; }
</style>"""


def chosen(outcomes: Outcomes) -> Outcome | None:
    """The run that is told of."""
    for kind in _TOLD:
        for outcome in outcomes.of([kind], "act"):
            seed = outcome.row["seed"]
            beside = [o for o in outcomes.of([kind], "observe") if o.row["seed"] == seed]
            saved_itself = any(other.is_rescued for other in beside)
            if outcome.is_rescued and outcome.row["actions"] and not saved_itself:
                return outcome
    return None


def story(outcomes: Outcomes) -> str:
    """The section; empty where there is nothing to tell."""
    told = chosen(outcomes)
    if told is None:
        return ""
    row, kind = told.row, KINDS[told.row["kind"]]
    beside = _beside(outcomes, row)
    ends = "; ".join(f"{ARM_NAMES[arm]} {found['pass_at_1']:.1%}" for arm, found in beside.items())
    journal = "\n".join(_entry(each) for each in row["changes"])
    return f"""## A rescue

{row["kind"].capitalize()}, seed {row["seed"]}: {kind.title}. Held-out pass@1 at the end: {ends};
the healthy twin {_twin(outcomes, row)["pass_at_1"]:.1%}.

![Held-out pass@1 over the iterations](rescue.svg)

Held-out pass@1 as the run itself evaluated it, with its standard error, over the iterations that it
has trained, those that were done again among them. A dashed line is a change by the autopilot. Its
journal (`maxrl-ops decisions run`):

{journal}"""


def chart(outcomes: Outcomes) -> str:
    """The chart of that run beside the others, an SVG file; empty where there is none."""
    told = chosen(outcomes)
    if told is None:
        return ""
    row = told.row
    runs = [("healthy twin", 7, _twin(outcomes, row))]
    runs += [
        (ARM_NAMES[arm], colour, found)
        for colour, (arm, found) in enumerate(_beside(outcomes, row).items())
    ]
    lines = [Line(name, [(x, y) for x, y, _ in r["evaluations"]], c) for name, c, r in runs]
    dots = [Dots(name, [tuple(p) for p in r["evaluations"]], c) for name, c, r in runs]
    marks = [
        Mark(x, number, text)
        for number, (x, text) in enumerate(zip(row["changed_after"], _texts(row), strict=False), 1)
    ]
    title = f"Held-out pass@1, {row['kind']}"
    drawn = svg(Chart(title, lines=lines, dots=dots, marks=marks, form=share, bounds=(0.0, 1.0)))
    head, rest = drawn.split(">", 1)
    head = head.replace(_SIZE, _SIZE_WITH_LEGEND)
    shown = _legend([(name, colour) for name, colour, _ in runs])
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{shown}{rest}\n'


def _legend(names: Sequence[tuple[str, int]]) -> str:
    """Above the chart: beside a page there is none in an SVG file."""
    return "".join(
        f'<line class="c{colour}" x1="{x}" y1="-12" x2="{x + 18}" y2="-12"/>'
        f'<text x="{x + 24}" y="-8">{escape(name)}</text>'
        for x, (name, colour) in zip(range(54, 640, 140), names, strict=False)
    )


def _beside(outcomes: Outcomes, row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    keys = {arm: (row["kind"], row["seed"], arm) for arm in ARM_NAMES}
    return {arm: outcomes.rows[key] for arm, key in keys.items() if key in outcomes.rows}


def _twin(outcomes: Outcomes, row: Mapping[str, Any]) -> Mapping[str, Any]:
    return outcomes.rows[KINDS[row["kind"]].twin or row["kind"], row["seed"], "observe"]


def _texts(row: Mapping[str, Any]) -> Sequence[str]:
    return [each["because"] for each in row["changes"] if each["outcome"] == "applied"]


def _entry(change: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key} {value}" for key, value in change["control"].items())
    judged = f", judged {change['judged']}" if change["judged"] else ""
    return (
        f"- **{change['rule'] or 'a person'}** at iteration {change['iteration']}: {values} "
        f"({change['outcome']}{judged}). {change['because']}."
    )
