"""`python -P -m trainer.tasks.worker SPEC SECONDS`: judges completions with somebody's own task.

A process apart, because code that hangs can only be ended by ending its process. It reads one JSON
line a batch (prompts, completions, seed) and writes one for each verdict as it is reached, then
`{"done": true}`; or `{"fatal": why}` where the task is broken. Its first line says that the task is
loaded.

What the task prints goes to stderr: the answers have a descriptor that it does not know.
"""

import faulthandler
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO, Any

from maxrl_ops.wire.task_spec import TaskSpec
from trainer.errors import TrainerError
from trainer.tasks import user_code
from trainer.tasks.base import Prompt, Task
from trainer.tasks.own import OwnTask, score_verdict, unscored
from trainer.verdict import Verdict
from trainer.verify.errors import VerifierUnavailable

_Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve until stdin ends."""
    spec, seconds = TaskSpec.parse(sys.argv[1]), float(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    requests = os.fdopen(os.dup(0), encoding="ascii")
    os.dup2(2, 1)
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is what is wanted
        os.dup2(nothing.fileno(), 0)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        task = user_code.load(spec)
        _prepare(task, spec)
        say({"ready": True})
        _serve(task, requests, say, seconds)
    except TrainerError as error:
        say({"fatal": str(error)})
    except VerifierUnavailable as error:
        say({"unavailable": str(error)})


def _prepare(task: Task, spec: TaskSpec) -> None:
    try:
        task.prepare()
    except (TrainerError, VerifierUnavailable):
        raise
    except Exception as error:
        raise TrainerError(
            f"--task {spec.text}: prepare raises {user_code.describe(error)}"
        ) from error


def _serve(task: Task, requests: "IO[str]", say: _Say, seconds: float) -> None:
    for line in requests:
        request = json.loads(line)
        prompts = [Prompt(i, family, text, tuple(t)) for i, family, text, t in request["prompts"]]
        _seed(request["seed"])
        # Shortly before the deadline: the log shall tell where the task hung.
        faulthandler.dump_traceback_later(seconds * 0.9)
        judge(task, prompts, request["completions"], say)
        faulthandler.cancel_dump_traceback_later()
        say({"done": True})


def _seed(seed: int) -> None:
    """Seed whatever a task may draw from: a resumed run then gives the same rewards."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def judge(task: Task, prompts: Sequence[Prompt], completions: Sequence[str], say: _Say) -> None:
    """Say a verdict for each completion.

    A task of prompts and a function is asked one by one, so that what is judged before it hangs is
    not lost. Any other judges the batch at once; only if it raises, one by one, so that only those
    that it raises for are unscored.

    Raises:
        TrainerError: What it returns are no verdicts.
    """
    if not isinstance(task, OwnTask):
        try:
            verdicts = task.verify(prompts, completions)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code
            sys.stderr.write(f"verify raises {user_code.describe(error)}; asking one by one\n")
        else:
            for index, verdict in enumerate(_checked(task, verdicts, len(prompts))):
                say({"index": index, "verdict": asdict(verdict)})
            return
    for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        try:
            verdicts = task.verify([prompt], [completion])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code
            verdict = unscored(user_code.describe(error))
        else:
            [verdict] = _checked(task, verdicts, 1)
        say({"index": index, "verdict": asdict(verdict)})


def _checked(task: Task, verdicts: object, count: int) -> list[Verdict]:
    where = f"the task {task.name or type(task).__name__}: verify"
    if not isinstance(verdicts, list | tuple):
        raise TrainerError(f"{where} returns a {type(verdicts).__name__}, not a list of Verdict")
    if len(verdicts) != count:
        raise TrainerError(f"{where} returns {len(verdicts)} verdicts for {count} completions")
    for verdict in verdicts:
        if not isinstance(verdict, Verdict):
            raise TrainerError(f"{where} returns {verdict!r:.80}, which is no Verdict")
    return [_with_plain_score(verdict) for verdict in verdicts]


def _with_plain_score(verdict: Verdict) -> Verdict:
    """A score as a finite float, whatever kind of number it was."""
    if verdict.score is None or verdict.unscored is not None:
        return verdict
    plain = score_verdict(verdict.score)
    if plain.unscored is not None:
        return plain
    return Verdict(**{**asdict(verdict), "score": plain.score})


if __name__ == "__main__":
    main()
