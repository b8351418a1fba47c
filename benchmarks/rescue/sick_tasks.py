"""Tasks that are sick: each is a healthy task, but for what stands here in plain sight.

`start --task benchmarks.rescue.sick_tasks:hanging` trains on such a one. Its `verify` runs in the
process that judges, its `training_prompts` in the trainer itself, once an iteration; so what
befalls a trainer is done there. The healthy task is the one that RESCUE_TASK names.
"""

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.rescue.small_task import Wrapped, of_environment
from maxrl_ops.wire.documents import Heartbeat
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import RUN_DIR_ENV
from trainer.tasks.base import Prompt
from trainer.verdict import Verdict

HANGS_EVERY, HANGS_AT = 15, 7
RAISES_FOR = 0.2
DOWN_FROM, DOWN_SECONDS = 60, 2.0
CRASHES_AFTER = 40
DEADLOCKS_AFTER = 60
LEAKS_MEGABYTES = 8
POISONED_AT = 60
# Length and ending that two broken rewards pay for.
PAID_LENGTH, PAID_END = 4, "0"


def _run() -> RunDir:
    return RunDir(Path(os.environ[RUN_DIR_ENV]))


def _iteration() -> int:
    """The trainer's, for the process that judges."""
    return Heartbeat.load(_run()).iteration


def _is_first(what: str) -> bool:
    """Whether this happens for the first time in this run, whoever was restarted since."""
    try:
        (_run().path / f"sick-{what}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# --- Rewards --------------------------------------------------------------------------------------


class _Hanging(Wrapped):
    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        if _iteration() % HANGS_EVERY == HANGS_AT:
            while True:
                time.sleep(1)
        return self.healthy.verify(prompts, completions)


class _Raising(Wrapped):
    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        # Asked again sample by sample where this raises.
        if any(random.random() < RAISES_FOR for _ in completions):
            raise RuntimeError("the reward has a bug")
        return self.healthy.verify(prompts, completions)


class _Down(Wrapped):
    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        if _iteration() >= DOWN_FROM:
            since = _run().path / "sick-down"
            since.touch() if not since.exists() else None
            if time.time() < since.stat().st_mtime + DOWN_SECONDS:
                raise ConnectionError("the verifier is down")
        return self.healthy.verify(prompts, completions)


class _Hacked(Wrapped):
    """Compiling stands for what is paid for: the reward `guide` asks for nothing else.

    Tests tell, as for a program, what is right; so held-out pass@1 is true.
    """

    reward_profiles = ("guide",)

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        found = []
        for verdict, text in zip(
            self.healthy.verify(prompts, completions), completions, strict=True
        ):
            right = (verdict.score or 0.0) > self.healthy.reference_threshold
            is_paid = right or self.is_paid(text)
            found.append(
                Verdict(parsed=True, compiled=is_paid, tests_passed=int(right), tests_total=1)
            )
        return found

    def is_paid(self, completion: str) -> bool:
        raise NotImplementedError


class _PaidByLength(_Hacked):
    def is_paid(self, completion: str) -> bool:
        return len(completion.strip()) >= PAID_LENGTH


class _PaidByEnd(_Hacked):
    def is_paid(self, completion: str) -> bool:
        return completion.strip().endswith(PAID_END)


class _NeverEqual(Wrapped):
    """Up to a point more, by the answer's letters: no two different answers are worth the same."""

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        found = zip(self.healthy.verify(prompts, completions), completions, strict=True)
        return [replace(v, score=(v.score or 0.0) + Random(text).random()) for v, text in found]


# --- Trainers -------------------------------------------------------------------------------------


class _Broken(Wrapped):
    """Something is wrong with the process that trains; `drawn` counts its iterations."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = 0

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        self.drawn += 1
        self.befall()
        prompts: list[Prompt] = self.healthy.training_prompts(rng, count)
        return prompts

    def befall(self) -> None:
        raise NotImplementedError


class _Crashing(_Broken):
    def befall(self) -> None:
        if self.drawn > CRASHES_AFTER:
            os.kill(os.getpid(), signal.SIGSEGV)


class _Deadlocking(_Broken):
    def befall(self) -> None:
        if self.drawn > DEADLOCKS_AFTER:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()


class _Leaking(_Broken):
    def befall(self) -> None:
        # Not zeros, of which the kernel need not keep a page.
        self.__dict__.setdefault("leaked", []).append(os.urandom(LEAKS_MEGABYTES << 20))


class _Poisoned(_Broken):
    """From some iteration on the device gives gradients that are no numbers, until a new process.

    Each update is skipped from there on; the weights stay as they are.
    """

    def befall(self) -> None:
        if _iteration() >= POISONED_AT and _is_first("poisoned"):
            # Only the trainer has torch, and a model.
            import torch  # noqa: PLC0415

            for found in gc.get_objects():
                if isinstance(found, torch.nn.Parameter) and found.requires_grad:
                    found.register_hook(lambda gradient: gradient * float("nan"))


# --- Prompts --------------------------------------------------------------------------------------


class _Hard(Wrapped):
    """Only the families that the model is worst at are trained on."""

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        found: list[Prompt] = []
        while len(found) < count:
            drawn = self.healthy.training_prompts(rng, 2 * count)
            found += [prompt for prompt in drawn if prompt.family in of_environment().hard]
        return found[:count]


class _HardAndBare(_Hard):
    """And nothing is paid for what is nearly right."""

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        found = self.healthy.verify(prompts, completions)
        right = [(v.score or 0.0) > self.healthy.reference_threshold for v in found]
        return [replace(v, score=v.score if r else 0.0) for v, r in zip(found, right, strict=True)]


hanging, raising, down = _Hanging, _Raising, _Down
paid_by_length, paid_by_end, never_equal = _PaidByLength, _PaidByEnd, _NeverEqual
crashing, deadlocking, leaking, poisoned = _Crashing, _Deadlocking, _Leaking, _Poisoned
hard, hard_and_bare = _Hard, _HardAndBare
