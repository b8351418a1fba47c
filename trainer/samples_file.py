"""samples.jsonl: what was sampled, with verdicts and rewards; bounded, newest kept."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from maxrl_ops.wire.rundir import FILE_MODE, RunDir
from trainer.batch import Group

# Two files of this size at most: the current one, and the one before it.
_LONGEST_FILE = 16 * 1024 * 1024


def append_samples(run: RunDir, attempt: int, iteration: int, groups: Sequence[Group]) -> None:
    """Append one JSON object a sample; a full file makes place for a new one.

    A resumed run makes the iterations after its checkpoint again: of the same iteration, the
    highest attempt counts.
    """
    lines = [
        {
            "attempt": attempt,
            "iteration": iteration,
            "prompt": sample.completion.prompt.id,
            "text": sample.completion.text,
            "verdict": asdict(sample.verdict),
            "reward": sample.reward.total if sample.reward else None,
            "components": dict(sample.reward.components) if sample.reward else None,
        }
        for group in groups
        for sample in group
    ]
    if run.samples.exists() and run.samples.stat().st_size > _LONGEST_FILE:
        run.samples.replace(run.samples.with_suffix(".old.jsonl"))
    descriptor = os.open(run.samples, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
