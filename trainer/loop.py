"""The training loop: sample, verify, weigh, step; save and evaluate when it is time."""

import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import torch

from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.checkpoints import Checkpoint
from maxrl_ops.wire.control import Control
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.record import (
    CheckpointSaved,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    UpdateSkipped,
)
from maxrl_ops.wire.rundir import RunDir
from trainer import checkpoint
from trainer.advice import Advice
from trainer.batch import Group, correct_answers, describe, judge, solved, terms_of
from trainer.config import Config
from trainer.control_port import ControlPort, Echo, HandOver, restart_asked
from trainer.difficulty import CANDIDATES, Difficulty
from trainer.errors import ExitCode, TrainerError
from trainer.evaluate import evaluate
from trainer.llama.recording import Recording, Room
from trainer.objectives import OBJECTIVES
from trainer.policy import (
    Policy,
    choose_device,
    choose_kernels,
    load_policy,
    others_memory,
    speaks_in_chat,
)
from trainer.ranks import ALONE, Ranks
from trainer.replay import Answer, Replay
from trainer.reward import profile_of
from trainer.run_log import RunLog
from trainer.sampler import sample
from trainer.samples_file import append_samples
from trainer.seeds import derive_seed, repeat_exactly, seed_everything
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import Prompt, Task
from trainer.update import StepOptions, UpdateResult, records_samples, train_step

# How soon a paused run sees that it is to go on.
_PAUSE_POLL_SECONDS = 0.25


class Trainer:
    """A run from its configuration to its last iteration."""

    def __init__(
        self,
        config: Config,
        task: Task,
        log: RunLog | None,
        attempt: int,
        stop_requested: Callable[[], bool],
        ranks: Ranks = ALONE,
    ) -> None:
        """Load the newest checkpoint of the run, or the model it starts from.

        Of several processes, the first alone has a log.

        Raises:
            TrainerError: The device or the checkpoint cannot be used.
            VerifierUnavailable: The task cannot judge answers on this host.
        """
        self.config, self.task, self.log, self.ranks = config, task, log, ranks
        self.run_dir = RunDir(config.run_dir)
        self._attempt, self._stop_requested = attempt, stop_requested
        self.watch = self._stopwatch(0)
        self.watch.enter("load")
        _check_share(config, ranks)
        device, device_name = choose_device(config.device)
        repeat_exactly(device)
        task.prepare()
        back, resumed = ranks.tell(self._begin)
        self._identity = {"task": task.name, "reward": config.reward, "seed": str(config.seed)}
        if resumed is not None:
            self._check_identity(resumed)
        if log is not None:
            self._remark(log, device)
        self.policy = self._load(str(resumed.model) if resumed else config.checkpoint, device)
        self.optimizer = torch.optim.AdamW(
            self.policy.model.parameters(),
            lr=config.initial.learning_rate,
            weight_decay=0.0,
            fused=device.type in {"cpu", "cuda"},
        )
        if resumed is not None:
            checkpoint.restore_optimizer(resumed, self.optimizer)
        self._options = StepOptions(
            sampling_temperature=config.sampling_temperature,
            max_grad_norm=config.max_grad_norm,
            entropy_bonus=config.entropy_bonus,
            kl_coefficient=config.kl_coefficient,
            length_normalisation=config.length_normalisation,
            updates_per_batch=config.updates_per_batch,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        self._room = Room() if records_samples(self.policy, self._options, ranks) else None
        self._profile = profile_of(config.reward, config.reward_weights)
        # The model that the run began with, whatever it has become since.
        has_reference = config.kl_coefficient > 0
        self._reference = self._load(config.checkpoint, device) if has_reference else None
        self.done = resumed.iteration if resumed else 0
        self._advice = Advice()
        self._difficulty: Difficulty | None = None
        if config.prompt_sampling == "difficulty":
            self._difficulty = Difficulty.from_json(checkpoint.known_by(resumed, "difficulty"))
        self._replay: Replay | None = None
        if config.replay:
            self._replay = Replay.from_json(checkpoint.known_by(resumed, "replay"))
        self._is_fresh = resumed is None
        self._saved = resumed.iteration if resumed else None
        planned = HandOver(config.hand_over_to, config.hand_over_after)
        self._hand_over = planned if config.schedule == "hybrid" else None
        self.control = ControlPort(
            self.run_dir, task, config.initial, self.done, self._hand_over, back
        )
        self._tell(self._header(attempt, device_name, resumed.iteration if resumed else None))
        if log is not None and resumed is not None:
            _complete(log, resumed)

    def _begin(self) -> tuple[Control | None, Checkpoint | None]:
        """What sends the run back, if anything does, and where it goes on from."""
        checkpoint.clear_leftovers(self.run_dir)
        back = restart_asked(self.run_dir, self.task, self.config.initial)
        if back is not None:
            checkpoint.drop_beyond(self.run_dir, back.restart_from or 0)
        for name in checkpoint.set_aside_damaged(self.run_dir):
            if self.log is not None:
                self.log.write_foreign(
                    f"checkpoint {name} is damaged, and set aside as damaged-{name}\n"
                )
        return back, checkpoints.newest(self.run_dir)

    def _remark(self, log: RunLog, device: torch.device) -> None:
        for name in checkpoints.skipped(self.run_dir):
            log.write_foreign(f"checkpoint {name} is incomplete, and skipped\n")
        if (busy := others_memory(device)) is not None:
            log.write_foreign(f"{busy}\n")

    def _stopwatch(self, iteration: int) -> Stopwatch:
        return Stopwatch(self.run_dir if self.ranks.is_first else None, iteration)

    def _tell(self, event: Event) -> None:
        """Append to the log; only the first process has it."""
        if self.log is not None:
            self.log.write(event)

    def _check_identity(self, resumed: Checkpoint) -> None:
        """Refuse to go on with another run's weights."""
        theirs = {key: resumed.identity.get(key, own) for key, own in self._identity.items()}
        if theirs != self._identity:
            told = ", ".join(f"{key} {value}" for key, value in theirs.items())
            ours = ", ".join(f"{key} {value}" for key, value in self._identity.items())
            raise TrainerError(
                f"{self.run_dir.path} holds a run with {told}, and this one has {ours}: give "
                f"MAXRL_RUN_DIR another directory",
                ExitCode.IN_USE,
            )

    def _load(self, checkpoint: str, device: torch.device) -> Policy:
        config, policy = self.config, load_policy(checkpoint, device)
        for key in ("gradient_checkpointing", "torch_compile"):
            if getattr(config, key) and not policy.is_llama_like:
                raise TrainerError(
                    f"{key}: {policy.model.config.model_type} is not among the models whose layers "
                    f"this trainer computes by itself; leave it out"
                )
        return replace(
            policy,
            precision=getattr(torch, config.precision),
            is_chat=speaks_in_chat(policy, config.chat_template, is_chat_task=self.task.is_chat),
            kernels=choose_kernels(device, torch_compile=config.torch_compile),
        )

    def _header(self, attempt: int, device: str, resumed_from: int | None) -> RunStarted:
        config, state, task = self.config, self.control.state, self.task
        shipped = "shipped with the task, " if config.is_shipped_model else f"{config.checkpoint}, "
        return RunStarted(
            algorithm=OBJECTIVES[state.objective].algorithm,
            objective=state.objective,
            task=task.name,
            model=shipped + self.policy.describe(),
            device=device,
            reward=config.reward + (" with weights" if config.reward_weights else ""),
            seed=config.seed,
            target_iterations=config.iterations,
            prompts_per_iteration=config.prompts_per_iteration,
            n_samples=state.n_samples,
            correctness_threshold=state.correctness_threshold,
            weight_temperature=state.weight_temperature,
            learning_rate=state.learning_rate,
            reference_threshold=task.reference_threshold,
            bounds=task.threshold_bounds,
            prompt_sampling=None if self._difficulty is None else config.prompt_sampling,
            replay=config.replay or None,
            schedule=None if config.schedule == "fixed" else config.schedule,
            hand_over_to=None if config.schedule == "fixed" else config.hand_over_to,
            hand_over_after=None if self._hand_over is None else self._hand_over.after,
            attempt=attempt,
            resumed_from=resumed_from,
            extra={} if self.ranks.size == 1 else {"Processes": str(self.ranks.size)},
        )

    def train(self) -> ExitCode:
        """Run to the last iteration, or until a stop is requested.

        A stop is answered at an iteration's boundary, with a checkpoint: nothing is lost.
        """
        if self._is_fresh:
            self._evaluate(0)
        for iteration in range(self.done + 1, self.config.iterations + 1):
            self._obey(iteration)
            if (back := self.control.wants_restart) is not None:
                # Nothing of this is wanted any more: no checkpoint.
                self._tell(RunEnded("stopped", f"to go back to {back.restart_from}"))
                return ExitCode.STOPPED
            if self._is_to_stop():
                self._save(self.done)
                self._tell(RunEnded("stopped", f"after iteration {self.done}"))
                return ExitCode.STOPPED
            self.iterate(iteration)
            self.done = iteration
            is_last = iteration == self.config.iterations
            pass_at_1 = None
            if _is_due(iteration, self.config.evaluate_every) or is_last:
                pass_at_1 = self._evaluate(iteration)
            is_due = _is_due(iteration, self.config.checkpoint_every) or is_last
            if is_due or iteration in self._kept() or self._is_best(pass_at_1):
                self._save(iteration, pass_at_1)
        self._tell(RunEnded("finished", f"{self.config.iterations} iterations"))
        return ExitCode.FINISHED

    def _obey(self, iteration: int) -> None:
        """Do what control asks for before `iteration`, and wait for as long as it says."""
        self._look(self.control.at_boundary, iteration)
        self._save_as_asked()
        if self.control.is_paused:
            self.watch.enter("pause")
        while self.control.is_paused and not self._is_to_stop():
            time.sleep(_PAUSE_POLL_SECONDS)
            self._look(self.control.poll, iteration)
            self._save_as_asked()

    def _look(self, look: Callable[[int], list[Echo]], iteration: int) -> None:
        """Have the first process look into control/, and all use what it finds."""
        if self.ranks.is_first:
            for echo in look(iteration):
                self._tell(echo)
        self.control.follow(self.ranks.tell(lambda: self.control.findings))

    def _is_to_stop(self) -> bool:
        """By a signal, or by a control: without a supervisor nobody else heeds that."""
        asked = self.control.wants_stop or self.control.wants_restart is not None
        return asked or self.ranks.any(self._stop_requested())

    def _save_as_asked(self) -> None:
        if self.control.wants_checkpoint:
            self.control.wants_checkpoint = False
            self._save(self.done)

    def iterate(self, iteration: int) -> None:
        """One iteration: samples, verdicts, a step, and the log of it."""
        self.watch = watch = self._stopwatch(iteration)
        state = self.control.state

        recording = None if self._room is None else Recording(self._room)
        groups = self._draw_groups(iteration, recording)

        watch.enter("update")
        remembered = self._remembered(iteration)
        terms = terms_of(groups, state, remembered)
        update = None
        if terms:
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = state.learning_rate
            update = train_step(
                self.policy,
                self.optimizer,
                terms,
                self._options,
                self._reference,
                self.ranks,
                recording,
            )
        watch.book()
        if self.log is not None:
            replayed = None if self._replay is None else len(remembered)
            self._report(self.log, iteration, groups, update, replayed)
        if self._difficulty is not None:
            self._difficulty.observe(solved(groups, state))
        if self._replay is not None:
            self._replay.remember(correct_answers(groups, state))

    def _report(
        self,
        log: RunLog,
        iteration: int,
        groups: list[Group],
        update: UpdateResult | None,
        replayed: int | None,
    ) -> None:
        """Write down what the iteration was."""
        state = self.control.state
        if update is not None and update.skipped is not None:
            log.write(UpdateSkipped(iteration, update.skipped))
        record = IterationRecord(
            iteration=iteration,
            target_iterations=self.config.iterations,
            learning_rate=state.learning_rate,
            control_revision=self.control.revision or None,
            at=utc_now(),
            replayed=replayed,
            **_times(self.watch),
            **_figures(update),
            **describe(groups, state, self.task),
        )
        log.write(record)
        for line in self._advice.new(record, state):
            log.write_foreign(f"{line}\n")
        append_samples(self.run_dir, self._attempt, iteration, groups)

    def _remembered(self, iteration: int) -> list[list[Answer]]:
        """Answers of earlier iterations to learn from again."""
        if self._replay is None:
            return []
        random = Random(derive_seed(self.config.seed, iteration, "replay"))
        threshold = self.control.state.correctness_threshold
        return self._replay.choose(self.config.replay, threshold, random)

    def _draw_groups(self, iteration: int, recording: Recording | None) -> list[Group]:
        """An iteration's groups: prompts, completions and verdicts.

        What is computed of the completions is kept in `recording`.
        """
        config = self.config
        self.watch.enter("sample")
        prompts = self._draw_prompts(Random(derive_seed(config.seed, iteration, "prompts")))
        seed_everything(config.seed, iteration, self.ranks.purpose("sample"))
        completions = sample(
            self.policy,
            self.ranks.share(prompts),
            self.control.state.n_samples,
            config.max_new_tokens,
            config.sampling_temperature,
            self.task.answer_end,
            recording,
        )
        self.watch.enter("verify")
        return self.ranks.gather(judge(completions, self.task, self._profile))

    def _draw_prompts(self, random: Random) -> list[Prompt]:
        count = self.config.prompts_per_iteration
        if self._difficulty is None:
            return self.task.training_prompts(random, count)
        # A task need not have more different prompts than an iteration takes.
        draws = (self.task.training_prompts(random, count) for _ in range(CANDIDATES))
        candidates = [prompt for draw in draws for prompt in draw]
        return self._difficulty.choose(candidates, count, random)

    def _evaluate(self, iteration: int) -> float:
        """Evaluate on the held-out prompts; pass@1."""
        self.watch.iteration = iteration
        self.watch.enter("evaluate")
        found = evaluate(self.policy, self.task, self.config, iteration, self.ranks)
        self._tell(found)
        return found.pass_at_k[1]

    def _is_best(self, pass_at_1: float | None) -> bool:
        """Better than every checkpoint there is: a collapse later can go back to it."""
        if pass_at_1 is None:
            return False
        best = checkpoints.best(self.run_dir)
        return best is None or pass_at_1 > (best.pass_at_1 or 0.0)

    def _kept(self) -> frozenset[int]:
        """Checkpoints that stay for good: the one at which a hybrid hands over."""
        return frozenset() if self._hand_over is None else frozenset({self._hand_over.after})

    def _save(self, iteration: int, pass_at_1: float | None = None) -> None:
        if iteration == self._saved or not self.ranks.is_first:
            return
        self.watch.iteration = iteration
        self.watch.enter("checkpoint")
        known = {"difficulty": self._difficulty, "replay": self._replay}
        try:
            saved = checkpoint.save(
                self.run_dir,
                iteration,
                self.policy,
                self.optimizer,
                pass_at_1,
                self._kept(),
                {name: each.to_json() for name, each in known.items() if each is not None},
                self._identity,
            )
        except OSError as error:
            raise TrainerError(
                f"checkpoint {iteration} cannot be written to {self.run_dir.checkpoints}: "
                f"{error.strerror or error}; those before it are as they were",
                ExitCode.CRASHED,
            ) from error
        self._saved = iteration
        self._tell(CheckpointSaved(iteration, saved.seconds or 0.0))


def _check_share(config: Config, ranks: Ranks) -> None:
    """Refuse processes that would have nothing to do."""
    if config.prompts_per_iteration < ranks.size:
        raise TrainerError(
            f"{config.prompts_per_iteration} prompts an iteration are too few for {ranks.size} "
            f"processes, which each sample whole groups: give --prompts-per-iteration "
            f"{ranks.size} or more"
        )


def _complete(log: RunLog, resumed: Checkpoint) -> None:
    # Killed between saving it and saying so.
    if resumed.seconds is not None and not log.tells_of(resumed):
        log.write(CheckpointSaved(resumed.iteration, resumed.seconds))


def _is_due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _times(watch: Stopwatch) -> dict[str, Any]:
    phases = ("sample", "verify", "update")
    times = {f"{phase}_time": watch.seconds[phase] for phase in phases}
    return {**times, "duration": sum(times.values())}


def _figures(update: UpdateResult | None) -> dict[str, Any]:
    """Loss, gradient norm and the like; nothing at all where no group carried signal."""
    if update is None:
        return {}
    return {
        "loss": update.loss,
        "grad_norm": update.grad_norm,
        "entropy": update.entropy,
        "kl": update.kl,
    }
