"""The numbers that the rules go by: the tuning guide's, made sound by simulation.

One frozen dataclass a subject, every number a field of it. A field's metadata says what a number
means (`about`) and from where to where it may be set (`least`, `most`, both allowed); every length
of time is in iterations. docs/rules.md tells what was simulated for each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """What the autopilot may do with a decision."""

    ACT = "act"
    SUGGEST = "suggest"
    OBSERVE = "observe"
    OFF = "off"

    def at_most(self, other: "Mode | None") -> "Mode":
        """The more careful of the two; None limits nothing."""
        return self if other is None else max(self, other, key=_CAREFUL.index)


_CAREFUL = tuple(Mode)


def _of(default: Any, least: float, most: float, about: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "about": about})


def _share(default: float, about: str) -> Any:
    return _of(default, 0.0, 1.0, about)


def _mode() -> Any:
    about = "what this rule may do at most: act, suggest or observe; the run's mode where not given"
    return field(default=None, metadata={"about": about})


def _flag(*, default: bool, about: str) -> Any:
    return field(default=default, metadata={"about": about})


def _sizes() -> Any:
    about = "iterations a window may have, rising; the shortest with enough samples is taken"
    return field(default=(20, 30, 40, 60), metadata={"least": 5, "most": 1000, "about": about})


@dataclass(frozen=True, slots=True)
class Window:
    """The iterations that a verdict on correctness is made on."""

    sizes: tuple[int, ...] = _sizes()
    least_effective: float = _of(100.0, 10, 10_000, "independent samples that a verdict needs")
    z: float = _of(2.24, 1, 5, "half width of the intervals, in standard errors")
    design_effect_rows: int = _of(100, 20, 1000, "newest iterations the design effect comes from")
    slope_rows: int = _of(200, 10, 1000, "newest iterations the slope comes from")


@dataclass(frozen=True, slots=True)
class Low:
    """LOW: correctness is low and does not rise."""

    mode: Mode | None = _mode()
    below: float = _share(0.50, "the upper bound of correctness lies below this")
    clears_above: float = _share(0.55, "over when the lower bound lies above this")
    dwell: int = _of(5, 1, 1000, "fires when its condition has held for so long")
    rising_errors: float = _of(
        2.0, 0, 10, "a slope positive by more than so many standard errors is learning"
    )
    patience: int = _of(
        200, 0, 100_000, "no change before so many iterations, unless the run is starved"
    )
    starved: float = _share(
        0.50, "share of the window's iterations without a sample above the live threshold that is"
    )
    least_gain: float = _share(0.10, "share of the rewards that a lower threshold must admit more")
    least_gain_empty: float = _share(
        0.01, "the same, where no sample of the window is above the live threshold"
    )
    least_empty: float = _share(
        0.10, "share of the window's iterations without a sample above the live threshold"
    )
    warm_up: int = _of(200, 1, 100_000, "length of the GRPO warm-up")
    warm_up_least: int = _of(100, 1, 100_000, "no return from a warm-up before this")
    n_samples: int = _of(16, 1, 1024, "samples a prompt, of the third rung")


@dataclass(frozen=True, slots=True)
class High:
    """HIGH: nearly everything is correct, and little is left to learn from."""

    mode: Mode | None = _mode()
    above: float = _share(0.90, "the lower bound of correctness lies above this")
    clears_below: float = _share(0.85, "over when the upper bound lies below this")
    dwell: int = _of(5, 1, 1000, "fires when its condition has held for so long")
    least_correct: float = _of(
        2.0, 0, 1024, "correct samples a group that a higher threshold must leave"
    )
    least_effective_samples: float = _of(
        4.0, 1, 1024, "effective samples that a sharper weighting must leave"
    )
    weight_temperature: float = _of(0.5, 0.01, 100, "the second rung halves down to this")
    n_samples: int = _of(4, 1, 1024, "samples a prompt, of the last rung")


@dataclass(frozen=True, slots=True)
class Unstable:
    """UNSTABLE: the gradient norm leaves its own past."""

    mode: Mode | None = _mode()
    baseline: int = _of(50, 20, 1000, "earlier values of this revision that one is held against")
    least_baseline: int = _of(20, 5, 1000, "values before the first verdict")
    least_scale: float = _of(
        0.05, 0.001, 10, "least spread of log gradient norms: a still baseline makes no spike"
    )
    spike: float = _of(4.0, 1, 100, "robust z above which a value is a spike")
    spikes: int = _of(4, 1, 100, "so many spikes")
    spikes_within: int = _of(6, 1, 100, "within so many iterations")
    drift_clip: float = _of(4.0, 1, 100, "what one value adds to the drift at most")
    drift_slack: float = _of(0.5, 0, 10, "what the drift forgets an iteration")
    drift_note: float = _of(12.0, 0, 1000, "drift that is noted")
    drift_act: float = _of(28.0, 0, 1000, "drift that is acted on")
    n_samples_factor: float = _of(2.0, 1, 16, "the first rung multiplies n_samples by this")
    weight_temperature_factor: float = _of(2.0, 1, 16, "the second rung, weight_temperature")
    objective: str = field(
        default="maxrl_zscore", metadata={"about": "the objective of the third rung"}
    )
    least_effective_ratio: float = _share(
        0.25, "advice where a median group's effective samples are less than this of its correct"
    )
    least_correct: float = _of(
        4.0, 1, 1024, "correct samples of a group that such advice looks at at all"
    )


@dataclass(frozen=True, slots=True)
class Collapse:
    """COLLAPSE: what was reached is lost."""

    mode: Mode | None = _mode()
    drop: float = _share(0.10, "the upper bound lies so far below the best lower bound")
    earlier: int = _of(40, 1, 100_000, "which was reached at least so many iterations earlier")
    dwell: int = _of(5, 1, 1000, "fires when its condition has held for so long")
    held_out_errors: float = _of(
        2.0, 0, 10, "a held-out evaluation below the first by more than so many standard errors"
    )
    held_out_dwell: int = _of(2, 1, 100, "so many evaluations running")
    learning_rate_factor: float = _of(0.3, 0.001, 1, "each restart multiplies learning_rate by it")
    learning_rate_factor_at_start: float = _of(
        0.02, 0.001, 1, "or by this, where it goes back to the model that the run began with"
    )
    most_restarts: int = _of(2, 0, 10, "restarts by this rule in a run, then only an alert")


@dataclass(frozen=True, slots=True)
class Adapt:
    """ADAPT: the objective that is best at this correctness."""

    mode: Mode | None = _mode()
    above: float = _share(0.50, "hands over when the lower bound of correctness lies above this")
    dwell: int = _of(5, 1, 1000, "fires when its condition has held for so long")
    is_reversed: bool = _flag(
        default=False,
        about="MaxRL where correctness is low and GRPO where it is high, as the theory has it",
    )


@dataclass(frozen=True, slots=True)
class Nonfinite:
    """NONFINITE: updates are skipped because loss or gradient is not finite."""

    mode: Mode | None = _mode()
    skipped: int = _of(3, 1, 1000, "so many skipped updates")
    within: int = _of(20, 1, 100_000, "within so many iterations")
    learning_rate_factor: float = _of(0.3, 0.001, 1, "each restart multiplies learning_rate by it")
    most_restarts: int = _of(2, 0, 10, "restarts by this rule in a run, then only an alert")


@dataclass(frozen=True, slots=True)
class DeadGroups:
    """DEAD GROUPS: prompts that teach nothing, since all or none of their samples are correct."""

    mode: Mode | None = _mode()
    above: float = _share(0.50, "share of groups all wrong, or all correct, over a window")


@dataclass(frozen=True, slots=True)
class NoLearning:
    """NO LEARNING: no gradient, frozen figures or unchanged weights."""

    mode: Mode | None = _mode()
    iterations: int = _of(20, 2, 100_000, "for so long")


@dataclass(frozen=True, slots=True)
class Hacking:
    """REWARD HACKING: the reward rises and what it stands for does not."""

    mode: Mode | None = _mode()
    z: float = _of(2.24, 1, 10, "half width of the intervals of a rise, in standard errors")
    least_rise: float = _share(0.05, "rise of a rate of completions that counts at all")
    halved: float = _share(0.50, "length or unique share fell to this of what it was")
    trivial: float = _share(0.20, "share of trivial completions")
    window: int = _of(40, 10, 1000, "newest iterations, held against the run's first so many")


@dataclass(frozen=True, slots=True)
class Judging:
    """What a change was worth."""

    before: int = _of(40, 10, 1000, "iterations before the change")
    after: int = _of(40, 10, 1000, "iterations after it")
    z: float = _of(2.05, 1, 5, "half width of the intervals, in standard errors")
    least_before: int = _of(20, 5, 1000, "iterations before the change that are enough")
    trend_rows: int = _of(60, 10, 1000, "iterations before the change that its trend comes from")
    falling_errors: float = _of(
        2.0, 0, 10, "a slope negative by more than so many standard errors goes on by itself"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds every rule back."""

    settle: int = _of(20, 0, 100_000, "no change for so long after one, and then a whole window")
    cooldown: int = _of(50, 0, 100_000, "no change for so long after the autopilot's last one")
    most_changes: int = _of(3, 0, 1000, "changes a run; more of them need approval")
    least_left: int = _of(
        80, 0, 100_000, "no change with fewer iterations left: it could not show its worth"
    )
    oscillation: int = _of(200, 0, 100_000, "a value that is back within this freezes its rule")
    unconfirmed_after: int = _of(
        3, 1, 1000, "a published control that is not echoed by then is unconfirmed"
    )
    stale_after: int = _of(
        20, 1, 100_000, "a decision on an iteration that lies so far back is not published any more"
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which values the autopilot changes; a task's own bounds come first.

    The threshold's are used where the log tells none.
    """

    threshold_least: float = _of(15.0, -1e9, 1e9, "lowest threshold")
    threshold_most: float = _of(30.0, -1e9, 1e9, "highest threshold")
    weight_temperature_least: float = _of(0.5, 0.001, 1000, "lowest weight_temperature")
    weight_temperature_most: float = _of(2.0, 0.001, 1000, "highest weight_temperature")
    n_samples_least: int = _of(4, 1, 1024, "fewest samples a prompt")
    n_samples_most: int = _of(32, 1, 1024, "most samples a prompt")


def _group(kind: Callable[[], Any]) -> Any:
    return field(default_factory=kind)


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it.

    Attributes:
        name: Of the named policy that it began as.
        mode: What the autopilot may do at most, whatever a run's own mode is.
    """

    name: str = "guide"
    mode: Mode | None = None
    window: Window = _group(Window)
    low: Low = _group(Low)
    high: High = _group(High)
    unstable: Unstable = _group(Unstable)
    collapse: Collapse = _group(Collapse)
    adapt: Adapt = _group(Adapt)
    nonfinite: Nonfinite = _group(Nonfinite)
    dead_groups: DeadGroups = _group(DeadGroups)
    no_learning: NoLearning = _group(NoLearning)
    hacking: Hacking = _group(Hacking)
    judging: Judging = _group(Judging)
    limits: Limits = _group(Limits)
    bounds: Bounds = _group(Bounds)


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(),
        Policy("paper", adapt=Adapt(is_reversed=True)),
        Policy("observe", mode=Mode.OBSERVE),
    )
}
"""By name: the guide's, its switch reversed as the theory says, and one that changes nothing."""
