"""`export model`: a run's best checkpoint as a Hugging Face directory."""

import os
import shutil
import sys
from pathlib import Path

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import named
from maxrl_ops.wire import checkpoints


def export_model(name: str, to: str) -> int:
    """Copy the model of the run's best checkpoint to the directory `to`, whole or not at all."""
    target = Path(to).expanduser().absolute()
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
    why = "not evaluated" if found.pass_at_1 is None else f"held-out pass@1 {found.pass_at_1:.2f}"
    sys.stdout.write(f"{target}: the model of {name} at iteration {found.iteration}, {why}\n")
    return ExitCode.OK
