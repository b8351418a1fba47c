"""Our objectives, log and control for Hugging Face TRL's GRPOTrainer.

What TRL makes of a reward is its advantage: the reward less the mean of its group. So a group's
rewards are replaced by N times the coefficients of our objective, and what TRL then trains on is
our weight less its group's mean, a baseline: docs/engines.md says what that does to each objective.
Since the transform is looked up for each batch, the same run goes from one objective to another at
any step.

GRPOTrainer must be given `scale_rewards="none"`: everything else would divide by a spread again.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState

from maxrl_ops.wire.control import Control, TrainingState
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.record import Event, IterationRecord, RunEnded, RunStarted, UpdateSkipped
from maxrl_ops.wire.rundir import DIRECTORY_MODE, RunDir
from maxrl_ops.wire.settings import ATTEMPT_ENV, LOCK_FD_ENV, RUN_DIR_ENV, from_environment
from trainer.batch import Group, Sample, describe, scored
from trainer.config import resolve_objective
from trainer.control_port import ControlPort, HandOver
from trainer.engines.foreign_checkpoints import announce, forget_gone
from trainer.engines.shaping import RewardScale, graded, prompt_of, shaped_rewards, text_of
from trainer.environment import whole_number
from trainer.errors import TrainerError
from trainer.objectives import OBJECTIVES
from trainer.run_log import RunLog
from trainer.sampler import Completion
from trainer.samples_file import append_samples
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import Scale

_PAUSE_POLL_SECONDS = 0.25
_FIXED = {"n_samples": "TRL's dataloader is made for the number it started with; restart the run"}
_NO_WAY_BACK = {"restart_from": "nobody here starts the trainer again"}

RewardFunction = Callable[..., list[float | None]]
# Of the rows of one process: a sample each, in their order.
Judge = Callable[[Sequence[Completion], Mapping[str, Any]], list[Sample]]


class EngineCallback(TrainerCallback):
    """Writes our log, applies control, answers pause, checkpoint and stop.

    Attributes:
        state: The values in force, the same in every process.
        was_stopped: Somebody asked for the end; the same in every process.
    """

    def __init__(
        self,
        run_dir: RunDir,
        scale: Scale,
        state: TrainingState,
        header: RunStarted,
        hand_over: HandOver | None = None,
        going_back: Control | None = None,
        *,
        can_go_back: bool = False,
    ) -> None:
        """`state` is in force at the start; `header` says of the run what TRL does not know."""
        self._going_back, self._can_go_back = going_back, can_go_back
        self.run_dir, self.scale, self.state = run_dir, scale, state
        self._header, self._hand_over = header, hand_over
        self._port: ControlPort | None = None
        self._log: RunLog | None = None
        # What the optimizer step in progress is made of, until its figures come.
        self._groups: list[Group] = []
        self._watch = Stopwatch(None)
        self._in_step = self._wants_checkpoint = self._is_skipped = self.was_stopped = False
        self._stop = threading.Event()
        self._stack = ExitStack()

    # --- What the reward function asks ------------------------------------------------------------

    def transform(self, samples: Sequence[Sample]) -> list[float | None]:
        """What TRL is to take for the rewards of this process's rows; None where unscored.

        Groups are whole only over all processes: all rows are gathered first.
        """
        if not self._in_step:
            # An evaluation of TRL's own: rewards as they are.
            return [None if s.reward is None else s.reward.total for s in samples]
        rows: list[Sample] = gather_object(list(samples))
        size = self.state.n_samples
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        self._groups += groups
        shaped = [value for group in groups for value in shaped_rewards(group, self.state)]
        first = dist.get_rank() * len(samples) if dist.is_initialized() else 0
        self.enter("update")
        return shaped[first : first + len(samples)]

    def enter(self, phase: str) -> None:
        """A part of the step begins: generating, judging or learning."""
        self._watch.enter(phase)

    # --- TRL's loop -------------------------------------------------------------------------------

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the header, and take over what was applied up to the checkpoint."""
        if str(args.scale_rewards) != "none":
            raise TrainerError(
                f"scale_rewards={args.scale_rewards!r} would scale our objective away: give "
                f'GRPOConfig(scale_rewards="none")'
            )
        self.state = replace(
            self.state,
            n_samples=int(args.num_generations),
            learning_rate=float(args.learning_rate),
        )
        self._heed_stop()
        if args.process_index == 0:
            run, done = self.run_dir, state.global_step
            for path in (run.path, run.control, run.checkpoints):
                path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            fixed = _FIXED if self._can_go_back else _FIXED | _NO_WAY_BACK
            self._port = ControlPort(
                run, self.scale, self.state, done, self._hand_over, self._going_back, fixed
            )
            self.state = self._port.state
            self._log = self._open_log()
            self.write(self._completed_header(args, state, kwargs.get("model")))
        self._share()

    def _heed_stop(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: self._stop.set())

    def _open_log(self) -> RunLog:
        log = RunLog(self.run_dir)
        if LOCK_FD_ENV in os.environ:
            # What is printed goes there too: nothing of that may pose as a block.
            self._stack.enter_context(log.capturing_output())
        return log

    def _completed_header(self, args: Any, state: TrainerState, model: Any) -> RunStarted:
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        wanted = self.state
        return replace(
            self._header,
            algorithm=OBJECTIVES[wanted.objective].algorithm,
            objective=wanted.objective,
            model=self._header.model or _described(model),
            device=str(args.device),
            seed=int(args.seed),
            target_iterations=state.max_steps,
            prompts_per_iteration=int(rows // args.num_generations),
            n_samples=wanted.n_samples,
            correctness_threshold=wanted.correctness_threshold,
            weight_temperature=wanted.weight_temperature,
            learning_rate=wanted.learning_rate,
            reference_threshold=self.scale.reference_threshold,
            bounds=self.scale.threshold_bounds,
            attempt=whole_number(os.environ, ATTEMPT_ENV, 1),
            resumed_from=state.global_step or None,
            extra={"Engine": f"trl {version('trl')}, {args.world_size} processes"},
        )

    def write(self, event: Event) -> None:
        """Append to the log; only the process that has it does."""
        if self._log is not None:
            self._log.write(event)

    @property
    def is_main(self) -> bool:
        """This process writes the log."""
        return self._log is not None

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Bring what is in force up to this step, and wait for as long as a pause says."""
        iteration = state.global_step + 1
        self._groups = []
        self._watch = Stopwatch(self.run_dir if self.is_main else None, iteration)
        self._echo([] if self._port is None else self._port.at_boundary(iteration))
        if is_paused := self._share():
            self.enter("pause")
        while is_paused and not self.was_stopped:
            time.sleep(_PAUSE_POLL_SECONDS)
            self._echo([] if self._port is None else self._port.poll(iteration))
            is_paused = self._share()
        _set_learning_rate(self.state.learning_rate, kwargs)
        self._in_step = True
        self.enter("sample")

    def _echo(self, echoes: Sequence[Event]) -> None:
        for echo in echoes:
            self.write(echo)

    def _share(self) -> bool:
        """Give every process what is in force; whether the run is paused."""
        port = self._port
        told: list[Any] = [None]
        if port is not None:
            goes_back = port.wants_restart is not None
            is_to_stop = port.wants_stop or goes_back or self._stop.is_set()
            told = [(port.state, port.is_paused, port.wants_checkpoint, is_to_stop, goes_back)]
        if dist.is_initialized():
            broadcast_object_list(told)
        self.state, is_paused, self._wants_checkpoint, self.was_stopped, goes_back = told[0]
        # Of what is given up, nothing is saved.
        self._wants_checkpoint |= self.was_stopped and not goes_back
        return bool(is_paused)

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make nothing of a gradient that is not finite."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        spoilt = torch.tensor([0.0 if all(map(_all_finite, gradients)) else 1.0])
        if dist.is_initialized():
            # Each process may hold its share of the gradient only.
            spoilt = spoilt.to(args.device)
            dist.all_reduce(spoilt, dist.ReduceOp.MAX)
        self._is_skipped = bool(spoilt.item())
        if self._is_skipped:
            optimizer.zero_grad(set_to_none=True)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the step logged, and what control asks for done."""
        self._in_step = False
        self._watch.book()
        self._share()
        # A block an iteration: whatever logging_steps says.
        control.should_log = True
        if self._wants_checkpoint:
            control.should_save = True
        if self._port is not None:
            self._port.wants_checkpoint = False
        if self.was_stopped:
            control.should_training_stop = True

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the step's block; rewards are shown as they were given, not as TRL got them."""
        groups = self._groups
        if logs is None or "loss" not in logs or not groups:
            return
        rewards = [reward for group in groups for _, reward in scored(group)]
        if rewards:
            logs["reward"], logs["reward_std"] = fmean(rewards), pstdev(rewards)
        if self._log is not None:
            self._write_step(state, logs, groups)
        self._groups = []
        self.after_step(state.global_step, control, kwargs.get("model"))

    @property
    def checkpoint_facts(self) -> dict[str, Any]:
        """What else a checkpoint's marker tells (see foreign_checkpoints.announce)."""
        return {}

    def after_step(self, iteration: int, control: TrainerControl, model: Any) -> None:
        """What else is to be done once a step's block is written."""

    def _write_step(
        self, state: TrainerState, logs: Mapping[str, Any], groups: Sequence[Group]
    ) -> None:
        figures: dict[str, Any] = {name: _figure(logs, name) for name in _FIGURES}
        if self._is_skipped:
            why = f"loss {figures['loss']}, grad norm {figures['grad_norm']}"
            self.write(UpdateSkipped(state.global_step, why))
        seconds: dict[str, Any] = {
            f"{phase}_time": self._watch.seconds.get(phase, 0.0)
            for phase in ("sample", "verify", "update")
        }
        self.write(
            IterationRecord(
                iteration=state.global_step,
                target_iterations=state.max_steps,
                control_revision=(self._port and self._port.revision) or None,
                at=utc_now(),
                duration=sum(seconds.values()),
                **seconds,
                **figures,
                **describe(groups, self.state, self.scale),
            )
        )
        attempt = whole_number(os.environ, ATTEMPT_ENV, 1)
        append_samples(self.run_dir, attempt, state.global_step, groups)

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of TRL's checkpoint, once every process has written its share."""
        if dist.is_initialized():
            dist.barrier()
        if self._log is not None:
            saved = Path(args.output_dir).absolute() / f"checkpoint-{state.global_step}"
            self.write(announce(self.run_dir, state.global_step, saved, **self.checkpoint_facts))
            forget_gone(self.run_dir)

    def on_train_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say how it ended."""
        done = state.global_step
        if done < state.max_steps and self.was_stopped:
            self.write(RunEnded("stopped", f"after iteration {done}"))
        else:
            self.write(RunEnded("finished", f"{done} iterations"))
        self._stack.close()


class MaxRLCallback(EngineCallback):
    """The callback for code of one's own.

    The environment, as `maxrl-ops start ... -- COMMAND` sets it (USE_MAXRL, MAXRL_OBJECTIVE,
    MAXRL_CORRECTNESS_THRESHOLD ...), goes before what is given here.
    """

    def __init__(
        self,
        *,
        correctness_threshold: float | None = None,
        objective: str | None = None,
        weight_temperature: float = 1.0,
        bounds: tuple[float, float] | None = None,
        run_dir: str | Path | None = None,
        task: str = "trl",
    ) -> None:
        """Take what is in force at the start.

        Args:
            correctness_threshold: A completion is correct when its reward is above.
            objective: One of trainer.objectives.OBJECTIVES; maxrl where nobody says anything.
            weight_temperature: Softmax temperature of MaxRL weights.
            bounds: Lowest and highest threshold that a control may ask for.
            run_dir: Where log, control and checkpoints lie: MAXRL_RUN_DIR, or ./maxrl-run.
            task: What the log calls it.

        Raises:
            SettingError: The environment holds a setting that cannot be used.
            TrainerError: Nobody says from which reward on a completion is correct.
        """
        given = from_environment(os.environ)
        threshold = given.get("correctness_threshold", correctness_threshold)
        if threshold is None:
            raise TrainerError(
                "above which reward is a completion correct? give MaxRLCallback("
                "correctness_threshold=...), or MAXRL_CORRECTNESS_THRESHOLD"
            )
        use_maxrl = cast("bool | None", given.get("use_maxrl"))
        asked = cast("str | None", given.get("objective"))
        if asked is None and use_maxrl is None:
            asked = objective
        reference = float(threshold if correctness_threshold is None else correctness_threshold)
        state = TrainingState(
            objective=resolve_objective(use_maxrl, asked),
            correctness_threshold=float(threshold),
            weight_temperature=float(given.get("weight_temperature", weight_temperature)),
            # What TRL has of these counts.
            n_samples=2,
            learning_rate=1.0,
        )
        run = RunDir(Path(run_dir or os.environ.get(RUN_DIR_ENV, "maxrl-run")).absolute())
        header = RunStarted(OBJECTIVES[state.objective].algorithm, task=task, reward="own")
        super().__init__(run, RewardScale.around(reference, bounds), state, header)


# --- Rewards --------------------------------------------------------------------------------------


def objective_reward(reward: RewardFunction, maxrl: EngineCallback) -> RewardFunction:
    """A reward function for GRPOTrainer that trains on `maxrl`'s objective of what `reward` gives.

    `reward` is called as TRL calls it; None for a completion leaves it out of its group.
    """

    def judge(completions: Sequence[Completion], called_with: Mapping[str, Any]) -> list[Sample]:
        given = reward(**called_with)
        return [graded(c, value) for c, value in zip(completions, given, strict=True)]

    return shaped(judge, maxrl, getattr(reward, "__name__", "reward"))


def shaped(judge: Judge, maxrl: EngineCallback, name: str) -> RewardFunction:
    """As `objective_reward`, of whole verdicts."""

    def shaped_reward(**called_with: Any) -> list[float | None]:
        maxrl.enter("verify")
        rows = zip(
            called_with["prompts"],
            called_with["completions"],
            called_with["completion_ids"],
            strict=True,
        )
        completions = [
            Completion(prompt_of(text_of(prompt)), (), tuple(ids), text_of(completion))
            for prompt, completion, ids in rows
        ]
        return maxrl.transform(judge(completions, called_with))

    # TRL logs a reward function's figures under its name.
    shaped_reward.__name__ = name
    return shaped_reward


# --- TRL's figures --------------------------------------------------------------------------------

# Those whose names are ours.
_FIGURES = ("loss", "grad_norm", "learning_rate", "entropy", "kl")


def _figure(logs: Mapping[str, Any], key: str) -> float | None:
    value = logs.get(key)
    return None if value is None else float(value)


def _all_finite(gradient: Tensor) -> bool:
    return bool(torch.isfinite(gradient).all())


def _described(model: Any) -> str | None:
    if model is None:
        return None
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{getattr(model.config, 'model_type', 'model')}, {count / 1e6:.3g} M parameters"


def _set_learning_rate(wanted: float, kwargs: Mapping[str, Any]) -> None:
    """Let the schedule go on from another rate: what it multiplies is exchanged."""
    optimizer: Any = kwargs.get("optimizer")
    scheduler: Any = kwargs.get("lr_scheduler")
    scheduler = getattr(scheduler, "scheduler", scheduler)
    if optimizer is None or scheduler is None or not scheduler.base_lrs:
        return
    factor = wanted / scheduler.base_lrs[0] if scheduler.base_lrs[0] else 1.0
    if factor == 1.0:
        return
    scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
    # What it tells of itself, until it computes it anew.
    scheduler._last_lr = [rate * factor for rate in scheduler.get_last_lr()]  # noqa: SLF001
    for parameters in optimizer.param_groups:
        parameters["lr"] *= factor
        parameters["initial_lr"] = parameters.get("initial_lr", wanted) * factor
