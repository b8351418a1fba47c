"""What a scrape gets: the scene that the loop has shown last, as text.

The loop makes an immutable scene and puts it in the place of the last one; a scrape never waits
for the loop, nor the loop for a scrape. A run's lines are written when the run has changed, and
only put together by a scrape: a thousand runs are sixty thousand lines.

Without Prometheus's client library, of which little would be used: it loads a web server, an HTTP
client and OpenSSL, a fifth of the daemon's memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from maxrl_ops import process_metrics
from maxrl_ops.core.totals import DURATION_BOUNDS
from maxrl_ops.host import HostView
from maxrl_ops.run_metrics import Buckets, Sample, label
from maxrl_ops.signals import METRICS, Kind, Metric

# Of DURATION_BOUNDS the middle one: each costs a series of every run.
_SHOWN_BOUNDS = frozenset({"30.0", "+Inf"})
_OPENMETRICS, _PLAIN = "application/openmetrics-text", "text/plain"
_BOUNDS = (*(str(bound) for bound in DURATION_BOUNDS), "+Inf")

# The lines of a run, or of the daemon itself, by metric.
Lines = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scrape shows.

    Attributes:
        runs: The lines of each run.
        states: How many runs are in which state.
        last_tick: When the loop went round last, in seconds since the epoch; None before.
        is_frozen: The autopilot of this host may change nothing; None where nobody can say.
        is_reloaded: The policy that was read last is in force; None where none can be read.
        host: Of the machine.
        unread: How many runs cannot be followed now.
    """

    runs: Mapping[str, Lines] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    last_tick: float | None = None
    version: str = ""
    host: HostView = field(default_factory=HostView)
    is_frozen: bool | None = None
    is_reloaded: bool | None = None
    unread: int = 0


class Exporter:
    """The scene of now, as Prometheus reads it."""

    def __init__(self) -> None:
        self._scene = Scene()

    def show(self, scene: Scene) -> None:
        """Put another scene in the place of the last one."""
        self._scene = scene

    def text(self) -> bytes:
        """What a scrape without an Accept header gets."""
        return self.answer("")[0]

    def answer(self, accept: str) -> tuple[bytes, str]:
        """What a scrape with that Accept header gets, and its content type."""
        is_open = _wants_openmetrics(accept)
        scene = self._scene
        sources = [*scene.runs.values(), lines_of(_own(scene))]
        parts = []
        for name, metric in METRICS.items():
            lines = [found for source in sources if (found := source.get(name))]
            if lines:
                parts += [_header(metric, is_open=is_open), *lines]
        for metric, value in process_metrics.now():
            parts += [_header(metric, is_open=is_open), f"{metric.family} {_number(value)}\n"]
        kind, version = (_OPENMETRICS, "1.0.0") if is_open else (_PLAIN, "0.0.4")
        if is_open:
            parts.append("# EOF\n")
        return "".join(parts).encode(), f"{kind}; version={version}; charset=utf-8"


def _wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics, of a version that this is."""
    for wish in accept.split(","):
        kind, *parameters = (part.strip() for part in wish.split(";"))
        versions = [text[8:] for text in parameters if text.startswith("version=")]
        if kind == _OPENMETRICS and all(version.startswith("1.") for version in versions):
            return True
    return False


def lines_of(samples: Sequence[Sample]) -> Lines:
    """The samples as text, by metric; the same in both formats."""
    by_metric: dict[str, list[str]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(_lines(METRICS[sample.metric], sample))
    return {name: "".join(lines) for name, lines in by_metric.items()}


def _lines(metric: Metric, sample: Sample) -> str:
    labels = _labels(tuple(metric.all_labels), tuple(sample.labels))
    if isinstance(sample.value, Buckets):
        return _histogram(metric.name, labels, sample.value)
    braced = f"{{{labels}}}" if labels else ""
    return f"{metric.family}{braced} {_number(sample.value)}\n"


@lru_cache(16_384)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The same dozen again at each iteration of a run."""
    pairs = sorted(zip(names, values, strict=True))
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs)


def _histogram(name: str, labels: str, value: Buckets) -> str:
    cumulative = [sum(value.counts[: i + 1]) for i in range(len(value.counts))]
    by_bound = zip(_BOUNDS, cumulative, strict=True)
    lines = [
        f'{name}_bucket{{{labels},le="{bound}"}} {count}.0\n'
        for bound, count in by_bound
        if bound in _SHOWN_BOUNDS
    ]
    lines.append(f"{name}_count{{{labels}}} {cumulative[-1]}.0\n")
    lines.append(f"{name}_sum{{{labels}}} {_number(value.total)}\n")
    return "".join(lines)


def _number(value: float) -> str:
    value = float(value)
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else f"{value:+}".title()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _header(metric: Metric, *, is_open: bool) -> str:
    # Of a counter OpenMetrics names the family without the suffix.
    name = metric.name if is_open else metric.family
    kind = "gauge" if metric.kind is Kind.STATES else metric.kind.value
    return f"# HELP {name} {metric.help}\n# TYPE {name} {kind}\n"


def _own(scene: Scene) -> list[Sample]:
    """Of the daemon and the machine."""
    samples = [Sample("maxrl_ops_build_info", (scene.version,), 1)]
    for state, count in scene.states.items():
        samples.append(Sample("maxrl_ops_runs", (label(state),), count))
    samples.append(Sample("maxrl_ops_runs_unread", (), scene.unread))
    if scene.last_tick is not None:
        samples.append(Sample("maxrl_ops_last_tick_timestamp_seconds", (), scene.last_tick))
    for name, is_so in (
        ("maxrl_ops_autopilot_frozen", scene.is_frozen),
        ("maxrl_ops_config_last_reload_successful", scene.is_reloaded),
    ):
        if is_so is not None:
            samples.append(Sample(name, (), float(is_so)))
    return [*samples, *scene.host.samples()]
