"""Prompts from a file, rewarded by a program: JSON lines in, a number a line out."""

import json
import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from maxrl_ops.wire.task_spec import TaskSpec
from maxrl_ops.wire.user_paths import expanded
from trainer.errors import ExitCode, TrainerError
from trainer.tasks.base import Prompt
from trainer.tasks.child import Child
from trainer.tasks.jsonl import read_prompts
from trainer.tasks.own import ScoredTask, unscored
from trainer.verdict import Verdict

# What it may say beside its numbers, were each as long as can be.
_LONGEST_ANSWER = 16 << 20


class CommandTask(ScoredTask):
    """The prompts of a JSONL file; the reward command is started once a batch.

    The command is started directly, never by a shell, and gets a line
    `{"id", "prompt", "completion", "answer"}` for each completion. It writes as many lines, in the
    same order: a number, or `{"reward": number}`.
    """

    def __init__(self, spec: TaskSpec, command: str, seconds: float) -> None:
        """Read the prompts; `seconds` is the command's deadline for a batch.

        Raises:
            TrainerError: The file is wrong, or there is no such program.
        """
        program, *arguments = shlex.split(command)
        found = shutil.which(program)
        if found is None:
            raise TrainerError(
                f"MAXRL_REWARD_COMMAND: there is no program {program!r} on PATH",
                ExitCode.NOT_FOUND,
            )
        super().__init__(read_prompts(expanded(spec.place)), name=spec.stem)
        self._command = [str(Path(found).absolute()), *arguments]
        self._seconds = seconds

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """One run of the command.

        Lines before the deadline count; of a command that fails, or that writes more lines than it
        got, none does.
        """
        lines = [
            json.dumps(
                {
                    "id": prompt.id,
                    "prompt": prompt.text,
                    "completion": completion,
                    "answer": json.loads(prompt.tests[0]) if prompt.tests else None,
                }
            )
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        data = "".join(line + "\n" for line in lines).encode("ascii")
        with Child(self._command) as child:
            heard = child.talk(data, self._seconds, _LONGEST_ANSWER)
        problem, answers = heard.problem, heard.lines
        if len(answers) > len(prompts):
            problem = problem or f"it wrote more than {len(prompts)} lines"
        # Which line belongs to which sample is then anybody's guess.
        if heard.returncode or len(answers) > len(prompts):
            answers = []
        if problem is not None:
            sys.stderr.write(f"the reward command: {problem}\n")
        missing = unscored(f"the reward command: {problem or 'it wrote too few lines'}")
        verdicts = [_verdict(line) for line in answers]
        return verdicts + [missing] * (len(prompts) - len(verdicts))


def _verdict(line: bytes) -> Verdict:
    text = line.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
        score = value["reward"] if isinstance(value, dict) else value
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if is_number and math.isfinite(score):
            return Verdict(parsed=True, score=float(score))
    except (ValueError, KeyError, OverflowError, RecursionError):
        pass
    return unscored(f"the reward command: {text!r:.100} is no finite number")
