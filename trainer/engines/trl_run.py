"""`--engine trl`: a run of ours whose model TRL's GRPOTrainer trains.

Prompts, verdicts, objectives, log, control and evaluation are ours; generating, the update and its
parallelism (accelerate, FSDP, DeepSpeed, vLLM, LoRA by peft) are TRL's. An episode ends at the
model's end of sequence, and what stands behind an answer is trained on too, though not verified.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.checkpoints import Checkpoint
from maxrl_ops.wire.control import Control
from maxrl_ops.wire.record import RunStarted
from maxrl_ops.wire.rundir import RunDir
from trainer.batch import Sample, judge
from trainer.checkpoint import drop_beyond
from trainer.config import Config
from trainer.control_port import HandOver, restart_asked
from trainer.engines.arguments import EngineArguments, load_arguments
from trainer.engines.foreign_checkpoints import prune
from trainer.engines.trl import EngineCallback, shaped
from trainer.environment import whole_number
from trainer.errors import ExitCode, TrainerError
from trainer.evaluate import evaluate
from trainer.objectives import OBJECTIVES
from trainer.policy import Policy, choose_device, load_policy, speaks_in_chat
from trainer.reward import profile_of
from trainer.run_log import RunLog
from trainer.sampler import Completion
from trainer.seeds import derive_seed
from trainer.tasks.base import Prompt, Task

# Drawn before the first step; a longer run sees them again.
_MOST_PROMPTS = 100_000
# What TRL has no counterpart of.
_NATIVE = {
    "prompt_sampling": "uniform",
    "replay": 0,
    "length_normalisation": False,
    "torch_compile": False,
}


def train(
    config: Config, task: Task, log: RunLog | None, stop_requested: Callable[[], bool]
) -> ExitCode:
    """Train to the end, or until a stop is requested; only the first of all processes has a log.

    Raises:
        TrainerError: A setting that TRL has nothing for, or a file of arguments that is wrong.
        VerifierUnavailable: The task cannot judge answers on this host.
    """
    for key, native in _NATIVE.items():
        if getattr(config, key) != native:
            raise TrainerError(f"{key}: the engine trl has no such thing; leave it out")
    given = load_arguments(config.engine_config)
    task.prepare()
    run = RunDir(config.run_dir)
    back = restart_asked(run, task, config.initial)
    if back is not None and log is not None:
        drop_beyond(run, back.restart_from or 0)
    resumed = _newest(run, back)
    policy = load_policy(config.checkpoint, torch.device("cpu"))
    is_chat = speaks_in_chat(policy, config.chat_template, is_chat_task=task.is_chat)
    prompts = _prompts(config, task)
    callback = _TaskCallback(config, task, log, policy, stop_requested, back, is_chat=is_chat)
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=shaped(_judge(config, task, prompts), callback, config.reward),
        args=_grpo_config(config, given),
        train_dataset=_dataset(prompts, is_chat=is_chat),
        processing_class=policy.tokenizer,
        callbacks=[callback],
        peft_config=given.lora(),
    )
    callback.is_sharded = bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed.model.resolve()))
    return ExitCode.STOPPED if callback.was_stopped else ExitCode.FINISHED


def _newest(run: RunDir, back: Control | None) -> Checkpoint | None:
    """Where to go on from: the same for every process, though one drops what is behind."""
    most = None if back is None else back.restart_from or 0
    found = [c for c in checkpoints.complete(run) if most is None or c.iteration <= most]
    return found[-1] if found else None


class _TaskCallback(EngineCallback):
    """Evaluates on the task's held-out prompts, and keeps the best checkpoint.

    Attributes:
        is_sharded: No process has the whole model, to sample from it as we do.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        log: RunLog | None,
        policy: Policy,
        stop_requested: Callable[[], bool],
        going_back: Control | None,
        *,
        is_chat: bool,
    ) -> None:
        initial = config.initial
        shipped = "shipped with the task, " if config.is_shipped_model else f"{config.checkpoint}, "
        header = RunStarted(
            OBJECTIVES[initial.objective].algorithm,
            task=task.name,
            model=shipped + policy.describe(),
            reward=config.reward + (" with weights" if config.reward_weights else ""),
            schedule=None if config.schedule == "fixed" else config.schedule,
            hand_over_to=None if config.schedule == "fixed" else config.hand_over_to,
            hand_over_after=config.hand_over_after if config.schedule == "hybrid" else None,
        )
        planned = HandOver(config.hand_over_to, config.hand_over_after)
        super().__init__(
            RunDir(config.run_dir),
            task,
            initial,
            header,
            planned if config.schedule == "hybrid" else None,
            going_back,
            can_go_back=True,
        )
        self._config, self._task, self._given_log = config, task, log
        self._tokenizer, self._is_chat = policy.tokenizer, is_chat
        self._stop_requested = stop_requested
        self._pass_at_1: dict[int, float] = {}
        self.is_sharded = False
        self._device = torch.device("cpu")

    def _heed_stop(self) -> None:
        """Signals are heeded already."""

    def _open_log(self) -> RunLog:
        assert self._given_log is not None  # noqa: S101 - the first process has one
        return self._given_log

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the header; measure what the run begins with."""
        super().on_train_begin(args, state, control, **kwargs)
        self._device = args.device
        if state.global_step == 0:
            self._evaluate(0, kwargs.get("model"))

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """As the base; a signal asks for the end too."""
        if self._stop_requested():
            self._stop.set()
        super().on_step_begin(args, state, control, **kwargs)

    def after_step(self, iteration: int, control: TrainerControl, model: Any) -> None:
        """Evaluate when it is time, and have what is best so far saved."""
        if self._stop_requested():
            self._stop.set()
        every, last = self._config.evaluate_every, self._config.iterations
        if iteration != last and (every == 0 or iteration % every):
            return
        before = checkpoints.best(self.run_dir)
        self._evaluate(iteration, model)
        found = self._pass_at_1.get(iteration)
        if found is not None and (before is None or found > (before.pass_at_1 or 0.0)):
            control.should_save = True

    def _evaluate(self, iteration: int, model: Any) -> None:
        if not self.is_main or model is None:
            return
        if self.is_sharded:
            if iteration == 0 and self._log is not None:
                self._log.write_foreign("no evaluation: the model is sharded over processes\n")
            return
        self.enter("evaluate")
        was_training = model.training
        model.eval()
        policy = Policy(model, self._tokenizer, self._device, is_chat=self._is_chat)
        found = evaluate(policy, self._task, self._config, iteration)
        model.train(was_training)
        self.write(found)
        self._pass_at_1[iteration] = found.pass_at_k[1]

    @property
    def checkpoint_facts(self) -> dict[str, Any]:
        """Whose it is, and how good."""
        config = self._config
        identity = {"task": self._task.name, "reward": config.reward, "seed": str(config.seed)}
        newest = max(self._pass_at_1, default=-1)
        is_current = newest == self._watch.iteration
        pass_at_1 = self._pass_at_1[newest] if is_current else None
        return {"identity": identity, "pass_at_1": pass_at_1}

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of the checkpoint, and drop those that nobody will go back to."""
        super().on_save(args, state, control, **kwargs)
        if self.is_main:
            prune(self.run_dir, () if self._hand_over is None else (self._hand_over.after,))


# --- Prompts and verdicts -------------------------------------------------------------------------


def _prompts(config: Config, task: Task) -> list[Prompt]:
    """Those of each iteration, in order, as the native engine draws them."""
    count = config.prompts_per_iteration
    iterations = min(config.iterations, max(1, _MOST_PROMPTS // count))
    return [
        prompt
        for iteration in range(1, iterations + 1)
        for prompt in task.training_prompts(
            Random(derive_seed(config.seed, iteration, "prompts")), count
        )
    ]


def _dataset(prompts: Sequence[Prompt], *, is_chat: bool) -> Dataset:
    texts: list[Any] = [prompt.text for prompt in prompts]
    if is_chat:
        texts = [[{"role": "user", "content": text}] for text in texts]
    return Dataset.from_dict({"prompt": texts, "place": list(range(len(prompts)))})


def _judge(
    config: Config, task: Task, prompts: Sequence[Prompt]
) -> Callable[[Sequence[Completion], Mapping[str, Any]], list[Sample]]:
    profile = profile_of(config.reward, config.reward_weights)

    def judged(completions: Sequence[Completion], called_with: Mapping[str, Any]) -> list[Sample]:
        group = [
            _cut(completion, prompts[place], task)
            for completion, place in zip(completions, called_with["place"], strict=True)
        ]
        [samples] = judge([group], task, profile)
        return list(samples)

    return judged


def _cut(completion: Completion, prompt: Prompt, task: Task) -> Completion:
    end = task.answer_end(prompt, completion.text)
    return Completion(prompt, completion.prompt_ids, completion.ids, completion.text[:end])


# --- TRL's arguments ------------------------------------------------------------------------------


def _grpo_config(config: Config, given: EngineArguments) -> GRPOConfig:
    """Our settings in TRL's words; what a file gives comes on top.

    Raises:
        TrainerError: TRL refuses the combination.
    """
    initial, world = config.initial, whole_number(os.environ, "WORLD_SIZE", 1)
    rows = config.prompts_per_iteration * initial.n_samples
    if rows % world:
        raise TrainerError(
            f"{config.prompts_per_iteration} prompts of {initial.n_samples} samples cannot be "
            f"spread evenly over {world} processes"
        )
    ours: dict[str, Any] = {
        "output_dir": str(config.run_dir / "trl"),
        "learning_rate": initial.learning_rate,
        "num_generations": initial.n_samples,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.sampling_temperature,
        "max_steps": config.iterations,
        "max_grad_norm": config.max_grad_norm,
        "beta": config.kl_coefficient,
        "entropy_coef": config.entropy_bonus,
        "num_iterations": config.updates_per_batch,
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high,
        "scale_rewards": "none",
        "seed": config.seed,
        "use_cpu": choose_device(config.device)[0].type == "cpu",
        "bf16": config.precision == "bfloat16",
        "gradient_checkpointing": config.gradient_checkpointing,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        "report_to": "none",
        "shuffle_dataset": False,
        "disable_tqdm": True,
    }
    # Sequence log-probs summed, not averaged over their length: ours but for a constant.
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": rows // world,
        "gradient_accumulation_steps": 1,
        "loss_type": "dr_grpo",
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
    }
    try:
        return GRPOConfig(**{**defaults, **given.checked(GRPOConfig, ours), **ours})
    except (TypeError, ValueError, ImportError) as error:
        raise TrainerError(f"TRL refuses its arguments: {' '.join(str(error).split())}") from error
