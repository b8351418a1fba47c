"""The one table of alerts: what each watches, for how long, how urgent it is, and what it says.

Expressions name metrics of signals.py only; a test holds them against that table. A series of a
state exists only while the state holds, so that `== 1` after one reads as "is".
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whom it wakes: somebody now, somebody tomorrow, nobody."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: Also its runbook's.
        expr: PromQL, true while there is something wrong; but every length of time has its unit,
            also where PromQL wants a number of seconds.
        minutes: For so long it must be true.
        summary: One line; a template of Prometheus, which knows `$labels` and `$value`.
    """

    name: str
    expr: str
    minutes: int
    severity: Severity
    summary: str

    def promql(self, times: float = 1.0) -> str:
        """The expression, with every length of time multiplied."""
        return _LENGTH.sub(lambda found: _length(found, times), self.expr)

    def held_seconds(self, times: float = 1.0) -> int:
        """For how long the expression must be true, likewise multiplied."""
        return _seconds(60 * self.minutes * times) if self.minutes else 0


_LENGTH = re.compile(r"(?P<before>[\[:]|offset )?\b(?P<count>\d+)(?P<unit>[smhd])\b")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _length(found: "re.Match[str]", times: float) -> str:
    before = found["before"] or ""
    seconds = int(found["count"]) * _UNITS[found["unit"]]
    if before and times == 1.0:
        return found[0]
    # PromQL's own notation behind a bracket, a colon, an offset; elsewhere seconds.
    return f"{before}{_seconds(seconds * times)}{'s' if before else ''}"


def _seconds(exact: float) -> int:
    return max(1, round(exact))


SCRAPE_JOB = "maxrl-ops"
"""Under which Prometheus scrapes the daemons."""

_RUN = "{{ $labels.job_name }}/{{ $labels.run }}"
_RUNNING = 'on (job_name, run, instance) maxrl_job_state{state="running"} == 1'


def _critical(name: str, minutes: int, expr: str, summary: str) -> Alert:
    return Alert(name, expr, minutes, Severity.CRITICAL, summary)


def _warning(name: str, minutes: int, expr: str, summary: str) -> Alert:
    return Alert(name, expr, minutes, Severity.WARNING, summary)


ALERTS = (
    # Without this one every other dies with the daemon.
    _critical(
        "OpsDown",
        2,
        f'up{{job="{SCRAPE_JOB}"}} == 0 or absent(up{{job="{SCRAPE_JOB}"}})',
        "The maxrl-ops daemon {{ $labels.instance }} cannot be scraped: nobody watches its runs.",
    ),
    _critical(
        "TailLoopStuck",
        2,
        "time() - maxrl_ops_last_tick_timestamp_seconds > 60s",
        "The maxrl-ops daemon {{ $labels.instance }} has not gone round its runs for "
        "{{ $value | humanizeDuration }}.",
    ),
    _critical(
        "TrainingStalled",
        1,
        # The mean over the run's life: a rate over a window is NaN when nothing happens in it. An
        # attached log says by itself that it is silent.
        "time() - maxrl_train_last_iteration_timestamp_seconds > clamp_min(5 * "
        "maxrl_train_iteration_duration_seconds_sum / "
        f"clamp_min(maxrl_train_iteration_duration_seconds_count, 1), 600s) and {_RUNNING} or "
        "time() - (maxrl_tailer_last_read_timestamp_seconds or "
        "maxrl_train_last_iteration_timestamp_seconds) and "
        'on (job_name, run, instance) maxrl_job_state{state="silent"} == 1',
        f"{_RUN} has made no iteration for {{{{ $value | humanizeDuration }}}}.",
    ),
    _critical(
        "NeverStarted",
        1,
        "time() - maxrl_job_start_timestamp_seconds > 45m unless "
        "maxrl_train_last_iteration_timestamp_seconds and "
        'on (job_name, run, instance) maxrl_job_state{state=~"starting|running|backing_off"} == 1',
        f"{_RUN} was started {{{{ $value | humanizeDuration }}}} ago and has made no iteration.",
    ),
    _critical(
        "NoCorrectSamples",
        10,
        'sum without (outcome) (increase(maxrl_train_samples_total{outcome="correct"}[15m])) == 0 '
        "and sum without (outcome) "
        '(increase(maxrl_train_samples_total{outcome="incorrect"}[15m])) > 0',
        f"{_RUN} has sampled no correct answer for a quarter of an hour.",
    ),
    _critical(
        "LossNotFinite",
        0,
        "sum without (metric) (increase(maxrl_train_nonfinite_total[15m])) > 0",
        f"{_RUN}: loss or gradient was not finite in {{{{ $value | humanize }}}} iterations of the "
        "last 15 minutes.",
    ),
    _critical(
        "CorrectnessCollapse",
        10,
        "avg_over_time(maxrl_train_reference_correctness_ratio[15m]) < "
        "max_over_time(avg_over_time(maxrl_train_reference_correctness_ratio[15m])[6h:5m]) - 0.25",
        f"{_RUN} has fallen to {{{{ $value | humanizePercentage }}}} correct, a quarter below its "
        "best of six hours.",
    ),
    _critical(
        "JobFailed",
        0,
        'maxrl_job_state{state="failed"} == 1',
        f"{_RUN} has failed and will not be started again.",
    ),
    _critical(
        "JobInterrupted",
        10,
        'maxrl_job_state{state="interrupted"} == 1',
        f"{_RUN} was cut off by a reboot, and nobody goes on with it.",
    ),
    _critical(
        "JobUnsupervised",
        5,
        'maxrl_job_state{state="supervisor_gone"} == 1',
        f"{_RUN} has no supervisor: its trainer, if it lives, goes on unwatched.",
    ),
    _critical(
        "JobCrashLooping",
        0,
        "sum without (reason) (increase(maxrl_job_restarts_total[30m])) >= 3",
        f"{_RUN} was restarted {{{{ $value | humanize }}}} times in half an hour.",
    ),
    _critical(
        "ControlUnconfirmed",
        15,
        f"maxrl_job_control_revision > maxrl_job_acknowledged_revision and {_RUNNING}",
        f"{_RUN} has not answered control {{{{ $value }}}} for a quarter of an hour.",
    ),
    _critical(
        "RulesNotEvaluated",
        5,
        "sum without (algorithm) (increase(maxrl_train_iterations_total[30m])) > 5 and "
        "sum without (rule) (increase(maxrl_rule_evaluations_total[30m])) == 0",
        f"{_RUN} has made {{{{ $value | humanize }}}} iterations in half an hour that no rule has "
        "judged.",
    ),
    _warning(
        "CorrectnessLow",
        5,
        'maxrl_rule_firing{rule="LOW"} == 1',
        f"{_RUN}: fewer than half of the samples are correct, and that is certain.",
    ),
    _warning(
        "LossUnstable",
        1,
        'maxrl_rule_firing{rule="UNSTABLE"} == 1',
        f"{_RUN}: the gradient's norm leaves its own past, by spikes or by drift.",
    ),
    _warning(
        "AlgorithmFlapping",
        0,
        "sum without (from, to) (increase(maxrl_job_algorithm_changes_total[6h])) > 2",
        f"{_RUN} has switched its algorithm {{{{ $value | humanize }}}} times in six hours.",
    ),
    _warning(
        "CheckpointStale",
        10,
        f"time() - maxrl_job_last_checkpoint_timestamp_seconds > 6h and {_RUNNING}",
        f"{_RUN} saved its last checkpoint {{{{ $value | humanizeDuration }}}} ago.",
    ),
    _warning(
        "TailerBehind",
        5,
        "maxrl_tailer_lag_bytes > 1e6",
        f"{{{{ $value | humanize1024 }}}}B of the log of {_RUN} are not read yet.",
    ),
    _warning(
        "RunsUnread",
        5,
        "maxrl_ops_runs_unread > 0",
        "{{ $value }} runs of {{ $labels.instance }} cannot be followed: they are damaged, or the "
        "history takes nothing.",
    ),
    _warning(
        "UnparsedLines",
        10,
        "sum without (reason) (rate(maxrl_tailer_unparsed_lines_total[10m])) > "
        "0.05 * rate(maxrl_tailer_lines_total[10m])",
        f"{_RUN}: more than a twentieth of the log's lines are not of its format.",
    ),
    _warning(
        "EffectiveSamplesLow",
        15,
        "avg_over_time(maxrl_train_effective_samples_ratio[30m]) < 0.25",
        f"{_RUN}: a few of the correct samples have most of the weight "
        "({{ $value | humanizePercentage }} of them count).",
    ),
    _warning(
        "ControlRejected",
        0,
        'sum without (rule, outcome) (increase(maxrl_rule_decisions_total{outcome="rejected"}[1h]))'
        " > 0",
        f"{_RUN} has rejected a control.",
    ),
    _warning(
        "ApprovalPending",
        0,
        "maxrl_job_pending_approvals > 0",
        f"{_RUN}: {{{{ $value }}}} suggestions of the autopilot wait for a word.",
    ),
    _warning(
        "RewardHackingSuspected",
        5,
        'maxrl_rule_firing{rule="REWARD HACKING"} == 1',
        f"{_RUN}: the reward seems to be had without the work.",
    ),
    _warning(
        "NoLearning",
        5,
        'maxrl_rule_firing{rule="NO LEARNING"} == 1',
        f"{_RUN}: no gradient, or figures that do not move: nothing is learned.",
    ),
    _warning(
        "Escalated",
        0,
        "maxrl_rule_ladder_exhausted == 1",
        f"{_RUN}: the rule {{{{ $labels.rule }}}} fires and has no remedy left.",
    ),
    _warning(
        "AutopilotFrozen",
        60,
        "maxrl_ops_autopilot_frozen == 1",
        "The autopilot of {{ $labels.instance }} has been frozen for an hour: it mends nothing.",
    ),
    _warning(
        "DiskLow",
        5,
        "maxrl_ops_home_free_bytes / maxrl_ops_home_size_bytes < 0.4 and "
        "(maxrl_ops_home_free_bytes / maxrl_ops_home_size_bytes < 0.05 or "
        "predict_linear(maxrl_ops_home_free_bytes[6h], 1d) < 0)",
        "{{ $value | humanizePercentage }} of the disk of {{ $labels.instance }} are left, or "
        "fewer than none in a day's time.",
    ),
    _warning(
        "OutOfMemory",
        0,
        "maxrl_job_last_exit_out_of_memory == 1 and on (job_name, run, instance) "
        "(sum without (reason) (increase(maxrl_job_restarts_total[6h])) > 0 or "
        'maxrl_job_state{state="failed"} == 1)',
        f"{_RUN}: memory ran out, and the trainer was ended.",
    ),
    _warning(
        "ConfigReloadFailed",
        0,
        "maxrl_ops_config_last_reload_successful == 0",
        "The daemon {{ $labels.instance }} could not read its policy, and goes by the last one.",
    ),
    Alert(
        "CorrectnessHigh",
        "avg_over_time(maxrl_train_reference_correctness_ratio[30m]) > 0.9 and " + _RUNNING,
        30,
        Severity.INFO,
        f"{_RUN}: {{{{ $value | humanizePercentage }}}} of the samples are correct.",
    ),
)
