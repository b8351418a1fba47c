"""The dashboard of one run in depth."""

from itertools import pairwise
from typing import Any

from maxrl_ops.core.expected import EXPECTED
from maxrl_ops.grafana.panels import (
    DATASOURCE,
    Query,
    Row,
    dashboard,
    label_variable,
    lines,
    named,
    share,
    stat,
    states,
)

UID = "maxrl-run"
_THIS = 'instance=~"$instance",job_name=~"$job_name",run="$run"'
_RATE = "[$__rate_interval]"
_ON_RUN = "on (job_name, run, instance)"
_FIRES = named({0: ("quiet", "transparent"), 1: ("fires", "orange")})


def _of(metric: str, *more: str) -> str:
    return f"{metric}{{{','.join((_THIS, *more))}}}"


def _train(name: str) -> str:
    return _of(f"maxrl_train_{name}")


def _rate(metric: str, *more: str) -> str:
    return f"rate({_of(metric, *more)}{_RATE})"


def _expected(end: int) -> str:
    """The guide's expectation as a curve over time: 1 where it begins, 2 where it ends.

    Between the guide's iterations it rises evenly; before the first of them there is none.
    """
    now = _train("iteration")
    curves = []
    for algorithm, points in EXPECTED.items():
        terms = [f"{points[0][end]:g}"]
        for (x, *before), (to, *after) in pairwise(points):
            rise = round(after[end - 1] - before[end - 1], 4)
            terms.append(f"{rise:g} * clamp(({now} - {x}) / {to - x}, 0, 1)")
        in_force = _of("maxrl_job_algorithm", f'algorithm="{algorithm}"')
        curves.append(
            f"({' + '.join(terms)} and {now} >= {points[0][0]} and {_ON_RUN} {in_force} == 1)"
        )
    return " or ".join(curves)


_NOW = Row(
    "Now",
    (
        states(
            "State",
            "What the run was doing.",
            "none",
            Query(f"{_of('maxrl_job_state')} == 1", "{{state}}"),
            width=12,
            height=4,
            mappings=named({1: ("is", "blue")}),
        ),
        stat(
            "Iteration",
            "Iterations made, and how many the run is to make.",
            "none",
            Query(_train("iteration"), "iteration"),
            Query(_train("target_iterations"), "of"),
        ),
        stat(
            "Held-out pass@k",
            "Of the newest evaluation: problems solved in one of k tries.",
            "percentunit",
            Query(_train("pass_at_k"), "pass@{{k}}"),
        ),
    ),
)

_LEARNING = Row(
    "Learning",
    (
        share(
            "Correctness",
            "Correct samples of each iteration: at the threshold in force, and at the task's own, "
            "which does not move. Between the guide's two curves it is as the tuning "
            "guide expects of the algorithm in force.",
            Query(_train("correctness_ratio"), "live"),
            Query(_train("reference_correctness_ratio"), "at the reference"),
            Query(_expected(1), "guide, at least"),
            Query(_expected(2), "guide, at most"),
            width=16,
            height=10,
        ),
        lines(
            "Reward",
            "Mean reward of all samples and of the correct ones, and the spread of all.",
            "none",
            Query(_train("reward_mean"), "all"),
            Query(_train("correct_reward_mean"), "correct ones"),
            Query(_train("reward_std"), "standard deviation"),
            height=10,
        ),
        lines(
            "Loss",
            "Loss of each iteration; a gap where no group had a signal. GRPO's is zero by "
            "construction in the first step on a batch, and tells nothing.",
            "none",
            Query(_train("loss"), "loss"),
        ),
        lines(
            "Gradient norm",
            "Before clipping. Spikes are what the rule UNSTABLE looks at.",
            "none",
            Query(_train("grad_norm"), "gradient norm"),
        ),
        lines(
            "Entropy and divergence",
            "Entropy of the sampled tokens, and the divergence from the reference model where "
            "there is one, in nats. An entropy near 0 means that the model has stopped exploring.",
            "none",
            Query(_train("entropy"), "entropy"),
            Query(_train("kl"), "KL"),
        ),
        states(
            "Algorithm",
            "Which algorithm was in force.",
            "none",
            Query(f"{_of('maxrl_job_algorithm')} == 1", "{{algorithm}}"),
            width=12,
            height=5,
            mappings=named({1: ("in force", "blue")}),
        ),
        states(
            "In force",
            "What controls change: a sample is correct when its reward is above the threshold.",
            "none",
            Query(_train("correctness_threshold"), "threshold"),
            Query(_train("reference_threshold"), "reference threshold"),
            Query(_train("samples_per_prompt"), "samples a prompt"),
            Query(_train("weight_temperature"), "weight temperature"),
            Query(_train("learning_rate"), "learning rate"),
            width=12,
            height=5,
        ),
    ),
)

_SAMPLES = Row(
    "Samples",
    (
        lines(
            "Groups",
            "Groups of each iteration by outcome. Only mixed ones teach GRPO; all wrong teach "
            "MaxRL nothing either.",
            "none",
            Query(_train("groups"), "{{outcome}}"),
            is_stacked=True,
        ),
        share(
            "Effective samples",
            "Effective sample size of the weights as a share of the correct samples: near 0, one "
            "or two of them have all the weight.",
            Query(_train("effective_samples_ratio"), "effective"),
        ),
        share(
            "Compiling and passing",
            "Samples that compile, and that pass all tests. Compiling that rises alone is the "
            "trick to look for.",
            Query(_train("compile_ratio"), "compile"),
            Query(_train("tests_pass_ratio"), "pass"),
        ),
        lines(
            "Completion length",
            "Tokens of a completion, on average.",
            "none",
            Query(_train("completion_length_mean"), "tokens"),
        ),
        lines(
            "Samples",
            "Samples judged each second, by outcome.",
            "cps",
            Query(_rate("maxrl_train_samples_total"), "{{outcome}}"),
            is_stacked=True,
        ),
        lines(
            "Correct samples",
            "Correct samples of each iteration: what MaxRL learns from.",
            "none",
            Query(_train("correct_samples"), "correct"),
        ),
    ),
)

_DURATION = "maxrl_train_iteration_duration_seconds"
_SPEED = Row(
    "Speed",
    (
        lines(
            "Phases",
            "Seconds of each second that went to sampling, verifying and updating; what is missing "
            "to 1 went to evaluations, checkpoints and waiting.",
            "none",
            Query(_rate("maxrl_train_phase_duration_seconds_total"), "{{phase}}"),
            is_stacked=True,
        ),
        lines(
            "Duration of an iteration",
            "On average.",
            "s",
            Query(f"{_rate(f'{_DURATION}_sum')} / ({_rate(f'{_DURATION}_count')} > 0)", "mean"),
        ),
        lines(
            "Tokens",
            "Tokens sampled each second.",
            "cps",
            Query(_rate("maxrl_train_tokens_total"), "tokens"),
        ),
        lines(
            "Iterations",
            "Iterations each minute, by algorithm.",
            "cpm",
            Query(f"60 * {_rate('maxrl_train_iterations_total')}", "{{algorithm}}"),
        ),
        lines(
            "Since the last iteration",
            "How long ago the newest iteration ended: TrainingStalled looks at it.",
            "s",
            Query(f"time() - {_train('last_iteration_timestamp_seconds')}", "iteration"),
            Query(
                f"time() - {_of('maxrl_job_last_checkpoint_timestamp_seconds')}",
                "checkpoint",
            ),
        ),
        lines(
            "Updates that were not finite",
            "Iterations with a loss or a gradient that was NaN or infinite, since the run began.",
            "none",
            Query(_of("maxrl_train_nonfinite_total"), "{{metric}}"),
        ),
    ),
)

_AUTOPILOT = Row(
    "Autopilot and supervisor",
    (
        states(
            "Rules that fire",
            "LOW at all times, every other rule while it fires.",
            "none",
            Query(_of("maxrl_rule_firing"), "{{rule}}"),
            width=12,
            height=6,
            mappings=_FIRES,
        ),
        lines(
            "Controls",
            "The newest control that was published, and the newest that the trainer answered; "
            "apart for long, the trainer does not listen.",
            "none",
            Query(f"{_of('maxrl_job_control_revision')} or 0 * {_train('iteration')}", "published"),
            Query(
                f"{_of('maxrl_job_acknowledged_revision')} or 0 * {_train('iteration')}", "answered"
            ),
            width=6,
            height=6,
        ),
        lines(
            "Verdicts",
            "How often a minute the rules are judged: once an iteration.",
            "cpm",
            Query(f"60 * {_rate('maxrl_rule_evaluations_total')}", "{{rule}}"),
            width=6,
            height=6,
        ),
        lines(
            "Restarts and switches",
            "Restarts of the trainer by what ended it, and switches of the algorithm, since the "
            "run began.",
            "none",
            Query(_of("maxrl_job_restarts_total"), "restart: {{reason}}"),
            Query(_of("maxrl_job_algorithm_changes_total"), "{{from}} to {{to}}"),
        ),
        lines(
            "Log",
            "Lines of the log read each second, and those that are not of its format.",
            "cps",
            Query(_rate("maxrl_tailer_lines_total"), "lines"),
            Query(
                f"sum without (reason) ({_rate('maxrl_tailer_unparsed_lines_total')}) "
                f"or 0 * {_rate('maxrl_tailer_lines_total')}",
                "not understood",
            ),
        ),
        lines(
            "Behind the log",
            "Bytes of the log that the daemon has not read yet.",
            "bytes",
            Query(_of("maxrl_tailer_lag_bytes"), "behind"),
        ),
    ),
)

# Each decision stands where it was made: the metric's value is its time.
_DECISIONS = {
    "name": "Decisions",
    "datasource": DATASOURCE,
    "enable": True,
    "iconColor": "purple",
    "expr": f"{_of('maxrl_rule_last_decision_timestamp_seconds')} * 1000",
    "useValueForTime": True,
    "step": "30s",
    "titleFormat": "{{rule}} decided",
    "textFormat": "maxrl-ops decisions {{run}} tells what and why",
    "tagKeys": "rule",
}


def one_run() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        UID,
        "maxrl-ops: one run",
        "One run in depth: what it learns, how fast, and what was changed.",
        (_NOW, _LEARNING, _SAMPLES, _SPEED, _AUTOPILOT),
        variables=(
            label_variable("instance", "Daemon", "maxrl_job_info", every=True),
            label_variable("job_name", "Job", 'maxrl_job_info{instance=~"$instance"}', every=True),
            label_variable(
                "run",
                "Run",
                'maxrl_job_info{instance=~"$instance",job_name=~"$job_name"}',
                every=False,
            ),
        ),
        annotations=(_DECISIONS,),
    )
