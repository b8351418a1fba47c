"""How a run gets its supervisor: as a unit where the home is served by systemd, else detached."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from maxrl_ops import supervisor, systemd
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.settings import Home
from maxrl_ops.wire.rundir import RunDir


def supervise(home: Home, run: RunDir) -> None:
    """Bring up the run's supervisor.

    Raises:
        CommandError: systemd did not start the run's unit.
        OSError: It could not be started.
    """
    if not systemd.serves(home):
        supervisor.spawn(run)
        return
    try:
        systemd.start_run(run)
    except systemd.UnitError as error:
        raise CommandError(f"{run.name}: {error}", ExitCode.NOT_UP) from None


@contextmanager
def as_owner(home: Home) -> Iterator[None]:
    """Be the home's owner, where we are root and units serve it: they run as that owner.

    What is made belongs to who runs it, and root follows no link that a trainer has laid.
    """
    if os.geteuid() != 0 or not systemd.serves(home):
        yield
        return
    owner, root = home.path.stat(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(root)
