"""/metrics, /healthz and /readyz: what the loop has shown, served by threads of their own.

The loop makes an immutable scene and puts it in the place of the last one; a scrape never waits
for the loop, nor the loop for a scrape.
"""

import math
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from maxrl_ops.core import autopilot
from maxrl_ops.core.rules import RULES, Rule
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import DURATION_BOUNDS, Totals, algorithm_of
from maxrl_ops.signals import METRICS, Kind
from maxrl_ops.wire.documents import SupervisorState
from maxrl_ops.wire.record import Algorithm, IterationRecord

_LONGEST_LABEL = 200
# Of DURATION_BOUNDS: a quick iteration, a slow one. Each costs a series of every run.
_SHOWN_BOUNDS = frozenset({"5.0", "120.0", "+Inf"})
_TIMEOUT_SECONDS = 10.0
_MOST_CONNECTIONS = 32
_PLAIN = "text/plain; charset=utf-8"


# --- A run in figures -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: observations by bound, and the sum of all."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One series: a metric of signals.METRICS, all its labels' values in order, and the value."""

    metric: str
    labels: tuple[str, ...]
    value: float | Buckets


@dataclass(frozen=True, slots=True)
class TailView:
    """Counters of a log's tail; `last_read` in seconds since the epoch."""

    lines: int = 0
    bytes: int = 0
    unparsed: Mapping[str, int] = field(default_factory=dict)
    rotations: int = 0
    lost: int = 0
    truncated: int = 0
    lag: int = 0
    last_read: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its metrics see it.

    Attributes:
        trainer: The program that trains.
        provenance: Of its run.json.
        decisions: How many of each (rule, outcome).
        decided_at: When each rule decided last, in seconds since the epoch.
        state: As `status` says it; `supervisor` is what state.json says, whoever lives.
        last_checkpoint: When it was complete, in seconds since the epoch.
        control_revision: The newest that was published, None before the first.
    """

    job_name: str
    name: str
    history: RunHistory
    totals: Totals
    autopilot: autopilot.State
    tail: TailView
    trainer: str = "trainer"
    provenance: Mapping[str, str] = field(default_factory=dict)
    decisions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    decided_at: Mapping[str, float] = field(default_factory=dict)
    supervisor: SupervisorState | None = None
    state: str | None = None
    last_checkpoint: float | None = None
    started_at: float | None = None
    control_revision: int | None = None


_Figures = Iterator[tuple[str, tuple[str, ...], float | Buckets | None]]


def run_samples(view: RunView) -> tuple[Sample, ...]:
    """Every series of a run; what is not known is absent."""
    run = (_label(view.job_name), _label(view.name))
    parts = (_learning(view), _counting(view), _job(view), _ruling(view), _tailing(view.tail))
    return tuple(
        Sample(name, (*run, *(_label(label) for label in labels)), value)
        for part in parts
        for name, labels, value in part
        if value is not None
    )


def _label(text: str) -> str:
    # Half of a surrogate pair has no UTF-8: one in a name must not cost the whole scrape.
    return text[:_LONGEST_LABEL].encode("utf-8", "replace").decode()


_OF_RECORD = {
    "correctness_ratio": "correctness",
    "reference_correctness_ratio": "reference_correctness",
    "correct_samples": "n_correct",
    **{
        name: name
        for name in (
            "loss correct_reward_mean reward_mean reward_std grad_norm entropy kl compile_ratio "
            "tests_pass_ratio iteration"
        ).split()
    },
    "completion_length_mean": "length_mean",
}
_IN_FORCE = {
    "correctness_threshold": "correctness_threshold",
    "weight_temperature": "weight_temperature",
    "samples_per_prompt": "n_samples",
    "learning_rate": "learning_rate",
}


def _learning(view: RunView) -> _Figures:
    """The newest iteration, the newest evaluation, and what is in force."""
    newest, started = view.history.newest, view.history.started
    if newest is not None:
        for name, attribute in _OF_RECORD.items():
            yield f"maxrl_train_{name}", (), getattr(newest, attribute)
        yield from _of_groups(newest)
        yield "maxrl_train_last_iteration_timestamp_seconds", (), seconds_of(newest.at)
    target = newest.target_iterations if newest else None
    if target is None and started is not None:
        target = started.target_iterations
    yield "maxrl_train_target_iterations", (), target
    for name, attribute in _IN_FORCE.items():
        yield f"maxrl_train_{name}", (), getattr(view.history.in_force, attribute)
    if started is not None:
        yield "maxrl_train_reference_threshold", (), started.reference_threshold
    for evaluation in view.history.evaluations[-1:]:
        # The first, and the one that tells most beside it.
        for k in {min(evaluation.pass_at_k), max(evaluation.pass_at_k)}:
            ratio = evaluation.pass_at_k[k]
            yield "maxrl_train_pass_at_k", (str(k),), None if math.isnan(ratio) else ratio


def _of_groups(newest: IterationRecord) -> _Figures:
    for outcome in ("all_wrong", "all_correct", "mixed"):
        yield "maxrl_train_groups", (outcome,), getattr(newest, f"groups_{outcome}")
    if newest.effective_samples is not None and newest.effective_of:
        ratio = newest.effective_samples / newest.effective_of
        yield "maxrl_train_effective_samples_ratio", (), ratio


def _counting(view: RunView) -> _Figures:
    totals, now = view.totals, _algorithm(view)
    for algorithm in Algorithm:
        if algorithm is now or totals.iterations[algorithm.value]:
            yield "maxrl_train_iterations", (algorithm.value,), totals.iterations[algorithm.value]
    for outcome in ("correct", "incorrect"):
        yield "maxrl_train_samples", (outcome,), totals.samples[outcome]
    yield from _of_the_rare("maxrl_train_samples", totals.samples, "unscored")
    for phase in ("sample", "verify", "update"):
        yield "maxrl_train_phase_duration_seconds", (phase,), totals.seconds[phase]
    yield "maxrl_train_nonfinite", ("loss",), totals.nonfinite["loss"]
    yield from _of_the_rare("maxrl_train_nonfinite", totals.nonfinite, "grad_norm")
    yield "maxrl_train_tokens", (), totals.tokens
    durations = Buckets(tuple(totals.durations), totals.duration_sum)
    yield "maxrl_train_iteration_duration_seconds", (), durations
    for before, after in ((Algorithm.GRPO, Algorithm.MAXRL), (Algorithm.MAXRL, Algorithm.GRPO)):
        # Known from the moment on at which it may happen, and so counted from 0.
        if (changes := totals.algorithm_changes[before.value, after.value]) or before is now:
            yield "maxrl_job_algorithm_changes", (before.value, after.value), changes


def _of_the_rare(metric: str, counts: Mapping[str, int], label: str) -> _Figures:
    """What hardly any run ever counts: shown from its first time on, for want of room."""
    if counts.get(label):
        yield metric, (label,), counts[label]


def _algorithm(view: RunView) -> Algorithm | None:
    """The one in force; None where the log tells none."""
    started = view.history.started
    in_force = algorithm_of(view.history.in_force.objective)
    return in_force or (started.algorithm if started else None)


def _job(view: RunView) -> _Figures:
    if view.state is not None:
        yield "maxrl_job_state", (view.state,), 1
    if (algorithm := _algorithm(view)) is not None:
        yield "maxrl_job_algorithm", (algorithm.value,), 1
    version, host = (view.provenance.get(key, "") for key in ("maxrl_ops", "host"))
    yield "maxrl_job_info", (view.trainer, version, host), 1
    yield "maxrl_job_start_timestamp_seconds", (), view.started_at
    yield "maxrl_job_control_revision", (), view.control_revision
    yield "maxrl_job_acknowledged_revision", (), view.history.acknowledged_revision
    yield "maxrl_job_last_checkpoint_timestamp_seconds", (), view.last_checkpoint
    if view.supervisor is not None:
        yield from _supervised(view.supervisor)


def _supervised(supervisor: SupervisorState) -> _Figures:
    crashes = max(0, supervisor.restarts - supervisor.stalls)
    yield "maxrl_job_restarts", ("crash",), crashes
    if supervisor.stalls:
        # For want of room: hardly any run ever stalls.
        yield "maxrl_job_restarts", ("stall",), supervisor.stalls
    if supervisor.exits:
        yield "maxrl_job_last_exit_code", (), supervisor.exits[-1].code


def _ruling(view: RunView) -> _Figures:
    rules = [rule for rule in RULES if _has_a_say(rule, view)]
    # Not every outcome of every rule from 0 on: most rules never decide anything in a run.
    counts = {(rule.name, "applied"): 0 for rule in rules}
    for (rule, outcome), count in {**counts, **view.decisions}.items():
        yield "maxrl_rule_decisions", (rule, outcome), count
    for rule_ in rules:
        evaluated = view.autopilot.evaluated.get(rule_.name, 0)
        yield "maxrl_rule_evaluations", (rule_.name,), evaluated
        yield "maxrl_rule_firing", (rule_.name,), float(rule_.name in view.autopilot.firing)
    for name, at in view.decided_at.items():
        yield "maxrl_rule_last_decision_timestamp_seconds", (name,), at


def _has_a_say(rule: Rule, view: RunView) -> bool:
    """False for what would stay at 0 for the whole run."""
    started = view.history.started
    return rule.name != "ADAPT" or (started is not None and started.hand_over_to is not None)


def _tailing(tail: TailView) -> _Figures:
    yield "maxrl_tailer_lines", (), tail.lines
    yield "maxrl_tailer_bytes", (), tail.bytes
    yield "maxrl_tailer_lost_bytes", (), tail.lost
    # For want of room, those of few runs from their first time on.
    yield "maxrl_tailer_rotations", (), tail.rotations or None
    yield "maxrl_tailer_truncated_lines", (), tail.truncated or None
    yield "maxrl_tailer_lag_bytes", (), tail.lag
    yield "maxrl_tailer_last_read_timestamp_seconds", (), tail.last_read
    for reason in tail.unparsed:
        yield from _of_the_rare("maxrl_tailer_unparsed_lines", tail.unparsed, reason)


def seconds_of(text: str | None) -> float | None:
    """An RFC 3339 time as seconds since the epoch; None for anything else."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


# --- What is shown --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scrape shows.

    Attributes:
        runs: The series of each run.
        states: How many runs are in which state.
        last_tick: When the loop went round last, in seconds since the epoch; None before.
    """

    runs: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    last_tick: float | None = None
    version: str = ""


class Exporter(Collector):
    """The scene of now, as Prometheus reads it."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._scene = Scene()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def show(self, scene: Scene) -> None:
        """Put another scene in the place of the last one."""
        self._scene = scene

    def text(self) -> bytes:
        """What a scrape without an Accept header gets."""
        return generate_latest(self.registry)

    def describe(self) -> list[Metric]:
        """Nothing: names are checked by the table, not by a first collection."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every series, by metric in the table's order."""
        scene = self._scene
        by_metric: dict[str, list[Sample]] = {}
        for sample in _all_samples(scene):
            by_metric.setdefault(sample.metric, []).append(sample)
        for name in METRICS:
            if name in by_metric:
                yield _family(name, by_metric[name])


def _all_samples(scene: Scene) -> Iterable[Sample]:
    for samples in scene.runs.values():
        yield from samples
    yield Sample("maxrl_ops_build_info", (scene.version,), 1)
    for state, count in scene.states.items():
        yield Sample("maxrl_ops_runs", (_label(state),), count)
    if scene.last_tick is not None:
        yield Sample("maxrl_ops_last_tick_timestamp_seconds", (), scene.last_tick)


def _family(name: str, samples: Sequence[Sample]) -> Metric:
    metric = METRICS[name]
    labels = (*(("job_name", "run") if metric.is_per_run else ()), *metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        return _histogram(HistogramMetricFamily(name, metric.help, labels=labels), samples)
    of_kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family: Any = of_kind(name, metric.help, labels=labels)
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family  # type: ignore[no-any-return]


def _histogram(family: HistogramMetricFamily, samples: Sequence[Sample]) -> Metric:
    bounds = [*(str(bound) for bound in DURATION_BOUNDS), "+Inf"]
    for sample in samples:
        assert isinstance(sample.value, Buckets)  # noqa: S101 - the table says histogram
        counts = sample.value.counts
        cumulative = [float(sum(counts[: i + 1])) for i in range(len(counts))]
        by_bound = zip(bounds, cumulative, strict=True)
        buckets = [(bound, count) for bound, count in by_bound if bound in _SHOWN_BOUNDS]
        family.add_metric(sample.labels, buckets, sample.value.total)
    return family


# --- HTTP -----------------------------------------------------------------------------------------

# Says what is wrong, or None.
Check = Callable[[], str | None]


class _HttpServer(ThreadingHTTPServer):
    """Bounded: so many connections at once, each for so long."""

    daemon_threads = True
    # Nobody waits for a slow client at the end.
    block_on_close = False
    # The default of 5 makes a burst wait for the kernel to try again, a second and more.
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], exporter: Exporter, checks: Mapping[str, Check]):
        self.exporter, self.checks = exporter, checks
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's asks the resolver for our name, which nobody needs and which may hang.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # For the connection as a whole: a timeout of each read never ends a client that drips.
        end = threading.Timer(_TIMEOUT_SECONDS, _cut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; anything else is said."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _cut(connection: socket.socket) -> None:
    """End a connection under whoever reads or writes it; one that is closed already stays so."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, encode(self.server.exporter.registry), content_type, with_body)
        elif path in self.server.checks:
            problem = self.server.checks[path]()
            self._send(503 if problem else 200, f"{problem or 'ok'}\n".encode(), _PLAIN, with_body)
        else:
            words = b"there are /metrics, /healthz and /readyz\n"
            self._send(404, words, _PLAIN, with_body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # Every method without a handler is unknown to the base class.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(405, b"there are GET and HEAD\n", _PLAIN, with_body=True)
        else:
            super().send_error(code, message, explain)

    def _send(self, status: int, body: bytes, content_type: str, with_body: bool) -> None:
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "maxrl-ops"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Scrapes are not worth a line each."""


class Server:
    """A server on a thread of its own.

    Attributes:
        address: Host and port, the real one where 0 was asked for.
    """

    def __init__(self, http: _HttpServer) -> None:
        self.address: tuple[str, int] = (str(http.server_address[0]), int(http.server_address[1]))
        self._http = http
        self._thread = threading.Thread(target=http.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def serve(
    exporter: Exporter, address: tuple[str, int], not_alive: Check, not_ready: Check
) -> Server:
    """Serve /metrics, /healthz and /readyz there.

    Raises:
        OSError: The address is taken, or none of ours.
    """
    return Server(_HttpServer(address, exporter, {"/healthz": not_alive, "/readyz": not_ready}))
