"""A chart as a picture of its own, for pages that take no inline SVG, such as markdown. Pure."""

import re
from html import escape

from maxrl_ops.report.chart import Chart, svg
from maxrl_ops.report.style import SHEET

_WIDTH, _HEIGHT, _LINE = 640, 260, 18
_PER_LINE = 2


def picture(chart: Chart) -> str:
    """An SVG file with its style, its title and what its colours mean; all texts are escaped."""
    labels = [(line.label, line.colour) for line in chart.lines if line.label and line.points]
    height = _HEIGHT + _LINE * (2 + -(-len(labels) // _PER_LINE))
    inner = re.sub(r"^<svg [^>]*>|</svg>$", "", svg(chart))
    key = []
    for place, (label, colour) in enumerate(labels):
        row, column = divmod(place, _PER_LINE)
        x, y = 54 + column * 300, _HEIGHT + _LINE * (row + 2)
        key.append(
            f'<g class="d c{colour % 8}"><circle cx="{x}" cy="{y - 4}" r="5"/></g>'
            f'<text x="{x + 12}" y="{y}">{escape(label)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        f"<title>{escape(chart.title)} over {escape(chart.unit)}s</title>"
        f"<style>{SHEET} svg {{ background: var(--card); }}</style>"
        f'<text x="54" y="14">{escape(chart.title)}. {escape(chart.note)}</text>'
        f'<g transform="translate(0 {_LINE})">{inner}</g>{"".join(key)}</svg>\n'
    )
