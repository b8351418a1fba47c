"""`maxrl-ops doctor`: what it finds here, what it says of a host that lacks something."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from maxrl_ops.cli import doctor as command
from maxrl_ops.cli.app import run
from trainer.verify import doctor
from trainer.verify.sandbox import Finished, Limits, Sandbox
from trainer.verify.sandboxes import WALLED


def doctor_json(home: Path, **env: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "maxrl_ops", "doctor", "--json"],
        env={**os.environ, "MAXRL_OPS_HOME": str(home), **env},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    assert done.stderr == ""
    return done.returncode, {check["name"]: check for check in told["checks"]}


@pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit")
def test_a_host_that_has_everything(tmp_path: Path) -> None:
    code, checks = doctor_json(tmp_path / "home")
    assert code == 0
    assert str(checks["sandbox"]["found"]).startswith("bubblewrap")
    assert str(checks["rust"]["found"]).startswith("rustc 1.")
    assert "cpu (" in str(checks["torch"]["found"])
    attacks = [check for name, check in checks.items() if name.startswith("attack: ")]
    assert len(attacks) >= 10
    assert {check["found"] for check in attacks} == {"held"}
    assert not (tmp_path / "home").exists()


@pytest.mark.needs("setpriv", "prlimit")
def test_each_thing_that_is_missing_has_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    code, checks = doctor_json(tmp_path / "file" / "home", PATH=str(tools), HOME=str(tmp_path))
    assert code == 1
    assert not checks["rust"]["ok"]
    assert "https://rustup.rs" in str(checks["rust"]["remedy"])
    assert not checks["home"]["ok"]
    assert "MAXRL_OPS_HOME" in str(checks["home"]["remedy"])
    # Without bubblewrap it is Landlock, held to the same attacks.
    assert str(checks["sandbox"]["found"]).startswith("landlock")
    assert "apt install bubblewrap" in str(checks["sandbox"]["remedy"])
    assert checks["attack: read a secret file"]["found"] == "held"


@pytest.mark.needs("bwrap", "setpriv", "prlimit")
@pytest.mark.parametrize("kind", WALLED)
def test_each_sandbox_holds(kind: str) -> None:
    checks = doctor.check_sandbox(kind)
    assert len(checks) > 10
    assert [check for check in checks if not check.ok] == []


class Careless(Sandbox):
    """Runs programs with nothing around them, and lets them run on."""

    kind = "careless"

    def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        read_only: Mapping[Path, str] | None = None,
        writable: tuple[Path, str] | None = None,
        stdin: bytes = b"",
        chdir: str = "/",
    ) -> Finished:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return Finished(done.returncode, done.stdout + done.stderr, False, False)


@pytest.mark.parametrize(
    "name",
    ["read a secret file", "read a secret in the environment", "reach the network"],
)
def test_an_attack_that_gets_through_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that hurt nothing: the others are the same words in the same shell."""
    chosen = [attack for attack in doctor._ATTACKS if attack.name == name]
    monkeypatch.setattr(doctor, "_ATTACKS", chosen)
    monkeypatch.setattr(doctor, "find_sandbox", lambda kind=None: Careless())
    _, check = doctor.check_sandbox()
    assert (check.ok, check.found) == (False, "it got through")
    assert "do not train" in check.remedy


def test_what_runs_past_its_deadline_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = doctor._Attack("wait", "sleep 2", lambda *_: True, doctor._BRIEF)
    monkeypatch.setattr(doctor, "_ATTACKS", (slow,))
    monkeypatch.setattr(doctor, "find_sandbox", lambda kind=None: Careless())
    start = time.monotonic()
    _, check = doctor.check_sandbox()
    assert (check.ok, check.found) == (False, "it ran past its deadline")
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_shown_is_plain_text(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        command.Check("one", True, "fine"),
        command.Check("two", False, "[red]bad[/red]\x1b]0;title\x07\nnext", "mend it"),
    ]
    monkeypatch.setattr(command, "_checks", lambda: iter(checks))
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    assert run(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "\x1b]" not in printed
    assert "\x07" not in printed
    assert "[red]bad[/red] ]0;title next" in printed
    assert "mend it" in printed
    assert len([line for line in printed.splitlines() if "two" in line]) == 1
    if not is_terminal:
        assert "\x1b" not in printed
        assert printed.splitlines()[0] == "pass  one: fine"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no\\nsuch module')", "such module"),
        ("import sys; sys.exit(3)", "exits with 3"),
        ("print('no json')", "not what it should be"),
        ("print('{}')", "not what it should be"),
    ],
)
def test_a_check_that_does_not_run_is_told(script: str, said: str) -> None:
    answer = command._ask("-c", script)
    assert isinstance(answer, str)
    assert said in answer
