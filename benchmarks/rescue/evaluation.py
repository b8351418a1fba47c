"""What a run's model is worth, by the healthy task, whatever the run itself was paid for."""

import os
import threading
from pathlib import Path

import torch

from benchmarks.rescue.small_task import SmallTask
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.checkpoints import Checkpoint
from maxrl_ops.wire.record import Evaluated
from maxrl_ops.wire.rundir import RunDir
from trainer.config import load_config
from trainer.evaluate import evaluate
from trainer.policy import load_policy

# All there are: the task rules has some 250.
_PROMPTS = "1000"
# Of two that load a model at once, transformers may take one's weights for missing.
_LOCK = threading.Lock()


def newest_model(run: RunDir) -> Checkpoint | None:
    """The newest checkpoint whose weights can be read."""
    for found in reversed(checkpoints.complete(run)):
        try:
            with _LOCK:
                load_policy(str(found.model), torch.device("cpu"))
        except Exception:  # noqa: BLE001, S112 - of a damaged file, whatever a library raises
            continue
        return found
    return None


def held_out(small: SmallTask, model: Path | None) -> Evaluated:
    """Evaluate on every held-out prompt, 8 samples each; without a model, the one to begin with."""
    task = small.make()
    env = {"MAXRL_TASK": small.spec, "MAXRL_EVALUATION_PROMPTS": _PROMPTS}
    with _LOCK:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        config, guarded = load_config(env)
        del guarded
        policy = load_policy(str(model or task.model_dir), torch.device("cpu"))
        return evaluate(policy, task, config, 0)
