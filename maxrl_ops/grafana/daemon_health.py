"""The dashboard of the daemons themselves."""

from typing import Any

from maxrl_ops.grafana.panels import (
    Query,
    Row,
    dashboard,
    label_variable,
    lines,
    named,
    stat,
    states,
)

UID = "maxrl-daemon"
_HERE = 'instance=~"$instance"'
_SCRAPED = f'job="maxrl-ops",{_HERE}'
_RATE = "[$__rate_interval]"
_WHERE = "{{instance}}"


def _of(metric: str) -> str:
    return f"{metric}{{{_HERE}}}"


def _summed(metric: str) -> str:
    return f"sum by (instance) (rate({_of(metric)}{_RATE}))"


_HEALTH = Row(
    "Health",
    (
        states(
            "Scraped",
            "Whether Prometheus reaches each daemon: OpsDown looks at it.",
            "none",
            Query(f"up{{{_SCRAPED}}}", _WHERE),
            width=12,
            height=4,
            mappings=named({0: ("down", "red"), 1: ("up", "green")}),
        ),
        stat(
            "Version",
            "What each daemon runs.",
            "none",
            Query(_of("maxrl_ops_build_info"), "{{instance}} {{version}}"),
            is_named=True,
        ),
        stat(
            "Running for",
            "Since each daemon was started. Runs go on without it.",
            "s",
            Query(f"time() - process_start_time_seconds{{{_SCRAPED}}}", _WHERE),
        ),
        lines(
            "Since it last went round",
            "How long ago the loop last went round all runs: TailLoopStuck looks at it.",
            "s",
            Query(f"time() - {_of('maxrl_ops_last_tick_timestamp_seconds')}", _WHERE),
        ),
        states(
            "Autopilot",
            "Whether somebody froze the autopilot of the host.",
            "none",
            Query(_of("maxrl_ops_autopilot_frozen"), _WHERE),
            mappings=named({0: ("at work", "green"), 1: ("frozen", "blue")}),
        ),
        states(
            "Policy",
            "Whether the policy that was read last could be used.",
            "none",
            Query(_of("maxrl_ops_config_last_reload_successful"), _WHERE),
            mappings=named({0: ("unreadable", "red"), 1: ("in force", "green")}),
        ),
    ),
)

_WORK = Row(
    "Work",
    (
        lines(
            "Runs",
            "Runs of each home, by state.",
            "none",
            Query(_of("maxrl_ops_runs"), "{{instance}} {{state}}"),
            is_stacked=True,
        ),
        lines(
            "Lines",
            "Lines of all logs read each second.",
            "cps",
            Query(_summed("maxrl_tailer_lines_total"), _WHERE),
        ),
        lines(
            "Bytes",
            "Bytes of all logs read each second.",
            "Bps",
            Query(_summed("maxrl_tailer_bytes_total"), _WHERE),
        ),
        lines(
            "Behind",
            "Bytes of all logs that are not read yet.",
            "bytes",
            Query(f"sum by (instance) ({_of('maxrl_tailer_lag_bytes')})", _WHERE),
        ),
        lines(
            "Verdicts",
            "Iterations of all runs that the rules judge each second.",
            "cps",
            Query(_summed("maxrl_rule_evaluations_total"), _WHERE),
        ),
        lines(
            "Since bytes were read",
            "How long ago bytes of any log were read.",
            "s",
            Query(
                f"time() - max by (instance) ({_of('maxrl_tailer_last_read_timestamp_seconds')})",
                _WHERE,
            ),
        ),
    ),
)

_COST = Row(
    "What it costs",
    (
        lines(
            "CPU",
            "Of one core.",
            "percentunit",
            Query(f"rate(process_cpu_seconds_total{{{_SCRAPED}}}{_RATE})", _WHERE),
        ),
        lines(
            "Memory",
            "Resident memory of each daemon.",
            "bytes",
            Query(f"process_resident_memory_bytes{{{_SCRAPED}}}", _WHERE),
        ),
        lines(
            "Open files",
            "File descriptors of each daemon.",
            "none",
            Query(f"process_open_fds{{{_SCRAPED}}}", _WHERE),
        ),
        lines(
            "Scrape",
            "How long a scrape takes, as Prometheus sees it.",
            "s",
            Query(f"scrape_duration_seconds{{{_SCRAPED}}}", _WHERE),
        ),
        lines(
            "Series",
            "How many a scrape brings: 60 a run at most.",
            "none",
            Query(f"scrape_samples_scraped{{{_SCRAPED}}}", _WHERE),
        ),
    ),
)


def daemon_health() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        UID,
        "maxrl-ops: daemons",
        "Whether the daemons watch, how far behind they are, and what they cost.",
        (_HEALTH, _WORK, _COST),
        variables=(label_variable("instance", "Daemon", "maxrl_ops_build_info", every=True),),
    )
