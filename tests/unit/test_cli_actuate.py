"""`start --actuate restart`: what it demands, and a change by `set` from wish to confirmation."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Place, clean_environment, refused
from waiting import wait_until

from maxrl_ops.actuating import filled
from maxrl_ops.wire.control import TrainingState

STATE = TrainingState("maxrl", 20.0, 1.0, 4, 3e-5)
GIVEN = [
    "--use-maxrl", "--correctness-threshold", "20", "--weight-temperature", "1",
    "--n-samples", "4", "--learning-rate", "3e-5",
]  # fmt: skip
TRAINER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
for n in range(1, 100000):
    correct = int(sys.argv[sys.argv.index("--n") + 1])
    os.write(1, b"Iteration %d\\n  Correctness: %d/16 (50.0%%)\\n  [Fair]\\n" % (n, correct))
    time.sleep(0.02)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "home"
    env = clean_environment() | {"MAXRL_OPS_HOME": str(home), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
    del env["MAXRL_OPS_NO_DAEMON"]
    here = Place(home, env)
    yield here
    if home.exists():
        assert here.command("stop", "--all", "--timeout", "20").returncode == 0
        here.command("daemon", "--stop")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--actuate", "restart", *GIVEN], "is for a command of your own, after --"),
        (["--actuate", "signal", *GIVEN, "--", "true"], "--actuate='signal' is not allowed: give"),
        (
            ["--actuate", "restart", "--use-maxrl", "--n-samples", "4", "--", "true"],
            "give --correctness-threshold, --weight-temperature, --learning-rate as well",
        ),
        (["--actuate", "restart", *GIVEN[1:], "--", "true"], "give --objective as well"),
        (
            ["--actuate", "restart", *GIVEN[1:], "--algorithm", "adaptive", "--", "true"],
            "cannot follow the schedule adaptive",
        ),
        (
            ["--actuate", "restart", *GIVEN, "--", "train", "{n_sample}"],
            "no placeholder {n_sample} (did you mean n_samples?)",
        ),
    ],
)
def test_what_is_refused(
    home: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(["start", *arguments], capsys, 2)
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "checkpoint", "result"),
    [
        ("t --resume {checkpoint} -n {n_samples}", "/c/7", "t --resume /c/7 -n 4"),
        ("t --resume {checkpoint} -n {n_samples}", "", "t -n 4"),
        ("t --resume={checkpoint} x", "", "t x"),
        ("t --a=b {checkpoint} x", "", "t --a=b x"),
        ("t --to={checkpoint}/x", "", "t --to=/x"),
        ('t {{n_samples}} {"a":1} ${{HOME}}', "", 't {n_samples} {"a":1} ${HOME}'),
        ("t {threshold},{learning_rate},{objective}", "", "t 20.0,3e-05,maxrl"),
    ],
)
def test_placeholders(words: str, checkpoint: str, result: str) -> None:
    assert filled(tuple(words.split()), STATE, checkpoint) == tuple(result.split())


def test_what_a_placeholder_gives_is_not_filled_in_again() -> None:
    assert filled(("t", "{checkpoint}"), STATE, "/{n_samples}") == ("t", "/{n_samples}")


def test_set_is_answered_and_confirmed(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINER)
    done = place.command(
        "start", "--name", "one", "--actuate", "restart", *GIVEN,
        "--", sys.executable, str(script), "--n", "{n_samples}", "--resume", "{checkpoint}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    changed = place.command("set", "n_samples=8", "--run", "one", "--wait", "30")
    assert changed.stdout == "one: control 1 applied at 1: n_samples 8 (was 4)\n", changed.stderr
    paused = place.command("pause", "one", "--wait", "30")
    assert (paused.returncode, paused.stdout) == (1, "")
    assert "one rejected control 2: pause: this trainer cannot be told" in paused.stderr

    def confirmed() -> bool:
        told = place.command("decisions", "one", "--json").stdout
        return '"applied"' in told and '"rejected"' in told

    wait_until(confirmed, 20, "the daemon to know both answers")
    log = (place.home / "runs" / "one" / "trainer.log").read_text()
    assert (log.count("Control 1 applied"), log.count("Control 2 rejected")) == (1, 1)
    assert log.count("RL Method") == 2
    assert "Correctness: 8/16" in log
    state = json.loads((place.home / "runs" / "one" / "state.json").read_text())
    assert (state["attempt"], state["restarts"]) == (2, 0)
