"""The one table of what is exported: every metric's name, kind, help and labels."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """As Prometheus knows it.

    Of a state set there is one series, 1 for the state that holds: the zeros of all others would be
    a sixth of a run's series, and tell nothing.
    """

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    STATES = "states"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Without the `_total` that a counter gets.
        labels: Beside `job_name` and `run`.
        is_per_run: It carries `job_name` and `run`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    is_per_run: bool = True

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The run's among them."""
        return (*(("job_name", "run") if self.is_per_run else ()), *self.labels)

    @property
    def family(self) -> str:
        """What Prometheus's text format calls it: a counter with its suffix."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name

    @property
    def unit(self) -> str:
        """Its values' unit, as its name has it; empty where it counts, or has none."""
        last = self.name.rpartition("_")[2]
        return last if last in _UNITS else ""


_UNITS = frozenset("seconds bytes ratio celsius watts iterations samples".split())


def _gauge(name: str, help_text: str, *labels: str, is_per_run: bool = True) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, labels, is_per_run)


def _counter(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, help_text, labels)


_TABLE = (
    # What the trainer learns.
    _gauge("maxrl_train_correctness_ratio", "Correct samples of the newest iteration."),
    _gauge(
        "maxrl_train_reference_correctness_ratio",
        "Correct samples of the newest iteration at the task's reference threshold.",
    ),
    _gauge("maxrl_train_correct_samples", "Correct samples of the newest iteration."),
    _gauge("maxrl_train_loss", "Loss of the newest iteration; absent where no group had signal."),
    _gauge("maxrl_train_correct_reward_mean", "Mean reward of the correct samples."),
    _gauge("maxrl_train_reward_mean", "Mean reward of all samples."),
    _gauge("maxrl_train_reward_std", "Standard deviation of the rewards."),
    _gauge("maxrl_train_grad_norm", "Norm of the gradient before clipping."),
    _gauge("maxrl_train_entropy", "Entropy of the sampled tokens, in nats."),
    _gauge("maxrl_train_kl", "Divergence from the reference model, in nats."),
    _gauge("maxrl_train_compile_ratio", "Samples that compile."),
    _gauge("maxrl_train_tests_pass_ratio", "Samples that pass all tests."),
    _gauge("maxrl_train_completion_length_mean", "Tokens of a completion."),
    _gauge(
        "maxrl_train_effective_samples_ratio",
        "Effective sample size of the weights as a share of the correct samples.",
    ),
    _gauge("maxrl_train_groups", "Groups of the newest iteration, by outcome.", "outcome"),
    _gauge("maxrl_train_iteration", "The newest iteration."),
    _gauge("maxrl_train_target_iterations", "Iterations that the run is to make."),
    _counter("maxrl_train_iterations", "Iterations made, by algorithm.", "algorithm"),
    _counter("maxrl_train_samples", "Samples judged, by outcome.", "outcome"),
    Metric(
        "maxrl_train_iteration_duration_seconds",
        Kind.HISTOGRAM,
        "How long iterations took.",
    ),
    _counter("maxrl_train_phase_duration_seconds", "Time spent, by phase.", "phase"),
    _counter("maxrl_train_tokens", "Tokens sampled."),
    _gauge("maxrl_train_last_iteration_timestamp_seconds", "When the newest iteration ended."),
    _counter(
        "maxrl_train_nonfinite", "Iterations with a figure that was NaN or infinite.", "metric"
    ),
    _gauge("maxrl_train_correctness_threshold", "A sample is correct when its reward is above."),
    _gauge("maxrl_train_reference_threshold", "The task's own level of correct."),
    _gauge("maxrl_train_weight_temperature", "Softmax temperature of the MaxRL weights."),
    _gauge("maxrl_train_samples_per_prompt", "Completions sampled for each prompt."),
    _gauge("maxrl_train_learning_rate", "Learning rate of the optimizer."),
    _gauge("maxrl_train_pass_at_k", "Held-out pass@k of the newest evaluation.", "k"),
    # The run itself.
    Metric("maxrl_job_state", Kind.STATES, "What the run is doing.", ("state",)),
    Metric("maxrl_job_algorithm", Kind.STATES, "The algorithm in force.", ("algorithm",)),
    _counter("maxrl_job_algorithm_changes", "Switches of the algorithm.", "from", "to"),
    _gauge("maxrl_job_info", "Where the run comes from; always 1.", "trainer", "version", "host"),
    _gauge("maxrl_job_start_timestamp_seconds", "When the run was started."),
    _counter("maxrl_job_restarts", "Restarts of the trainer, by what ended it.", "reason"),
    _gauge("maxrl_job_last_exit_code", "Exit code of the trainer's last attempt that ended."),
    _gauge(
        "maxrl_job_last_exit_out_of_memory",
        "1 where memory ran out in the last attempt that ended; absent otherwise.",
    ),
    _gauge(
        "maxrl_job_pending_approvals",
        "Suggestions that nobody has approved or declined; absent where there is none.",
    ),
    _gauge("maxrl_job_last_checkpoint_timestamp_seconds", "When a checkpoint was complete last."),
    _gauge("maxrl_job_control_revision", "The newest control that was published."),
    _gauge("maxrl_job_acknowledged_revision", "The newest control that the trainer answered."),
    # The autopilot.
    _counter(
        "maxrl_rule_evaluations",
        "How often the rule came to a verdict, of the one that is judged at every iteration.",
        "rule",
    ),
    _gauge(
        "maxrl_rule_firing", "1 while the rule fires; absent otherwise, but for LOW: 0.", "rule"
    ),
    _counter(
        "maxrl_rule_decisions",
        "Decisions by outcome, and how often a rule that fired was held.",
        "rule",
        "outcome",
    ),
    _gauge("maxrl_rule_last_decision_timestamp_seconds", "When the rule decided last.", "rule"),
    _gauge(
        "maxrl_rule_ladder_exhausted",
        "1 while the rule fires and has no remedy left; absent otherwise.",
        "rule",
    ),
    _gauge(
        "maxrl_rule_cooldown_remaining_iterations",
        "Iterations until the autopilot may change something again, by the rule that did last.",
        "rule",
    ),
    # The tail of the log.
    _counter("maxrl_tailer_lines", "Lines read."),
    _counter("maxrl_tailer_bytes", "Bytes read."),
    _counter("maxrl_tailer_unparsed_lines", "Lines that are not the log format's.", "reason"),
    _counter("maxrl_tailer_rotations", "How often another file stood in the log's place."),
    _counter("maxrl_tailer_lost_bytes", "Bytes destroyed before they could be read."),
    _counter(
        "maxrl_tailer_truncated_lines",
        "Lines that were too long, or without their end when their file was.",
    ),
    _gauge("maxrl_tailer_lag_bytes", "Bytes of the log that are not read yet."),
    _gauge("maxrl_tailer_last_read_timestamp_seconds", "When bytes were read last."),
    # The daemon.
    _gauge("maxrl_ops_build_info", "The daemon's version; always 1.", "version", is_per_run=False),
    _gauge("maxrl_ops_runs", "Runs of the home, by state.", "state", is_per_run=False),
    _gauge(
        "maxrl_ops_runs_unread",
        "Runs that cannot be followed now: they are damaged, or the history takes nothing.",
        is_per_run=False,
    ),
    _gauge(
        "maxrl_ops_last_tick_timestamp_seconds",
        "When the daemon last went round all runs.",
        is_per_run=False,
    ),
    _gauge(
        "maxrl_ops_autopilot_frozen",
        "1 while the autopilot of this host may change nothing.",
        is_per_run=False,
    ),
    _gauge(
        "maxrl_ops_config_last_reload_successful",
        "Whether the policy in force is the one that was read last.",
        is_per_run=False,
    ),
    # The machine.
    _gauge("maxrl_ops_home_free_bytes", "Room left on the disk of the home.", is_per_run=False),
    _gauge("maxrl_ops_home_size_bytes", "Size of the disk of the home.", is_per_run=False),
    *(
        _gauge(f"maxrl_gpu_{name}", words, "gpu", "model", is_per_run=False)
        for name, words in (
            ("utilization_ratio", "Share of the time in which the GPU computed."),
            ("memory_used_bytes", "Memory of the GPU that is in use."),
            ("memory_total_bytes", "Memory of the GPU."),
            ("temperature_celsius", "Temperature of the GPU."),
            ("power_watts", "Power that the GPU draws."),
        )
    ),
)

METRICS = {metric.name: metric for metric in _TABLE}
