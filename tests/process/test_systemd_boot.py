"""The units under a real systemd, which boots in namespaces; a real training is the run.

Each test leaves daemon and run up for the next one: a boot and a load of PyTorch cost seconds.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import booted
import pytest
from booted import Host
from waiting import wait_until

pytestmark = [
    pytest.mark.needs("unshare", "nsenter", "systemctl", "systemd-sysusers"),
    pytest.mark.slow,
]
DAEMON, RUN = "maxrl-ops.service", "maxrl-ops-run@tiny-1.service"
HOME = "/var/lib/maxrl-ops"
TINY = f"{HOME}/runs/tiny-1"
SECRET = "hf_x0Jq7secret"  # noqa: S105 - it must not be found anywhere
SCRAPE = (
    "import urllib.request as u; "
    "print(u.urlopen('http://127.0.0.1:9478/metrics', timeout=10).read().decode())"
)
# A stuck daemon is noticed within the test's patience.
QUICK = "[Service]\nWatchdogSec=5s\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Host]:
    booted.skip_unless_possible()
    with booted.host() as host:
        host.boot()
        _install(host)
        yield host


def _install(host: Host) -> None:
    """As docs/systemd.md says, and with a secret for the run."""
    host.maxrl_ops("export", "systemd", "--to", "/etc")
    host.run("systemd-sysusers", "/etc/sysusers.d/maxrl-ops.conf")
    host.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/maxrl-ops.conf")
    for unit in (DAEMON, "maxrl-ops-run@.service"):
        _write(host, f"/etc/systemd/system/{unit}.d/quick.conf", QUICK)
    _write(host, "/etc/maxrl-ops/run.env", f"HF_TOKEN={SECRET}\n", mode="600")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", DAEMON)
    # Started, watched and told where its metrics are as anywhere else.
    started = host.maxrl_ops(
        "start", "--task", "arithmetic", "--use-maxrl", "--name", "tiny-1",
        "--iterations", "100000", "--checkpoint-every", "1000000", "--evaluate-every", "0",
    )  # fmt: skip
    assert "Started tiny-1: MaxRL, arithmetic" in started
    assert "http://127.0.0.1:9478/metrics" in started
    assert f"systemctl enable {RUN}" in started


def _write(host: Host, path: str, text: str, mode: str = "644") -> None:
    script = 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"; chmod "$3" "$1"'
    host.run("sh", "-c", script, "sh", path, text, mode)


def main_pid(host: Host, unit: str) -> int:
    """Its main process once it is up."""

    def found() -> int:
        return int(host.show(unit, "MainPID")) if host.show(unit, "SubState") == "running" else 0

    return wait_until(found, 30, f"{unit} up: {host.ask('journalctl', '--no-pager', '-u', unit)}")


def trainer_pid(host: Host) -> int:
    """The trainer's, as state.json has it; 0 while there is none."""
    state = json.loads(host.run("cat", f"{TINY}/state.json"))
    return int(state["trainer"]["pid"]) if state["trainer"] else 0


def iterations(host: Host) -> list[int]:
    return [int(n) for n in re.findall(r"^Iteration (\d+)/", _log(host), re.M)]


def _log(host: Host) -> str:
    return host.run("cat", f"{TINY}/trainer.log")


def goes_on(host: Host) -> None:
    """The run trains: further than it has."""
    before = len(iterations(host))
    wait_until(lambda: len(iterations(host)) > before + 2, 60, "a run that goes on")


def signal(host: Host, pid: int, name: str) -> None:
    host.run("kill", "-s", name, str(pid))


def replaced(host: Host, unit: str, pid: int) -> int:
    """The main process that came in the place of `pid`."""
    wait_until(lambda: main_pid(host, unit) != pid, 30, f"another process of {unit}")
    return main_pid(host, unit)


def test_both_are_ready_and_say_what_they_do(machine: Host) -> None:
    goes_on(machine)
    assert machine.show(DAEMON, "ActiveState") == machine.show(RUN, "ActiveState") == "active"
    wait_until(
        lambda: machine.show(DAEMON, "StatusText") == "Looking after 1 run: 1 running.",
        20, f"the daemon's sentence, not {machine.show(DAEMON, 'StatusText')!r}",
    )  # fmt: skip
    assert machine.show(RUN, "StatusText") == "Attempt 1 running"
    # The run's unit holds trainer and supervisor; the daemon's nothing but the daemon.
    held = {unit: _held(machine, unit) for unit in (DAEMON, RUN)}
    assert held[DAEMON] == {main_pid(machine, DAEMON)}
    assert held[RUN] >= {main_pid(machine, RUN), trainer_pid(machine)}
    assert machine.run("stat", "-c", "%U %G %a", f"{TINY}/run.json") == "maxrl maxrl 640\n"


def _held(host: Host, unit: str) -> set[int]:
    cgroup = host.show(unit, "ControlGroup")
    return {int(pid) for pid in host.run("cat", f"/sys/fs/cgroup{cgroup}/cgroup.procs").split()}


def test_the_daemons_restart_leaves_the_run_alone(machine: Host) -> None:
    daemon, run, trainer = main_pid(machine, DAEMON), main_pid(machine, RUN), trainer_pid(machine)
    machine.run("systemctl", "restart", DAEMON)
    assert replaced(machine, DAEMON, daemon)
    goes_on(machine)
    assert (main_pid(machine, RUN), trainer_pid(machine)) == (run, trainer)


def test_a_reload_reads_the_policy_again(machine: Host) -> None:
    daemon = main_pid(machine, DAEMON)
    machine.run("systemctl", "reload", DAEMON)
    said = ("journalctl", "--no-pager", "-u", DAEMON)
    wait_until(lambda: "daemon: policy " in machine.run(*said), 20, "what is in force now")
    wait_until(lambda: machine.show(DAEMON, "ActiveState") == "active", 20, "a daemon that is up")
    assert main_pid(machine, DAEMON) == daemon


@pytest.mark.parametrize("name", ["KILL", "STOP"])
def test_a_daemon_that_dies_or_stands_still_is_replaced(machine: Host, name: str) -> None:
    daemon, trainer = main_pid(machine, DAEMON), trainer_pid(machine)
    signal(machine, daemon, name)
    replaced(machine, DAEMON, daemon)
    expected = {"KILL": "status=9/KILL", "STOP": "Watchdog timeout"}[name]
    # systemd's words, and the daemon's: a loop that stood still says where it stood.
    said = machine.run("journalctl", "--no-pager", "-u", DAEMON)
    assert expected in said
    assert ("Fatal Python error: Aborted" in said) is (name == "STOP")
    goes_on(machine)
    assert trainer_pid(machine) == trainer


@pytest.mark.parametrize("name", ["KILL", "STOP"])
def test_a_supervisor_that_dies_or_stands_still_is_replaced(machine: Host, name: str) -> None:
    supervisor, trainer = main_pid(machine, RUN), trainer_pid(machine)
    signal(machine, supervisor, name)
    replaced(machine, RUN, supervisor)
    goes_on(machine)
    # It has adopted the trainer, which lost nothing.
    assert trainer_pid(machine) == trainer
    assert machine.show(RUN, "StatusText") == "Attempt 1 running"
    # Nor has the daemon started one that would end with it.
    assert _held(machine, DAEMON) == {main_pid(machine, DAEMON)}


def test_what_root_changes_is_applied_and_signed_by_who_called_sudo(machine: Host) -> None:
    ours = (sys.executable, "-P", "-m", "maxrl_ops")
    told = machine.run("env", "SUDO_UID=1234", *ours, "set", "learning_rate=0.0001")
    assert "control 1 applied" in told

    def signed() -> list[tuple[str, str]]:
        entries = json.loads(machine.maxrl_ops("decisions", "--json"))
        return [(entry["by"], entry["outcome"]) for entry in entries]

    wait_until(lambda: ("uid:1234", "applied") in signed(), 20, "the change in the journal")


def test_a_stop_saves_and_a_start_goes_on(machine: Host) -> None:
    machine.run("systemctl", "stop", RUN)
    assert machine.show(RUN, "Result") == "success"
    done = iterations(machine)
    saved = machine.run("ls", f"{TINY}/checkpoints").split()
    assert int(saved[-1]) == done[-1]
    assert machine.ask("pgrep", "-f", "-m trainer") == ""
    assert "suspended: maxrl-ops resume" in machine.maxrl_ops("status", "tiny-1", "--json")
    machine.run("systemctl", "start", RUN)
    wait_until(lambda: len(iterations(machine)) > len(done), 60, "a run that goes on")
    _each_once(machine)


def _each_once(host: Host) -> None:
    """No iteration was lost, and none done twice."""
    done = iterations(host)
    assert done == list(range(1, len(done) + 1))


def test_an_enabled_run_comes_back_after_a_reboot(machine: Host) -> None:
    machine.run("systemctl", "enable", RUN)
    before = len(iterations(machine))
    machine.power_off()
    machine.boot()
    main_pid(machine, DAEMON)
    main_pid(machine, RUN)
    wait_until(lambda: len(iterations(machine)) > before + 2, 60, "a run that goes on")
    _each_once(machine)
    # From its EnvironmentFile again.
    environ = machine.run("cat", f"/proc/{trainer_pid(machine)}/environ").split("\0")
    assert f"HF_TOKEN={SECRET}" in environ
    assert not [word for word in environ if word.startswith("NOTIFY_SOCKET")]


def test_a_stop_of_ours_is_for_good(machine: Host) -> None:
    machine.maxrl_ops("stop", "tiny-1")
    wait_until(lambda: machine.show(RUN, "ActiveState") == "inactive", 20, "a unit that is over")
    machine.run("systemctl", "start", RUN)
    state: dict[str, Any] = json.loads(machine.run("cat", f"{TINY}/state.json"))
    assert (state["state"], state["attempt"]) == ("stopped", 3)


def test_the_secret_stands_nowhere(machine: Host) -> None:
    told = machine.run("journalctl", "--no-pager") + machine.run(sys.executable, "-c", SCRAPE)
    assert "maxrl_train_iterations_total" in told
    assert SECRET not in told
    assert machine.ask("grep", "-rl", SECRET, HOME, "/var/cache/maxrl-ops", "/run/systemd") == ""
