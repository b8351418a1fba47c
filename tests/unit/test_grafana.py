"""Dashboards and provisioning: as the tables say, as Grafana reads them, as people lint them."""

import json
import re
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import refused
from jsonschema import Draft7Validator

from maxrl_ops.alerts import ALERTS
from maxrl_ops.block_yaml import dump
from maxrl_ops.cli.app import run
from maxrl_ops.grafana.files import dashboards
from maxrl_ops.grafana.panels import WIDTH
from maxrl_ops.signals import METRICS, Kind

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared" / "grafana" / "dashboard.schema.json"
DASHBOARDS = {each["uid"]: each for each in dashboards()}
OF_PROMETHEUS = {
    *("up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"),
    *("process_start_time_seconds", "process_cpu_seconds_total"),
    *("process_resident_memory_bytes", "process_open_fds"),
}
# Of Grafana's @grafana/data value formats, those in use here.
UNITS = set("none percentunit s bytes Bps cps cpm celsius watt".split())

every_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)


def panels(uid: str) -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARDS[uid]["panels"] if panel["type"] != "row"]


def expressions(uid: str) -> list[str]:
    of_panels = [target["expr"] for panel in panels(uid) for target in panel["targets"]]
    of_variables = [v["query"] for v in variables(uid) if v["type"] == "query"]
    notes = [each["expr"] for each in DASHBOARDS[uid]["annotations"]["list"]]
    return [*of_panels, *of_variables, *notes]


def variables(uid: str) -> list[dict[str, Any]]:
    return list(DASHBOARDS[uid]["templating"]["list"])


# --- Committed as generated -----------------------------------------------------------------------


def test_what_is_committed_is_what_make_grafana_writes(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "write_grafana.py"), str(tmp_path)]
    subprocess.run(script, check=True, timeout=60)
    fresh = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(fresh) == 11
    for name, path in fresh.items():
        assert (ROOT / name).read_text() == path.read_text(), f"{name} is old: run make grafana"
    there = {p.relative_to(ROOT) for p in (ROOT / "grafana").rglob("*") if p.is_file()}
    assert there - set(fresh) == {Path("grafana/compose.yml")}


# --- As Grafana reads it --------------------------------------------------------------------------


@every_dashboard
def test_grafanas_own_schema_holds(uid: str) -> None:
    if not SCHEMA.exists():
        pytest.skip(f"Grafana's schema is not at {SCHEMA}")
    validator = Draft7Validator(json.loads(SCHEMA.read_text()))
    found = [
        f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(DASHBOARDS[uid])
    ]
    assert found == []


@every_dashboard
def test_grafanas_own_models_know_every_key(uid: str) -> None:
    """What its SDK reads, and writes again, has all that we wrote."""
    with warnings.catch_warnings():
        # It would rather have the next version of the format, which older Grafanas cannot read.
        warnings.simplefilter("ignore", DeprecationWarning)
        from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415
        from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(DASHBOARDS[uid])))
    lost = sorted(missing(DASHBOARDS[uid], again))
    # The SDK leaves a threshold's value out where it is null, which is what it means.
    assert [path for path in lost if not path.endswith("steps.0.value")] == []


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where `theirs` lacks something of `ours`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            found
            for key, value in ours.items()
            for found in (
                missing(value, theirs[key], f"{path}.{key}") if key in theirs else [f"{path}.{key}"]
            )
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(ours, theirs, strict=True)
        return [f for i, (a, b) in enumerate(pairs) for f in missing(a, b, f"{path}.{i}")]
    return [] if ours == theirs else [path]


# --- As people lint them --------------------------------------------------------------------------


@every_dashboard
def test_panels_say_what_they_are(uid: str) -> None:
    for panel in panels(uid):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == "${datasource}"
    titles = [panel["title"] for panel in panels(uid)]
    assert len(set(titles)) == len(titles)


@every_dashboard
def test_ids_are_unique_and_panels_lie_beside_each_other(uid: str) -> None:
    ids = [panel["id"] for panel in DASHBOARDS[uid]["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    places = [panel["gridPos"] for panel in DASHBOARDS[uid]["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= WIDTH for place in places)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or above, (a, b)


@every_dashboard
def test_queries_are_of_the_table_and_filtered(uid: str) -> None:
    known = {metric.family for metric in METRICS.values() if metric.kind is not Kind.HISTOGRAM}
    known |= {
        f"{metric.name}_{part}"
        for metric in METRICS.values()
        if metric.kind is Kind.HISTOGRAM
        for part in ("sum", "count")
    }
    wanted = {variable["name"] for variable in variables(uid)} - {"datasource"}
    for expr in expressions(uid):
        plain = re.sub(r"\{[^}]*\}", "", expr)
        named = set(re.findall(r"\b(?:maxrl_\w+|up|ALERTS|scrape_\w+|process_\w+)\b", plain))
        assert named
        assert named <= known | OF_PROMETHEUS, expr
        assert set(re.findall(r"\$(\w+)", expr)) <= wanted | {"__rate_interval", "__range"}
        # A fixed range is wrong at every zoom but one.
        for function in ("rate", "increase"):
            for rest in expr.split(f"{function}(")[1:]:
                assert re.match(r"[^()]*\[\$__rate_interval\]\)", rest), expr
        if "ALERTS" not in named:
            selectors = re.findall(r"\b\w+\{([^}]*)\}", expr)
            is_variable = expr.startswith("query_result(")
            assert is_variable or (selectors and all('$instance"' in each for each in selectors))


def test_every_metric_of_a_run_is_on_a_dashboard() -> None:
    shown = " ".join(expr for uid in DASHBOARDS for expr in expressions(uid))
    lacking = {name for name in METRICS if not re.search(rf"\b{name}(_total|_sum)?\b", shown)}
    # Looked at by alerts, told in `status`, or for whoever asks why a run's series are gone.
    assert lacking == {
        "maxrl_ops_runs_unread",
        *("maxrl_job_start_timestamp_seconds", "maxrl_job_last_exit_code"),
        *("maxrl_job_last_exit_out_of_memory", "maxrl_job_pending_approvals"),
        *("maxrl_rule_ladder_exhausted", "maxrl_rule_cooldown_remaining_iterations"),
        *("maxrl_tailer_rotations", "maxrl_tailer_lost_bytes", "maxrl_tailer_truncated_lines"),
    }


def test_ended_runs_stay_selectable() -> None:
    [chosen] = [v for v in variables("maxrl-run") if v["name"] == "run"]
    assert chosen["query"].startswith("query_result(count by (run) (last_over_time(maxrl_job_info{")
    assert "[$__range]" in chosen["query"]
    assert chosen["refresh"] == 2
    found = re.fullmatch(r"/(.*)/", chosen["regex"])
    assert found is not None
    assert re.findall(found[1], '{run="rust-1"} 1 1700000000000') == ["rust-1"]


# --- Provisioning ---------------------------------------------------------------------------------


def test_yaml_is_what_it_was_made_of() -> None:
    hostile = {
        "a": ["yes", "no: {x}", "# not", 'quoted "', "new\nline", -1e300, None, True, "", "1"],
        "b": {"c": [], "d": {}, "e": [{"f": 1, "g": [[1, 2], {"h": "i"}]}]},
    }
    assert yaml.safe_load(dump(hostile)) == hostile
    for path in (ROOT / "grafana").rglob("*.yml"):
        assert yaml.safe_load(path.read_text())


def provisioned(name: str) -> Any:
    return yaml.safe_load((ROOT / "grafana" / "provisioning" / name).read_text())


def test_grafana_evaluates_the_same_alerts() -> None:
    [group] = provisioned("alerting/maxrl-ops.yml")["groups"]
    assert (group["name"], group["folder"], group["interval"]) == ("maxrl-ops", "maxrl-ops", "60s")
    [source] = provisioned("datasources/maxrl-ops.yml")["datasources"]
    [point] = provisioned("alerting/maxrl-ops-contact.yml")["contactPoints"]
    by_title = {rule["title"]: rule for rule in group["rules"]}
    assert set(by_title) == {alert.name for alert in ALERTS}
    for alert in ALERTS:
        rule = by_title[alert.name]
        asked, judged = rule["data"]
        assert asked["model"]["expr"] == alert.promql()
        assert asked["datasourceUid"] == source["uid"]
        assert (judged["datasourceUid"], judged["refId"]) == ("__expr__", rule["condition"])
        assert judged["model"]["expression"] == asked["refId"]
        assert rule["notification_settings"]["receiver"] == point["name"]
        assert len(rule["uid"]) <= 40
        # Its $value would be a text of everything.
        assert "$value " not in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].endswith(f"/{alert.name}.md")
        # There they would be taken for variables of the environment.
        assert "$" not in json.dumps([rule["labels"], rule["title"]])


def test_images_are_pinned_and_what_is_mounted_is_there() -> None:
    services = yaml.safe_load((ROOT / "grafana" / "compose.yml").read_text())["services"]
    assert set(services) == {"prometheus", "alertmanager", "grafana"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        mounted = [volume.split(":")[0] for volume in service["volumes"]]
        assert all((ROOT / "grafana" / path).exists() for path in mounted if "/" in path)


def test_export_writes_them_for_this_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "g"
    options = ["--prometheus", "http://prom:9090", "--webhook", "https://hooks.example/x"]
    for _ in range(2):
        assert run(["export", "grafana", "--to", str(target), *options]) == 0
    assert "3 dashboards" in capsys.readouterr().out
    for uid, wanted in DASHBOARDS.items():
        assert json.loads((target / "dashboards" / f"{uid}.json").read_text()) == wanted
    written = target / "provisioning"
    assert f'path: "{target}/dashboards"' in (written / "dashboards/maxrl-ops.yml").read_text()
    assert 'url: "http://prom:9090"' in (written / "datasources/maxrl-ops.yml").read_text()
    contact = (written / "alerting/maxrl-ops-contact.yml").read_text()
    assert 'url: "https://hooks.example/x"' in contact
    rules = (written / "alerting/maxrl-ops.yml").read_text()
    links = re.findall(r'runbook_url: "file://([^"]+)"', rules)
    assert len(links) == len(ALERTS)
    assert all(Path(link).is_file() for link in links)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["grafana", "--prometheus", "prom:9090"], "--prometheus='prom:9090' is not allowed"),
        (["grafana", "--webhook", "http://[x"], "--webhook='http://[x' is not allowed"),
        (["prometheus", "--times", "0"], "--times=0 is not allowed"),
        (["prometheus", "--times", "nan"], "--times=nan is not allowed"),
        (["prometheus", "--webhook", "ftp://x"], "--webhook='ftp://x' is not allowed"),
    ],
)
def test_what_export_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(["export", *words, "--to", str(tmp_path / "x")], capsys, 2)
