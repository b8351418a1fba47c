"""/metrics as Prometheus sees it: real logs through production code, scraped over loopback."""

import errno
import math
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from scripted import header, record
from waiting import wait_until

from maxrl_ops import metrics_server
from maxrl_ops.core import autopilot
from maxrl_ops.core.decision import Decision
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.rules import ALERTS as RULE_ALERTS
from maxrl_ops.core.rules import RULES
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import Totals
from maxrl_ops.exporter import Exporter, Scene, lines_of
from maxrl_ops.host import Gpu, Host, HostView
from maxrl_ops.metrics_server import Server, serve
from maxrl_ops.run_metrics import MOST_SERIES, RunView, TailView, run_samples
from maxrl_ops.signals import METRICS, Kind
from maxrl_ops.wire.documents import Exit, SupervisorState
from maxrl_ops.wire.logformat import Parser, render
from maxrl_ops.wire.record import Evaluated, Event

LOG = (
    header(),
    Evaluated(0, 0.5, {1: 0.38, 8: 0.97}, 0.02, 0.6, 0.2),
    replace(
        record(1, 26, threshold=25.0),
        loss=4.2,
        correct_reward_mean=27.5,
        groups_all_wrong=1,
        groups_all_correct=2,
        groups_mixed=5,
        effective_samples=1.5,
        effective_of=3.0,
        duration=2.0,
        compile_ratio=0.969,
    ),
)
SUGGESTED = Decision(
    "one", "LOW", "threshold", 30, None, Mode.SUGGEST, 0, {"correctness_threshold": 15.0}, {}, "low"
)
SUPERVISOR = SupervisorState(
    "running",
    "2026-11-24T00:00:00Z",
    attempt=2,
    restarts=1,
    exits=(Exit(1, "2026-11-24T00:00:00Z", 1, None, "crashed"),),
)


JUDGED = autopilot.State(judged=7)


def view(*events: Event, **changes: object) -> RunView:
    history, totals = RunHistory(), Totals()
    parser = Parser()
    text = "".join(render(event) for event in events)
    for event in [*parser.feed(text.encode()), *parser.close()]:
        history.append(event)
        totals.append(event)
    plain = RunView("a job", "one", history, totals, autopilot.State(), TailView())
    return replace(plain, **changes)  # type: ignore[arg-type]


def scraped(exporter: Exporter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(exporter.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def shown(*views: RunView) -> Exporter:
    exporter = Exporter()
    runs = {each.name: lines_of(run_samples(each)) for each in views}
    exporter.show(Scene(runs, {"running": len(views)}, 1e9, "1.2.3"))
    return exporter


def values(exporter: Exporter, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """A metric's series, by their labels beside job_name and run."""
    return {
        tuple((k, v) for k, v in labels if k not in {"job_name", "run"}): value
        for (found, labels), value in scraped(exporter).items()
        if found == name
    }


@pytest.fixture
def exporter() -> Exporter:
    told = view(*LOG, supervisor=SUPERVISOR, state="running", autopilot=JUDGED, control_revision=3)
    return shown(told)


@pytest.fixture
def server(exporter: Exporter) -> Iterator[Server]:
    server = serve(exporter, ("127.0.0.1", 0), lambda: None, lambda: "not yet")
    yield server
    server.close()


def get(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.address[1]}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("maxrl_train_correctness_ratio", (), 26 / 64),
        ("maxrl_train_loss", (), 4.2),
        ("maxrl_train_compile_ratio", (), 0.969),
        ("maxrl_train_groups", (("outcome", "mixed"),), 5),
        ("maxrl_train_effective_samples_ratio", (), 0.5),
        ("maxrl_train_iterations_total", (("algorithm", "MaxRL"),), 1),
        ("maxrl_train_pass_at_k", (("k", "8"),), 0.97),
        ("maxrl_train_correctness_threshold", (), 30),
        ("maxrl_train_iteration_duration_seconds_bucket", (("le", "30.0"),), 1),
        ("maxrl_train_iteration_duration_seconds_count", (), 1),
        ("maxrl_job_state", (("state", "running"),), 1),
        ("maxrl_job_algorithm_changes_total", (("from", "MaxRL"), ("to", "GRPO")), 0),
        ("maxrl_job_algorithm", (("algorithm", "MaxRL"),), 1),
        ("maxrl_job_restarts_total", (("reason", "crash"),), 1),
        ("maxrl_job_last_exit_code", (), 1),
        ("maxrl_job_control_revision", (), 3),
        ("maxrl_rule_evaluations_total", (("rule", "NONFINITE"),), 7),
        ("maxrl_rule_firing", (("rule", "LOW"),), 0),
        ("maxrl_ops_runs", (("state", "running"),), 1),
        ("maxrl_ops_build_info", (("version", "1.2.3"),), 1),
    ],
)
def test_a_figure(
    exporter: Exporter, name: str, labels: tuple[tuple[str, str], ...], value: float
) -> None:
    assert values(exporter, name)[labels] == pytest.approx(value)


def test_what_is_not_known_is_absent() -> None:
    found = {name for name, _ in scraped(shown(view()))}
    assert "maxrl_train_samples_total" in found
    for name in ("correctness_ratio", "loss", "iteration", "learning_rate", "pass_at_k", "kl"):
        assert f"maxrl_train_{name}" not in found
    assert not [name for name in found if name.endswith("_created")]


def test_a_loss_that_was_logged_as_nan_is_nan() -> None:
    exporter = shown(view(header(), replace(record(1), loss=math.nan)))
    assert math.isnan(values(exporter, "maxrl_train_loss")[()])
    assert values(exporter, "maxrl_train_nonfinite_total")[(("metric", "loss"),)] == 1


def everything() -> RunView:
    """All that a run of our trainer may tell: a reference model, a crash, decisions and a hold."""
    newest = replace(
        LOG[2],
        **dict.fromkeys(("reward_mean", "reward_std", "grad_norm", "entropy", "kl"), 1.0),
        **dict.fromkeys(("tests_pass_ratio", "length_mean", "sample_time", "verify_time"), 1.0),
        **dict.fromkeys(("unscored", "tokens"), 0),
        control_revision=1,
    )
    return view(
        *LOG[:2],
        newest,
        supervisor=SUPERVISOR,
        state="running",
        started_at=1e9,
        last_checkpoint=1e9,
        control_revision=1,
        decided_at={"LOW": 1e9},
        decisions={("LOW", "applied"): 1, ("LOW", "held"): 1},
        autopilot=autopilot.State(taken=["LOW.threshold"], changed_at=1, judged=7, iteration=2),
        tail=TailView(last_read=1e9),
    )


def test_every_metric_of_the_table_can_be_shown() -> None:
    state = autopilot.State(
        taken=["LOW.threshold"],
        changed_at=1,
        firing={"LOW"},
        said={"LOW": "no remedy"},
        suggested={"one": SUGGESTED},
    )
    killed = Exit(1, "2026-11-24T00:00:00Z", None, "SIGKILL", "killed for memory (SIGKILL)")
    shown_run = replace(
        everything(),
        autopilot=state,
        supervisor=replace(SUPERVISOR, exits=(replace(killed, code=137),)),
    )
    tail = TailView(last_read=1e9, unparsed={"too long": 1}, rotations=1, truncated=1, lost=1)
    # Not all of it has room in one run.
    told = {
        each.name: lines_of(run_samples(each))
        for each in (
            shown_run,
            replace(everything(), name="two"),
            replace(view(*LOG, tail=tail), name="three"),
        )
    }
    host = HostView(10, 100, (Gpu(0, "a card", 0.5, 1.0, 2.0, 40.0, 70.0),))
    exporter = Exporter()
    exporter.show(Scene(told, {"a": 1}, 1e9, "1", host, True, True))
    found: dict[str, set[str]] = {}
    for name, labels in scraped(exporter):
        found.setdefault(name.removesuffix("_bucket"), set()).update(dict(labels))
    expected = {metric.family: set(metric.all_labels) for metric in METRICS.values()}
    ours = {name: labels - {"le"} for name, labels in found.items() if name in expected}
    assert ours == expected


def test_what_is_shown_of_the_machine_is_so(tmp_path: Path) -> None:
    seen = Host(tmp_path).look()
    assert seen.disk_total == shutil.disk_usage(tmp_path).total
    assert Host(tmp_path / "missing").look().disk_free is None
    exporter = Exporter()
    exporter.show(Scene(host=replace(seen, gpus=(Gpu(1, "a card", memory_used=5.0),))))
    assert values(exporter, "maxrl_ops_home_size_bytes")[()] == seen.disk_total
    assert values(exporter, "maxrl_gpu_memory_used_bytes") == {
        (("gpu", "1"), ("model", "a card")): 5.0
    }
    assert re.fullmatch(r"disk [\d.]+ of [\d.]+ GiB free \(\d+%\)", seen.sentence())
    card = Gpu(0, "a card", 0.97, 61e9, 80e9, 64.6, 301.2)
    assert replace(seen, disk_free=None, gpus=(card, Gpu(1, "other"))).sentence() == (
        "GPU 0 a card: 97% busy, 57 of 75 GiB, 65 C, 301 W; GPU 1 other: tells nothing"
    )
    assert HostView().sentence() == ""
    assert HostView(1, 2, (card,)).to_json()["gpus"][0]["temperature_celsius"] == 64.6
    # What the card does not tell is absent.
    assert not values(exporter, "maxrl_gpu_power_watts")


@pytest.mark.parametrize("text", ['"quoted"', "back\\slash", "new\nline", "x" * 5000, "\ud800"])
def test_hostile_labels_stay_labels(text: str) -> None:
    exporter = shown(replace(view(*LOG), name=text))
    labels = {dict(found).get("run") for _, found in scraped(exporter)} - {None}
    assert len(labels) == 1
    assert all(label is not None and len(label) <= 200 for label in labels)


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say(server: Server) -> None:
    status, text = get(server, "/metrics")
    assert status == 200
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_counters_are_named_as_counters() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("maxrl_")
        assert not name.endswith("_total"), "the suffix is the client's to add"
        assert metric.help.endswith(".")
        assert metric.kind is not Kind.STATES or metric.labels


def test_series_of_a_run_are_bounded() -> None:
    full = everything()
    assert len(run_samples(full)) + 3 == series_of_a_run(full) < MOST_SERIES
    rules = [rule.name for rule in RULES]
    worst = replace(
        full,
        autopilot=replace(
            full.autopilot,
            firing={*rules, *(alert.name for alert in RULE_ALERTS)},
            said=dict.fromkeys(rules, "no remedy"),
            suggested={"one": SUGGESTED},
        ),
        decisions={(rule, outcome): 1 for rule in rules for outcome in ("applied", "held")},
        decided_at=dict.fromkeys(rules, 1e9),
        tail=TailView(unparsed={"unknown line": 1, "too long": 1}, lost=1, rotations=1),
    )
    assert series_of_a_run(worst) == MOST_SERIES
    # What people are woken for is not what has no room.
    busy = replace(
        worst,
        autopilot=replace(
            worst.autopilot,
            firing={"LOW", "NO LEARNING", "REWARD HACKING"},
            said={"LOW": "no remedy"},
            suggested={},
        ),
    )
    assert sum(values(shown(busy), "maxrl_rule_firing").values()) == 3
    assert values(shown(busy), "maxrl_rule_ladder_exhausted") == {(("rule", "LOW"),): 1}


def test_a_run_that_nobody_judges_tells_of_no_verdicts() -> None:
    told = view(*LOG, autopilot=autopilot.State(mode=Mode.OFF))
    assert not [name for name, _ in scraped(shown(told)) if name.startswith("maxrl_rule")]


def series_of_a_run(shown_run: RunView) -> int:
    """How many a scrape shows: a histogram has one for each bucket, and two more."""
    return sum(("run", shown_run.name) in labels for _, labels in scraped(shown(shown_run)))


# --- HTTP -----------------------------------------------------------------------------------------


def test_health_and_readiness(server: Server) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz") == (503, "not yet\n")
    assert get(server, "/readyz", "HEAD") == (503, "")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics/../etc", "GET", 404),
        ("/metrics", "POST", 405),
        ("/", "BREW", 405),
    ],
)
def test_nothing_else_is_served(server: Server, path: str, method: str, status: int) -> None:
    assert get(server, path, method)[0] == status


def test_who_asks_for_openmetrics_gets_it(server: Server) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{server.address[1]}/metrics")
    request.add_header("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        kind, text = answer.headers["Content-Type"], answer.read().decode()
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    assert {"maxrl_train_loss", "maxrl_train_iterations", "process_cpu_seconds"} <= names


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text; version=1.0.0", True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=0.0.1", False),
    ],
)
def test_what_an_accept_header_asks_for(exporter: Exporter, accept: str, is_open: bool) -> None:
    text, kind = exporter.answer(accept)
    assert kind.startswith("application/openmetrics-text; version=1.0.0") == is_open
    assert text.endswith(b"# EOF\n") == is_open


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /healthz\r\n\r\n", 400),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nx: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\nx: y\r\nx: z\r\n\r\n", 200),
        (b"GET /healthz?now HTTP/1.0\n\n", 200),
    ],
)
def test_a_request_as_no_library_makes_it(server: Server, request_text: bytes, status: int) -> None:
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(request_text)
        assert client.recv(12) == b"HTTP/1.0 %d" % status


def test_a_client_that_asks_nothing_is_no_error(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(b"\r\n")
        assert client.recv(1) == b""
    assert "Traceback" not in capfd.readouterr().err


def test_the_versions_behind_it_are_nobodys_business(server: Server) -> None:
    url = f"http://127.0.0.1:{server.address[1]}/healthz"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Server"] == "maxrl-ops"


def test_a_port_in_use_is_an_error(server: Server) -> None:
    with pytest.raises(OSError, match="in use") as caught:
        serve(Exporter(), server.address, lambda: None, lambda: None)
    assert caught.value.errno == errno.EADDRINUSE


def test_ipv6(exporter: Exporter) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    server = serve(exporter, ("::1", 0), lambda: None, lambda: None)
    try:
        url = f"http://[::1]:{server.address[1]}/healthz"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"ok\n"
    finally:
        server.close()


def test_an_error_of_ours_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> str | None:
        raise ValueError("a bug")

    server = serve(Exporter(), ("127.0.0.1", 0), broken, lambda: None)
    try:
        with pytest.raises(OSError, match="closed"):
            get(server, "/healthz")
        said = ""

        def is_said() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "ValueError: a bug" in said

        wait_until(is_said, 10, "the traceback")
        assert get(server, "/readyz") == (200, "ok\n")
    finally:
        server.close()


def test_a_client_that_drips_is_cut(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_TIMEOUT_SECONDS", 0.2)
    server = serve(exporter, ("127.0.0.1", 0), lambda: None, lambda: None)

    def is_cut() -> bool:
        try:
            client.sendall(b"x")
        except ConnectionError:
            return True
        return False

    try:
        with socket.create_connection(server.address, timeout=10) as client:
            wait_until(is_cut, 5, "the end of a connection that sends a byte now and then")
    finally:
        server.close()


def test_idle_connections_do_not_keep_others_out(server: Server) -> None:
    """As many silent clients as there are places: the next is turned away, and later let in."""
    silent = [socket.create_connection(server.address, timeout=10) for _ in range(32)]

    def is_refused() -> bool:
        try:
            return get(server, "/healthz")[0] != 200
        except OSError:
            return True

    wait_until(is_refused, 10, "all places are taken")
    for client in silent:
        client.close()
    wait_until(lambda: not is_refused(), 10, "a place is free")
