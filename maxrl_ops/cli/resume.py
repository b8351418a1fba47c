"""`resume`: a run that lost its supervisor gets another, and goes on from its newest checkpoint."""

import sys

from maxrl_ops import daemon_process
from maxrl_ops.cli import supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, named, refuse_attached
from maxrl_ops.run_reader import life_of


def resume(name: str) -> int:
    """Go on with the run of that name."""
    run = named(name)
    refuse_attached(run)
    life = life_of(run)
    if life.has_ended:
        raise CommandError(
            f"{run.name} is over: maxrl-ops start --from {run.name} continues it in another run"
        )
    if life.supervisor_alive:
        raise CommandError(f"{run.name} has its supervisor: it goes on already", ExitCode.IN_USE)
    life = supervising.revive(home(), run)
    daemon_process.ensure(home())
    if life.has_ended:
        sys.stdout.write(f"{run.name} had nothing left to do.\n")
        return ExitCode.OK
    sys.stdout.write(f"{run.name} goes on: maxrl-ops status {run.name} --watch\n")
    return ExitCode.OK
