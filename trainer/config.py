"""Env flags -> one frozen configuration.

Precedence: environment > the shipped model's profile (only when no checkpoint is given) > the
algorithm's default (MaxRL 8 samples, GRPO 4) > the guide's defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from maxrl_ops.wire.control import TrainingState
from maxrl_ops.wire.record import Algorithm
from maxrl_ops.wire.settings import RUN_DIR_ENV, SettingError, Value, from_environment
from trainer.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from trainer.reward import Bonus, load_weights, profile_of
from trainer.tasks import REWARD_TIMEOUT, load_task
from trainer.tasks.base import Task

# The guide's own numbers where it gives any: 1000 iterations at 1e-5, 2 prompts of 8 samples.
_DEFAULTS: Mapping[str, Value] = {
    "engine": "native",
    "iterations": 1000,
    "prompts_per_iteration": 2,
    "prompt_sampling": "uniform",
    "replay": 0,
    "max_new_tokens": 256,
    "sampling_temperature": 1.0,
    "weight_temperature": 1.0,
    "learning_rate": 1e-5,
    "max_grad_norm": 1.0,
    "entropy_bonus": 0.0,
    "kl_coefficient": 0.0,
    "length_normalisation": False,
    "updates_per_batch": 1,
    "clip_low": 0.2,
    "clip_high": 0.28,
    "seed": 0,
    "device": "auto",
    "precision": "float32",
    "gradient_checkpointing": False,
    "torch_compile": False,
    "chat_template": "auto",
    "evaluate_every": 100,
    "evaluation_prompts": 48,
    "checkpoint_every": 50,
    "schedule": "fixed",
    "hand_over_after": 200,
}
_WARM_UP = DEFAULT_OBJECTIVE[Algorithm.GRPO]
_SAMPLES: Mapping[Algorithm, int] = {Algorithm.MAXRL: 8, Algorithm.GRPO: 4}


@dataclass(frozen=True, slots=True)
class Config:
    """A run's configuration, complete.

    Attributes:
        run_dir: Where log, control and checkpoints lie.
        engine: native or trl.
        engine_config: A file of the engine's own arguments.
        initial: What a control may change later.
        schedule: fixed, hybrid or adaptive.
        hand_over_to: The objective that a schedule which is not fixed ends with.
        hand_over_after: Iterations before a hybrid's hand-over.
        checkpoint: Hugging Face directory or hub id of the first weights.
        reward_weights: What quality is worth on top of the reward; None where it is worth nothing.
        is_shipped_model: The checkpoint is the task's own small model.
        evaluate_every: Iterations between evaluations; 0: at start and end only.
    """

    run_dir: Path
    engine: str
    engine_config: str | None
    task: str
    reward: str
    reward_weights: Mapping[str, Bonus] | None
    initial: TrainingState
    schedule: str
    hand_over_to: str
    hand_over_after: int
    checkpoint: str
    is_shipped_model: bool
    iterations: int
    prompts_per_iteration: int
    prompt_sampling: str
    replay: int
    max_new_tokens: int
    sampling_temperature: float
    max_grad_norm: float
    entropy_bonus: float
    kl_coefficient: float
    length_normalisation: bool
    updates_per_batch: int
    clip_low: float
    clip_high: float
    seed: int
    device: str
    precision: str
    gradient_checkpointing: bool
    torch_compile: bool
    chat_template: str
    evaluate_every: int
    evaluation_prompts: int
    checkpoint_every: int


def resolve_objective(use_maxrl: bool | None, objective: str | None) -> str:
    """The exact formula that the two settings ask for; MaxRL when neither says anything.

    Raises:
        SettingError: They contradict each other.
    """
    if objective is None:
        algorithm = Algorithm.GRPO if use_maxrl is False else Algorithm.MAXRL
        return DEFAULT_OBJECTIVE[algorithm]
    algorithm = OBJECTIVES[objective].algorithm
    if use_maxrl is not None and use_maxrl != (algorithm is Algorithm.MAXRL):
        raise SettingError(
            f"USE_MAXRL={str(use_maxrl).lower()} and MAXRL_OBJECTIVE={objective} contradict each "
            f"other: {objective} is a {algorithm} objective; leave one of them out"
        )
    return objective


def load_config(env: Mapping[str, str]) -> tuple[Config, Task]:
    """The configuration of `env`, and its task.

    Raises:
        SettingError: A variable is wrong or unknown, or two contradict each other.
        TrainerError: A task of one's own cannot be loaded.
    """
    given = from_environment(env)
    task = load_task(
        str(given.get("task", "rust")),
        cast("str | None", given.get("reward_command")),
        float(given.get("reward_timeout", REWARD_TIMEOUT)),
        unsafe_no_sandbox=bool(given.get("unsafe_no_sandbox", False)),
    )
    objective = resolve_objective(
        cast("bool | None", given.get("use_maxrl")), cast("str | None", given.get("objective"))
    )
    is_shipped = "checkpoint" not in given
    values: dict[str, Value] = {
        **_DEFAULTS,
        "reward": task.reward_profiles[0],
        "correctness_threshold": task.reference_threshold,
        "n_samples": _SAMPLES[OBJECTIVES[objective].algorithm],
        **(task.profile if is_shipped else {}),
        **given,
    }
    if values["reward"] not in task.reward_profiles:
        raise SettingError(
            f"MAXRL_REWARD={values['reward']!r} does not fit the task {task.name}: "
            f"give {' or '.join(task.reward_profiles)}"
        )
    if values["schedule"] != "fixed" and OBJECTIVES[objective].algorithm is not Algorithm.MAXRL:
        raise SettingError(
            f"MAXRL_SCHEDULE={values['schedule']} hands over to MaxRL, {objective} is a GRPO "
            f"objective: leave one of them out"
        )
    after, iterations = int(values["hand_over_after"]), int(values["iterations"])
    if values["schedule"] == "hybrid" and after >= iterations:
        raise SettingError(
            f"MAXRL_HAND_OVER_AFTER={after} would never hand over in {iterations} iterations: give "
            f"less, or more of MAXRL_ITERATIONS"
        )
    if is_shipped and task.model_dir is None:
        raise SettingError(f"the task {task.name} ships no model: give MAXRL_CHECKPOINT")
    return _build(values, objective, task, Path(env.get(RUN_DIR_ENV, "maxrl-run"))), task


def _build(values: Mapping[str, Value], objective: str, task: Task, run_dir: Path) -> Config:
    def whole(key: str) -> int:
        return int(values[key])

    def real(key: str) -> float:
        return float(values[key])

    return Config(
        run_dir=run_dir.absolute(),
        engine=str(values["engine"]),
        engine_config=cast("str | None", values.get("engine_config")),
        task=task.name,
        reward=str(values["reward"]),
        reward_weights=_weights(values, task),
        initial=TrainingState(
            # The guide's options 2 and 3 both begin with GRPO.
            objective=objective if values["schedule"] == "fixed" else _WARM_UP,
            correctness_threshold=real("correctness_threshold"),
            weight_temperature=real("weight_temperature"),
            n_samples=whole("n_samples"),
            learning_rate=real("learning_rate"),
        ),
        schedule=str(values["schedule"]),
        hand_over_to=objective,
        hand_over_after=whole("hand_over_after"),
        checkpoint=str(values.get("checkpoint", task.model_dir)),
        is_shipped_model="checkpoint" not in values,
        iterations=whole("iterations"),
        prompts_per_iteration=whole("prompts_per_iteration"),
        prompt_sampling=str(values["prompt_sampling"]),
        replay=whole("replay"),
        max_new_tokens=whole("max_new_tokens"),
        sampling_temperature=real("sampling_temperature"),
        max_grad_norm=real("max_grad_norm"),
        entropy_bonus=real("entropy_bonus"),
        kl_coefficient=real("kl_coefficient"),
        length_normalisation=bool(values["length_normalisation"]),
        updates_per_batch=whole("updates_per_batch"),
        clip_low=real("clip_low"),
        clip_high=real("clip_high"),
        seed=whole("seed"),
        device=str(values["device"]),
        precision=str(values["precision"]),
        gradient_checkpointing=bool(values["gradient_checkpointing"]),
        torch_compile=bool(values["torch_compile"]),
        chat_template=str(values["chat_template"]),
        evaluate_every=whole("evaluate_every"),
        evaluation_prompts=whole("evaluation_prompts"),
        checkpoint_every=whole("checkpoint_every"),
    )


def _weights(values: Mapping[str, Value], task: Task) -> Mapping[str, Bonus] | None:
    if "reward_weights" not in values:
        return None
    if task.name != "rust":
        raise SettingError(
            f"MAXRL_REWARD_WEIGHTS={values['reward_weights']!r}: nothing measures the quality of "
            f"the task {task.name}'s answers, only of rust's; leave it out"
        )
    weights = load_weights(Path(str(values["reward_weights"])))
    profile_of(str(values["reward"]), weights)
    return weights
