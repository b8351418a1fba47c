"""`export model`: a run's best checkpoint as a Hugging Face directory."""

import os
import shutil
import sys

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import named
from maxrl_ops.run_reader import LogReader
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.checkpoints import Checkpoint
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.user_paths import expanded


def export_model(name: str, to: str) -> int:
    """Copy the model of the run's best checkpoint to the directory `to`, whole or not at all."""
    target = expanded(to).absolute()
    run = named(name)
    found = checkpoints.best(run) or checkpoints.newest(run)
    if found is None or not found.model.is_dir():
        raise CommandError(f"{name} has no complete checkpoint yet", ExitCode.NOT_FOUND)
    if target.exists():
        raise CommandError(f"--to={to!r}: {target} exists already", ExitCode.IN_USE)
    if not target.parent.is_dir():
        raise CommandError(f"--to={to!r}: there is no directory {target.parent}")
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        # A checkpoint that is pruned under the copy ends it with an error, not with half a model.
        shutil.copytree(found.model, aside)
        aside.rename(target)
    except shutil.Error as error:
        raise CommandError(f"{name}: {error.args[0][0][2]}", ExitCode.BAD) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sys.stdout.write(
        f"{target}: the model of {name} at iteration {found.iteration}, {_worth(run, found)}\n"
    )
    return ExitCode.OK


def _worth(run: RunDir, found: Checkpoint) -> str:
    """How good it is, and whether the model that the run began with was better."""
    if found.pass_at_1 is None:
        return "not evaluated"
    told = f"held-out pass@1 {found.pass_at_1:.2f}"
    reader = LogReader(run)
    reader.read()
    # The model at iteration 0 is no checkpoint of the run, so that it is never the best one.
    firsts = [each.pass_at_k.get(1) for each in reader.history.evaluations if not each.iteration]
    if firsts and firsts[0] is not None and round(firsts[0], 2) > round(found.pass_at_1, 2):
        told += f", which is worse than the {firsts[0]:.2f} that it began with"
    return told
