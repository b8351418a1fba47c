"""Pieces of a page. Whatever text comes in is hostile, and leaves escaped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape

from maxrl_ops.core.printable import one_line, visible
from maxrl_ops.report.chart import Chart, legend, svg
from maxrl_ops.report.style import SHEET

# Nothing is loaded and nothing runs, whatever a sample might smuggle in.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def text(value: object) -> str:
    """A value on one line, as HTML."""
    return escape(one_line(str(value)))


def page(title: str, *sections: str) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{SHEET}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Parts under a heading; nothing where there are none."""
    content = "".join(parts)
    return f"<section><h2>{text(title)}</h2>{content}</section>" if content else ""


def facts(values: Mapping[str, object]) -> str:
    """Named values in boxes; those that are None are left out."""
    boxes = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in values.items()
        if value is not None
    )
    return f'<dl class="facts">{boxes}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 0) -> str:
    """A table whose last `numbers` columns are figures; nothing without rows. None is a dash."""
    body = "".join(_row("td", row, numbers) for row in rows)
    if not body:
        return ""
    return (
        f'<div class="scroll"><table><thead>{_row("th", head, numbers)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(tag: str, cells: Sequence[object], numbers: int) -> str:
    first = len(cells) - numbers
    return (
        "<tr>"
        + "".join(
            f"<{tag}{' class=n' if place >= first else ''}>"
            f"{'&ndash;' if cell is None else text(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        + "</tr>"
    )


def charts(chosen: Iterable[Chart], last: float) -> str:
    """Those charts that have something to show, all from the start to `last`."""
    shown = "".join(
        _figure(replace(chart, span=(0.0, max(1.0, last))))
        for chart in chosen
        if not chart.is_empty
    )
    return f'<div class="charts">{shown}</div>' if shown else ""


def _figure(chart: Chart) -> str:
    note = f"<p>{text(chart.note)}</p>" if chart.note else ""
    return f"<figure><h3>{text(chart.title)}</h3>{legend(chart)}{svg(chart)}{note}</figure>"


def listing(content: str, longest: int = 4000) -> str:
    """Text as it stands, control characters spelt out, cut where it is too long."""
    shown = visible(content[:longest])
    more = f"\n... {len(content) - longest} more characters" if len(content) > longest else ""
    return f"<pre>{escape(shown + more)}</pre>"
