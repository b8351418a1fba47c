"""What the study runs: tasks, arms, learning rates and seeds. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from maxrl_ops.wire.settings import Value

_SMALL_TASKS = Path(__file__).parent.parent / "small_tasks"
# Rates are chosen on the first, results are those of the others.
DEVELOPMENT_SEEDS = (100,)
HELD_OUT_SEEDS = (0, 1, 2, 3, 4)
# Of how many held-out prompts an evaluation is made, 8 samples each.
_PROMPTS = 64
# Found on rules, on development seeds. Half of the samples that the other arms have, and so many
# that on the mazes' development seed 90% came within reach.
_BEST: Mapping[str, Value] = {"n_samples": 2, "replay": 64, "iterations": 400}


@dataclass(frozen=True, slots=True)
class StudyTask:
    """A task of the study.

    Attributes:
        settings: Of every run, where the arm has no other.
        rates: The learning rates that every arm may choose from.
        best: Of the arm `best`.
    """

    settings: Mapping[str, Value]
    rates: tuple[float, float, float]
    best: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train.

    Attributes:
        words: As the tables have it.
        settings: What is special about it.
        is_supervised: It needs the daemon, by `maxrl-ops start --mode act`.
    """

    words: str
    settings: Mapping[str, Value]
    is_supervised: bool = False


def _of_own(name: str, **more: Value) -> Mapping[str, Value]:
    directory = _SMALL_TASKS / name
    shared: dict[str, Value] = {
        "task": f"{directory / 'task.py'}:task",
        "checkpoint": str(directory / "model"),
        "iterations": 200,
        "prompts_per_iteration": 8,
        "n_samples": 8,
        "evaluate_every": 10,
        "evaluation_prompts": _PROMPTS,
        "checkpoint_every": 100,
        "device": "cpu",
    }
    return {**shared, **more}


TASKS: Mapping[str, StudyTask] = {
    "rules": StudyTask(
        _of_own("rules", max_new_tokens=8),
        (5e-4, 1e-3, 2e-3),
        _BEST,
    ),
    "maze": StudyTask(
        # Of a model that knows the ways: from the task's own nobody came to 75%.
        _of_own("maze", max_new_tokens=8, checkpoint=str(_SMALL_TASKS / "maze" / "known")),
        (2.5e-4, 5e-4, 1e-3),
        _BEST,
    ),
    "rust": StudyTask(
        {
            "task": "rust",
            "iterations": 120,
            "prompts_per_iteration": 8,
            "n_samples": 8,
            "max_new_tokens": 256,
            "evaluate_every": 10,
            "evaluation_prompts": 96,
            "checkpoint_every": 40,
            "device": "cpu",
        },
        (1e-4, 3e-4, 1e-3),
        {"replay": 16},
    ),
}
ARMS: Mapping[str, Arm] = {
    "grpo": Arm("GRPO", {"objective": "grpo"}),
    # As few samples in each iteration as the arm `best` has.
    "grpo_small": Arm(
        "GRPO, 2 prompts an iteration",
        {"objective": "grpo", "prompts_per_iteration": 2, "iterations": 400, "evaluate_every": 20},
    ),
    "grpo_masked": Arm(
        "GRPO, groups without a correct sample masked", {"objective": "grpo_masked"}
    ),
    "rloo": Arm("RLOO", {"objective": "rloo"}),
    "maxrl": Arm("MaxRL (the guide's)", {"objective": "maxrl"}),
    "maxrl_mean": Arm("MaxRL (the paper's)", {"objective": "maxrl_mean"}),
    "hybrid": Arm(
        "hybrid: GRPO, MaxRL from 41 on",
        {"objective": "maxrl", "schedule": "hybrid", "hand_over_after": 40},
    ),
    "adaptive": Arm(
        "adaptive: GRPO, MaxRL when the rules say so",
        {"objective": "maxrl", "schedule": "adaptive"},
        is_supervised=True,
    ),
    "autopilot": Arm("MaxRL under the autopilot", {"objective": "maxrl"}, is_supervised=True),
    "best": Arm("MaxRL with replay", {"objective": "maxrl"}),
}
BASE = "grpo"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the study; its key names it in the work directory."""

    task: str
    arm: str
    rate: float
    seed: int
    is_quick: bool = False

    @property
    def key(self) -> str:
        """Unique: `rules/grpo/0.001/3`, with `quick/` before it where it is a short one."""
        quick = "quick/" if self.is_quick else ""
        return f"{quick}{self.task}/{self.arm}/{self.rate:g}/{self.seed}"

    @property
    def is_supervised(self) -> bool:
        """It is started by `maxrl-ops start --mode act`, for the daemon to see."""
        return ARMS[self.arm].is_supervised

    def settings(self) -> dict[str, Value]:
        """All that the run is told."""
        task = TASKS[self.task]
        found: dict[str, Value] = {
            **task.settings,
            **ARMS[self.arm].settings,
            **(task.best if self.arm == "best" else {}),
            "learning_rate": self.rate,
            "seed": self.seed,
        }
        if self.is_quick:
            found |= {"iterations": 20, "evaluate_every": 10, "hand_over_after": 10}
        return found


def grid(tasks: Sequence[str], arms: Sequence[str], *, is_quick: bool) -> Iterator[Job]:
    """The runs that learning rates are chosen by."""
    for seed in DEVELOPMENT_SEEDS:
        for task in tasks:
            for arm in arms:
                for rate in TASKS[task].rates[: 2 if is_quick else None]:
                    yield Job(task, arm, rate, seed, is_quick)


def held_out(rates: Mapping[str, float], *, is_quick: bool) -> Iterator[Job]:
    """The runs that the results are of, at `rates` by `task/arm`. Seed by seed, all arms."""
    for seed in HELD_OUT_SEEDS[: 2 if is_quick else None]:
        for key, rate in rates.items():
            task, _, arm = key.partition("/")
            yield Job(task, arm, rate, seed, is_quick)


def count(task: str, *, is_quick: bool) -> int:
    """How many runs of a task there are, with every arm."""
    rates = dict.fromkeys((f"{task}/{arm}" for arm in ARMS), 0.0)
    tried = grid([task], list(ARMS), is_quick=is_quick)
    return sum(1 for _ in chain(tried, held_out(rates, is_quick=is_quick)))
