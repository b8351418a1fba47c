"""Processes by identity: never mistaken for a later one, signalled only when they are meant."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import wait_until

from maxrl_ops import processes
from maxrl_ops.wire.documents import ProcessIdentity


@contextmanager
def sleeper(program: str = "sleep") -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([program, "600"], start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def identity(pid: int) -> ProcessIdentity:
    found = processes.identity_of(pid)
    assert found is not None
    return found


def test_this_process_is_itself() -> None:
    me = identity(os.getpid())
    assert me.pid == os.getpid()
    assert me == processes.identity_of(os.getpid())
    assert processes.is_alive(me)
    assert len(me.boot_id) == 36


def test_a_name_with_parentheses_and_blanks_is_read_over(tmp_path: Path) -> None:
    nasty = tmp_path / ") R 1 (x"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", nasty)
    with sleeper(str(nasty)) as process:
        wait_until(
            lambda: b"R 1" in Path(f"/proc/{process.pid}/comm").read_bytes(), 5, "the new name"
        )
        found = identity(process.pid)
        # Started after this process, by a clock in hundredths that both share.
        mine = identity(os.getpid()).start_time
        assert mine <= found.start_time < mine + 100 * 86_400
        assert processes.is_alive(found)


def test_the_dead_and_the_undead_are_not_alive() -> None:
    with sleeper() as process:
        found = identity(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        # Nobody has waited for it yet: a zombie.
        wait_until(lambda: processes.identity_of(process.pid) is None, 5, "its death")
        assert not processes.is_alive(found)
        assert processes.identity_of(process.pid, even_zombie=True) == found
        assert not processes.send_signal(found, signal.SIGTERM)
    assert processes.identity_of(process.pid, even_zombie=True) is None
    assert not processes.send_signal(found, signal.SIGTERM)
    assert not processes.signal_group(found, signal.SIGTERM)


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
def test_a_reused_pid_is_never_signalled(change: dict[str, object]) -> None:
    with sleeper() as process:
        meant = replace(identity(process.pid), **change)  # type: ignore[arg-type]
        assert not processes.is_alive(meant)
        assert processes.open_pidfd(meant) is None
        assert not processes.send_signal(meant, signal.SIGKILL)
        assert not processes.signal_group(meant, signal.SIGKILL)
        assert process.poll() is None


def test_a_signal_reaches_the_one_that_is_meant() -> None:
    with sleeper() as process:
        assert processes.send_signal(identity(process.pid), signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


def test_a_group_is_signalled_also_after_its_leaders_death() -> None:
    script = (
        "import subprocess; child = subprocess.Popen(['sleep', '600']);"
        "print(child.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None
        grandchild = identity(int(leader.stdout.readline()))
        leading = identity(leader.pid)
        leader.kill()
        leader.wait(5)
    assert processes.is_alive(grandchild)
    assert processes.signal_group(leading, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(grandchild), 5, "the grandchild's death")
