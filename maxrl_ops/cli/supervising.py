"""How a run gets its supervisor: as a unit where the home is served by systemd, else detached."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from maxrl_ops import processes, supervisor, systemd
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.run_reader import Life, life_of
from maxrl_ops.settings import Home
from maxrl_ops.wire.rundir import RunDir

_POLL_SECONDS = 0.1
# How long a supervisor may take from its spawning to its first state.json, on a host that is busy.
BIRTH_SECONDS = 60.0


def supervise(home: Home, run: RunDir, *, at_boot: bool = False) -> int | None:
    """Bring up the run's supervisor; its pid, where it is no unit.

    `at_boot`: where it is a unit, at each boot too.

    Raises:
        CommandError: systemd did not start the run's unit.
        OSError: It could not be started.
    """
    if not systemd.serves(home):
        return supervisor.spawn(run)
    try:
        systemd.start_run(run)
        if at_boot:
            systemd.enable_run(run)
    except systemd.UnitError as error:
        raise CommandError(f"{run.name}: {error}", ExitCode.NOT_UP) from None
    return None


def revive(home: Home, run: RunDir) -> Life:
    """Give a run whose supervisor has ended another one; how it lives once that is up.

    Raises:
        CommandError: None came up.
    """
    pid = supervise(home, run)
    deadline = time.monotonic() + BIRTH_SECONDS
    while time.monotonic() < deadline:
        # Before the look: one that ended after it has written what the look finds.
        is_gone = pid is not None and processes.identity_of(pid) is None
        life = life_of(run)
        if life.supervisor_alive or life.has_ended:
            return life
        if is_gone:
            break
        time.sleep(_POLL_SECONDS)
    raise CommandError(
        f"{run.name}: no supervisor came up; see {run.supervisor_log}", ExitCode.NOT_UP
    )


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
