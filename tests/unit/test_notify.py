"""sd_notify: what a service manager hears, on a real socket."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from maxrl_ops import notify
from maxrl_ops.core.sentence import looking_after
from maxrl_ops.notify import Notifier, is_service


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = f"@maxrl-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        listening.setblocking(False)
        yield name, listening


def heard(listening: socket.socket) -> list[str]:
    words = []
    while True:
        try:
            words.append(listening.recv(4096).decode())
        except BlockingIOError:
            return words


def test_what_a_manager_hears(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listening = manager
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "KEPT": "1"}
    told = Notifier.take(env, 7)
    # What a service starts is not the service.
    assert env == {"KEPT": "1"}
    told.ready()
    told.status("Looking\nafter\x1b[31m 2 runs.")
    told.status("Looking\nafter\x1b[31m 2 runs.")
    told.stopping()
    assert heard(listening) == ["READY=1", "STATUS=Looking after [31m 2 runs.", "STOPPING=1"]
    told.reloading()
    (words,) = heard(listening)
    first, second = words.splitlines()
    assert (first, second.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
    assert abs(int(second.partition("=")[2]) / 1e6 - notify.time.monotonic()) < 10
    # Three pings an interval, however often the loop turns.
    now = notify.time.monotonic()
    for later in (0.0, 0.5, 0.99, 1.0, 1.5, 2.01):
        monkeypatch.setattr(notify.time, "monotonic", lambda later=later: now + later)
        told.alive()
    assert heard(listening) == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
    ],
)
def test_no_pings_where_none_are_awaited(
    manager: tuple[str, socket.socket], env: dict[str, str]
) -> None:
    address, listening = manager
    Notifier.take({"NOTIFY_SOCKET": address, **env}, 7).alive()
    assert heard(listening) == []


@pytest.mark.parametrize("address", [None, "", "@", "/", "vsock:2:1", "/nobody/listens/here"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    told = Notifier(address, 1.0)
    told.ready()
    told.status("x")
    told.alive()
    told.stopping()


def test_a_manager_that_takes_nothing_holds_nobody_up(tmp_path: Path) -> None:
    address = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
            filling.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    filling.sendto(b"x", address)
        began = notify.time.monotonic()
        Notifier(address).ready()
        assert notify.time.monotonic() - began < 10


def test_a_service_is_what_systemd_started_itself() -> None:
    assert is_service({"SYSTEMD_EXEC_PID": str(os.getpid())})
    assert not is_service({"SYSTEMD_EXEC_PID": str(os.getppid())})
    assert not is_service({})


@pytest.mark.parametrize(
    ("states", "problem", "sentence"),
    [
        ({}, None, "Looking after no run."),
        ({"running": 1}, None, "Looking after 1 run: 1 running."),
        (
            {"running": 2, "backing_off": 1},
            "still reading",
            "Looking after 3 runs: 1 backing off, 2 running; still reading.",
        ),
    ],
)
def test_what_a_daemon_says_of_itself(
    states: dict[str, int], problem: str | None, sentence: str
) -> None:
    assert looking_after(states, problem) == sentence
