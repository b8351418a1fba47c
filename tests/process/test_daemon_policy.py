"""A daemon's policy.toml: read at its start and at SIGHUP; a wrong one changes nothing."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedTrainer, make_run
from waiting import wait_until

from maxrl_ops import daemon_file
from maxrl_ops.core.decision import Frozen, PolicyChanged
from maxrl_ops.daemon_file import DaemonFile
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec

_WRONG = "[low]\nbelo = 0.4\n"
_SAID = "policy.toml:2:1: there is no 'belo' in [low] (did you mean below?)"
_AS_A_SERVICE = (
    "import os, sys; os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid()); "
    "from maxrl_ops.daemon import main; sys.exit(main([]))"
)


class Host:
    """A home, and its daemon."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.trainer = ScriptedTrainer(make_run(path), iterations=600)
        self.trainer.begin()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
        self.env = {**kept, "MAXRL_OPS_HOME": str(path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> DaemonFile:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "maxrl_ops.daemon"], env=self.env, stdin=subprocess.DEVNULL
        )
        return wait_until(lambda: daemon_file.running(self.home), 20, "the daemon")

    def reload(self, text: str) -> None:
        assert self.process is not None
        self.home.policy.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def told(self) -> dict[str, Any]:
        words = [sys.executable, "-m", "maxrl_ops", "status", "--json"]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout)["daemon"])

    def metric(self, name: str) -> str | None:
        running = daemon_file.running(self.home)
        assert running is not None
        with urllib.request.urlopen(running.metrics, timeout=10) as answer:  # noqa: S310 - ours
            lines = answer.read().decode().splitlines()
        return next((line.split()[1] for line in lines if line.startswith(f"{name} ")), None)

    def events(self, kind: type) -> list[Any]:
        with closing(Store(self.home.history)) as store:
            spec = RunSpec.load(self.trainer.run)
            run = store.run(spec.name, spec.created, spec.job_name)
            return [event for event in store.events(run) if isinstance(event, kind)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    if host.process is not None:
        host.process.kill()
        host.process.wait()


@pytest.mark.parametrize(
    ("words", "code"),
    [(["-m", "maxrl_ops.daemon"], 2), (["-c", _AS_A_SERVICE], 78)],
    ids=["by hand", "by systemd"],
)
def test_a_wrong_policy_at_the_start_is_one_line(host: Host, words: list[str], code: int) -> None:
    host.home.policy.write_text(_WRONG)
    done = subprocess.run(
        [sys.executable, "-P", *words],
        env=host.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert _SAID in done.stderr
    assert not host.home.daemon_file.exists()


def test_sighup_reads_it_again_and_a_wrong_one_changes_nothing(host: Host) -> None:
    host.home.policy.write_text("low.below = 0.3\n")
    host.start()
    host.trainer.step(40)
    wait_until(lambda: len(host.events(PolicyChanged)) == 1, 20, "the policy")
    assert host.told()["policy_problem"] is None
    host.reload(_WRONG)
    problem = wait_until(lambda: host.told()["policy_problem"], 20, "the complaint")
    assert _SAID in problem
    assert host.metric("maxrl_ops_config_last_reload_successful") == "0.0"
    host.reload("low.below = 0.5\n")
    wait_until(lambda: host.told()["policy_problem"] is None, 20, "the end of the complaint")
    wait_until(lambda: len(host.events(PolicyChanged)) == 2, 20, "the other policy")
    assert [event.policy["low"]["below"] for event in host.events(PolicyChanged)] == [0.3, 0.5]
    assert host.metric("maxrl_ops_config_last_reload_successful") == "1.0"


def test_a_freeze_is_heard_at_once(host: Host) -> None:
    host.start()
    assert host.told()["frozen"] is False
    subprocess.run([sys.executable, "-m", "maxrl_ops", "freeze"], env=host.env, check=True)
    wait_until(lambda: host.metric("maxrl_ops_autopilot_frozen") == "1.0", 10, "the metric")
    wait_until(lambda: [event.is_frozen for event in host.events(Frozen)] == [True], 10, "it")
    assert host.told()["frozen"] is True
