"""What dashboards are made of: panels, their queries, variables, links; in Grafana's JSON model.

No field has settings of its own: Grafana's published schema of a dashboard has no room for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
TAG = "maxrl-ops"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL, with the dashboard's variables.
        legend: A template over the labels of its series.
        is_instant: Only its value at the end of the time range is wanted.
    """

    expr: str
    legend: str
    is_instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; where it stands, and its id, come from its place in the dashboard.

    Attributes:
        kind: As Grafana names it: timeseries, stat, state-timeline, table.
        about: What it shows and how to read it, in a sentence or two.
        unit: As Grafana names it.
        custom: Of the field configuration.
        options: The kind's own.
        least, most: Where its axis ends; by the data where not given.
    """

    kind: str
    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    custom: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    mappings: Sequence[Mapping[str, Any]] = ()
    transformations: Sequence[Mapping[str, Any]] = ()
    least: float | None = None
    most: float | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A headline, and the panels under it, from left to right and then down."""

    title: str
    panels: tuple[Panel, ...]


# --- Panels ---------------------------------------------------------------------------------------

_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_STACKED = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}


def lines(title: str, about: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Curves over time."""
    is_stacked = more.pop("is_stacked", False)
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "spanNulls": False,
        **(_STACKED if is_stacked else {}),
    }
    options = {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}}
    return Panel("timeseries", title, about, unit, queries, custom=custom, options=options, **more)


def share(title: str, about: str, *queries: Query, **more: Any) -> Panel:
    """Curves between 0 and 100%."""
    return lines(title, about, "percentunit", *queries, least=0, most=1, **more)


def stat(title: str, about: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """The values of now in large."""
    is_named = more.pop("is_named", False)
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if is_named else "value_and_name",
        "colorMode": "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
    }
    now = tuple(Query(query.expr, query.legend, is_instant=True) for query in queries)
    sizes = {"width": 6, "height": 4} | more
    return Panel("stat", title, about, unit, now, options=options, **sizes)


def states(title: str, about: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """What held from when to when, a row for each series."""
    options = {
        "showValue": "auto",
        "rowHeight": 0.8,
        "mergeValues": True,
        "alignValue": "left",
        "legend": {**_LEGEND, "showLegend": False},
        "tooltip": {"mode": "single"},
    }
    custom = {"fillOpacity": 60, "lineWidth": 0}
    return Panel(
        "state-timeline", title, about, unit, queries, custom=custom, options=options, **more
    )


def table(title: str, about: str, *columns: tuple[str, str], key: str, **more: Any) -> Panel:
    """Values of now, a row for each value of the label `key`; (name, expression) are its columns.

    The name tells a column's unit.
    """
    queries = tuple(Query(expr, name, is_instant=True) for name, expr in columns)
    renamed = {f"Value #{_letter(i)}": name for i, (name, _) in enumerate(columns)}
    return Panel(
        "table",
        title,
        about,
        "none",
        queries,
        options={"showHeader": True, "cellHeight": "sm"},
        decimals=1,
        transformations=(
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "renameByName": {**renamed}},
            },
            {"id": "sortBy", "options": {"sort": [{"field": key, "desc": False}]}},
        ),
        **more,
    )


def named(words: Mapping[int, tuple[str, str]]) -> tuple[Mapping[str, Any], ...]:
    """Values shown as (text, colour)."""
    options = {
        str(value): {"text": text, "color": colour, "index": place}
        for place, (value, (text, colour)) in enumerate(words.items())
    }
    return ({"type": "value", "options": options},)


def _letter(place: int) -> str:
    return chr(ord("A") + place)


# --- Variables ------------------------------------------------------------------------------------


def datasource_variable() -> dict[str, Any]:
    """Which Prometheus."""
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "regex": "",
        "skipUrlSync": False,
    }


def label_variable(name: str, title: str, metric: str, *, every: bool) -> dict[str, Any]:
    """A label's values among the series that were there in the time range, whether or not now.

    Args:
        name: The variable's and the label's.
        title: As the dashboard shows it.
        metric: A selector of series that each of them has.
        every: Several may be chosen, and all are at first.
    """
    query = f"query_result(count by ({name}) (last_over_time({metric}[$__range])))"
    chosen = {"current": {"text": "All", "value": "$__all"}, "allValue": ".*"} if every else {}
    return {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": query,
        "regex": f'/{name}="([^"]*)"/',
        # Ended runs stay selectable: by the time range, not only when the dashboard loads.
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "includeAll": every,
        **chosen,
        "multi": every,
        "options": [],
        "skipUrlSync": False,
    }


# --- The whole ------------------------------------------------------------------------------------


def dashboard(
    uid: str,
    title: str,
    about: str,
    rows: Iterable[Row],
    *,
    variables: Sequence[Mapping[str, Any]] = (),
    annotations: Sequence[Mapping[str, Any]] = (),
    links: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One dashboard, as Grafana provisions it from a file."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": [TAG],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "templating": {"list": [datasource_variable(), *variables]},
        "annotations": {"list": list(annotations)},
        "links": [_to_the_others(), *links],
        "panels": list(_laid_out(rows)),
    }


def link(title: str, url: str) -> dict[str, Any]:
    """A way out of a dashboard."""
    return {
        "title": title,
        "type": "link",
        "icon": "external link",
        "tooltip": "",
        "url": url,
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": True,
    }


def _to_the_others() -> dict[str, Any]:
    return {
        **link("maxrl-ops", ""),
        "type": "dashboards",
        "icon": "",
        "tags": [TAG],
        "targetBlank": False,
        "includeVars": True,
    }


def _laid_out(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    """Panels in their places; ids count from 1, and stay as long as nothing is put before them."""
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
        }
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            number += 1
            yield _panel(panel, number, {"x": left, "y": top})
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    given = {"min": panel.least, "max": panel.most, "decimals": panel.decimals}
    defaults = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic"},
        "mappings": list(panel.mappings),
        "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": None}]},
        "custom": dict(panel.custom),
        **{key: value for key, value in given.items() if value is not None},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, **place},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": dict(panel.options),
        "transformations": list(panel.transformations),
        "targets": [_target(query, i, panel.kind) for i, query in enumerate(panel.queries)],
    }


def _target(query: Query, place: int, kind: str) -> dict[str, Any]:
    return {
        "refId": _letter(place),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": query.is_instant,
        "range": not query.is_instant,
        "format": "table" if kind == "table" else "time_series",
    }
