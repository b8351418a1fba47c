"""A task of somebody's own code, kept from doing the trainer harm by raising or hanging.

Its prompts come from this process; its verdicts from a worker (trainer.tasks.worker), which has a
deadline for each batch and is killed and started anew when it misses it.
"""

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from maxrl_ops.wire.task_spec import TaskSpec
from trainer.errors import ExitCode, TrainerError
from trainer.tasks.base import Prompt, Task
from trainer.tasks.child import Child
from trainer.tasks.own import unscored
from trainer.tasks.user_code import describe
from trainer.verdict import Verdict
from trainer.verify.errors import VerifierUnavailable

# Importing somebody's libraries from a cold disk takes a while.
_LOAD_SECONDS = 300.0
_LONGEST_ANSWER = 64 << 20

_T = TypeVar("_T")


class GuardedTask:
    """`task`, whose `verify` happens in a process of its own; `close` it in the end."""

    def __init__(self, task: Task, spec: TaskSpec, seconds: float) -> None:
        """Wrap `task`, which `spec` names; `seconds` is the deadline of a batch's verdicts."""
        self.name = task.name or spec.stem
        self.reference_threshold = float(task.reference_threshold)
        self.reward_grid = tuple(float(level) for level in task.reward_grid)
        low, high = task.threshold_bounds
        self.threshold_bounds = (float(low), float(high))
        self.reward_profiles = tuple(task.reward_profiles)
        self.model_dir: Path | None = task.model_dir
        self.profile = task.profile
        self.is_chat = bool(task.is_chat)
        self._task, self._spec, self._seconds = task, spec, seconds
        self._worker: Child | None = None

    def prepare(self) -> None:
        """Start the worker, which prepares its task.

        Raises:
            TrainerError: It cannot be loaded there.
            VerifierUnavailable: The task says so.
        """
        self._running()

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """The task's.

        Raises:
            TrainerError: It raises, or gives something else.
        """
        prompts = self._ask("training_prompts", lambda: self._task.training_prompts(rng, count))
        return self._prompts("training_prompts", prompts, count)

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """The task's; at least one.

        Raises:
            TrainerError: It raises, or gives something else.
        """
        prompts = self._ask("held_out_prompts", lambda: self._task.held_out_prompts(count))
        return self._prompts("held_out_prompts", prompts, None)

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """The task's."""
        return self._task.draw_document(rng)

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:
        """The task's.

        Raises:
            TrainerError: It raises, or gives something else.
        """
        end = self._ask("answer_end", lambda: self._task.answer_end(prompt, completion))
        if end is not None and (not isinstance(end, int) or not 0 <= end <= len(completion)):
            raise TrainerError(
                f"the task {self.name}: answer_end returns {end!r:.80}, neither None nor an index "
                f"in the completion"
            )
        return end

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """The worker's verdicts; unscored is what it had none for at the deadline or its death.

        Raises:
            TrainerError: The task gives no verdicts, or can no longer be loaded.
        """
        request = {
            "prompts": [[p.id, p.family, p.text, p.tests] for p in prompts],
            "completions": list(completions),
            # Seeded for the iteration by now: a resumed run gives the same.
            "seed": random.getrandbits(63),
        }
        heard = self._running().talk(
            json.dumps(request).encode("ascii") + b"\n", self._seconds, _LONGEST_ANSWER, _is_end
        )
        messages = [json.loads(line) for line in heard.lines]
        self._raise_if_broken(messages)
        if heard.problem is not None:
            self.close()
            sys.stderr.write(f"the reward's process is started anew: {heard.problem}\n")
        verdicts = {m["index"]: Verdict(**m["verdict"]) for m in messages if "index" in m}
        missing = unscored(heard.problem or "the task gave no verdict")
        return [verdicts.get(index, missing) for index in range(len(prompts))]

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _running(self) -> Child:
        """The worker, started where there is none."""
        if self._worker is not None:
            return self._worker
        command = [sys.executable, "-P", "-m", "trainer.tasks.worker", self._spec.absolute()]
        worker = Child([*command, repr(self._seconds)])
        heard = worker.talk(b"", _LOAD_SECONDS, _LONGEST_ANSWER, lambda _: True)
        self._worker = worker
        self._raise_if_broken([json.loads(line) for line in heard.lines])
        if heard.problem is not None:
            self.close()
            raise TrainerError(
                f"--task {self._spec.text}: the process that is to judge does not come up: "
                f"{heard.problem}",
                ExitCode.CRASHED,
            )
        return worker

    def _raise_if_broken(self, messages: Sequence[dict[str, Any]]) -> None:
        for message in messages:
            if "fatal" in message:
                self.close()
                raise TrainerError(message["fatal"])
            if "unavailable" in message:
                self.close()
                raise VerifierUnavailable(message["unavailable"])

    def _ask(self, method: str, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except (Exception, SystemExit) as error:
            raise TrainerError(
                f"the task {self.name}: {method} raises {describe(error)}"
            ) from error

    def _prompts(self, method: str, prompts: object, count: int | None) -> list[Prompt]:
        """`prompts`, if they are `count` prompts, or at least one where that is None."""
        where = f"the task {self.name}: {method}"
        if not isinstance(prompts, list | tuple):
            raise TrainerError(f"{where} returns a {type(prompts).__name__}, not a list of Prompt")
        if not prompts or count not in (None, len(prompts)):
            wanted = "at least 1" if count is None else count
            raise TrainerError(f"{where} returns {len(prompts)} prompts, not {wanted}")
        for prompt in prompts:
            if not isinstance(prompt, Prompt):
                raise TrainerError(f"{where} returns {prompt!r:.80}, which is no Prompt")
            try:
                json.dumps(asdict(prompt))
            except (TypeError, ValueError) as error:
                raise TrainerError(f"{where}: the prompt {prompt.id!r:.80}: {error}") from error
        return list(prompts)


def _is_end(line: bytes) -> bool:
    return line.startswith((b'{"done"', b'{"fatal"'))
