"""start and the runs it makes: settings, names, a real supervisor over a fake trainer."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Place, clean_environment, refused

from maxrl_ops import processes
from maxrl_ops.cli import layers, preflight
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.new_run import check_no_secret, create
from maxrl_ops.core import secret_words
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec
from maxrl_ops.wire.rundir import RunDir


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "home"
    here = Place(home, clean_environment() | {"MAXRL_OPS_HOME": str(home), "COLUMNS": "80"})
    yield here
    here.command("stop", "--all", "--timeout", "20")


def run_json(place: Place, name: str) -> Any:
    return json.loads((place.home / "runs" / name / "run.json").read_text())


# --- Settings -----------------------------------------------------------------------------------


def test_precedence_is_flag_then_environment_then_file_then_the_run_before() -> None:
    before = {"seed": 1, "iterations": 1, "n_samples": 2, "learning_rate": 0.1}
    file = {"seed": 2, "iterations": 2, "n_samples": 3}
    environment = layers.of_environment({"MAXRL_SEED": "3", "MAXRL_ITERATIONS": "3"})
    flags = layers.of_flags({"seed": "4", "iterations": None}, None)

    assert layers.merge(before, file, environment, flags) == {
        "seed": 4, "iterations": 3, "n_samples": 3, "learning_rate": 0.1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "merged"),
    [
        # Who gives one of the two replaces both.
        ({"use_maxrl": True, "objective": "maxrl"}, {"use_maxrl": False}, {"use_maxrl": False}),
        ({"use_maxrl": False}, {"objective": "maxrl"}, {"objective": "maxrl"}),
        ({"objective": "maxrl"}, {"seed": 1}, {"objective": "maxrl", "seed": 1}),
    ],
)
def test_objective_and_algorithm_belong_together(
    low: layers.Layer, high: layers.Layer, merged: layers.Layer
) -> None:
    assert layers.merge(low, high) == merged


@pytest.mark.parametrize("schedule", ["hybrid", "adaptive"])
def test_a_schedule_is_an_algorithm_that_ends_with_maxrl(schedule: str) -> None:
    flags = layers.of_flags({}, schedule)
    assert flags == {"schedule": schedule, "use_maxrl": True}
    # Who asks for one algorithm plainly wants no schedule of a lower layer.
    assert layers.merge(flags, {"use_maxrl": True}) == {"use_maxrl": True}


@pytest.mark.parametrize(
    ("flag", "use_maxrl"), [("grpo", False), ("GRPO", False), ("maxrl", True), ("MaxRL", True)]
)
def test_algorithm_is_another_way_to_say_it(flag: str, use_maxrl: bool) -> None:
    assert layers.of_flags({}, flag) == {"use_maxrl": use_maxrl}
    assert layers.of_flags({"use_maxrl": use_maxrl}, flag) == {"use_maxrl": use_maxrl}


@pytest.mark.parametrize("text", ["meta/llama", "gpt2"])
def test_a_hub_id_is_passed_on(text: str) -> None:
    assert preflight.resolve_checkpoint(text) == text


def test_a_checkpoint_on_this_machine_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert preflight.resolve_checkpoint("model") == str(model)
    assert preflight.resolve_checkpoint("./model") == str(model)


def make_model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (directory / name).write_text("{}")
    return directory


def test_an_adaptive_run_that_nobody_will_switch_says_so(place: Place) -> None:
    asked = ("start", "--algorithm", "adaptive", *place.own_command("1"))
    said = "nothing hands over to MaxRL"
    assert f"adaptive: without a daemon {said}, and fake_trainer-1" in place.command(*asked).stderr
    plain = place.command("start", "--algorithm", "hybrid", *place.own_command("1"))
    assert said not in plain.stderr


# --- The run's directory ------------------------------------------------------------------------


def test_names_are_the_next_free_number(tmp_path: Path) -> None:
    home = Home.find({"MAXRL_OPS_HOME": str(tmp_path)})
    made = [create(home, {}, (), None, None).name for _ in range(3)]
    made.append(create(home, {}, ("python3", "-u", "my train.py"), None, None).name)
    assert made == ["rust-1", "rust-2", "rust-3", "my-train-1"]


def test_two_who_ask_at_once_get_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.find({"MAXRL_OPS_HOME": str(tmp_path)})
    create(home, {}, (), None, None)
    # The other has looked before the first was made.
    monkeypatch.setattr(Home, "runs", lambda self: [])
    assert create(home, {}, (), None, None).name == "rust-2"


def test_a_full_disk_leaves_no_half_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunSpec, run: RunDir) -> None:
        raise OSError(28, "No space left on device", str(run.spec))

    monkeypatch.setattr(RunSpec, "save", full)
    home = Home.find({"MAXRL_OPS_HOME": str(tmp_path)})
    with pytest.raises(OSError, match="No space left"):
        create(home, {}, (), None, None)
    assert home.runs() == []


def test_directories_and_files_are_private_to_the_group(tmp_path: Path) -> None:
    run = create(Home.find({"MAXRL_OPS_HOME": str(tmp_path / "a" / "b")}), {}, (), None, None)
    modes = {p: p.stat().st_mode & 0o777 for p in (run.path, run.path.parent, run.control)}
    assert set(modes.values()) == {0o750}
    assert run.spec.stat().st_mode & 0o777 == 0o640


# --- Under a supervisor -------------------------------------------------------------------------


def test_start_returns_when_the_run_is_up_and_says_what_next(place: Place) -> None:
    own = place.own_command("3", "forever")
    done = place.command("start", "--name", "mine", "--job", "nightly", "--seed", "7", *own)

    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "Started mine: MaxRL, rust, 3 iterations.",
        str(place.home / "runs" / "mine"),
        "maxrl-ops status mine --watch",
        "maxrl-ops logs mine -f",
        "maxrl-ops stop mine",
    ):
        assert said in done.stdout
    spec = run_json(place, "mine")
    assert spec["settings"] == {"seed": 7}
    assert (spec["job_name"], spec["command"]) == ("nightly", list(own[1:]))
    assert {"maxrl_ops", "python", "host", "directory"} <= spec["provenance"].keys()

    told = place.told("mine")
    assert (told["state"], told["iteration"]) == ("running", 3)

    # The only active run needs no name.
    stopped = place.command("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "mine stopped.\n")
    again = place.command("stop", "mine")
    assert (again.returncode, again.stdout) == (
        0, "mine is not running: it has been stopped already.\n"
    )  # fmt: skip


def test_a_stop_of_a_failed_run_acknowledges_it_once(place: Place) -> None:
    failing = (sys.executable, "-c", "raise SystemExit(78)")
    assert place.command("start", "--name", "bad", "--", *failing).returncode == 5
    said = "bad is not running: it has failed already.\n"
    for also in ("bad: acknowledged; its alerts end.\n", ""):
        done = place.command("stop", "bad")
        assert (done.returncode, done.stdout) == (0, said + also)
    assert (place.home / "runs" / "bad" / "acknowledged").read_text().startswith("uid ")


def test_following_without_a_terminal_prints_plain_lines_to_the_end(place: Place) -> None:
    done = place.command("start", "--follow", *place.own_command("3"))

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "attempt 1: MaxRL (maxrl, rust)" in lines
    assert "iteration 2/3  correctness 75.0% (12/16)  loss 4.2  0.1 s" in lines
    assert "MaxRL finished 3 iterations: held-out pass@1 0.38 -> 0.86 (+- 0.02)." in lines
    assert any(re.search(r"3 +84.0% +86.0% \+- 2.0% +97.0% +10.0%", line) for line in lines)
    assert not any(sign in done.stdout for sign in "\x1b\x07")


def test_ctrl_c_detaches_and_the_run_goes_on(place: Place) -> None:
    own = place.own_command("3", "forever")
    with subprocess.Popen(
        [sys.executable, "-m", "maxrl_ops", "start", "--follow", "--name", "mine", *own],
        env=dict(place.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as follower:
        assert follower.stdout is not None
        next(line for line in follower.stdout if line.startswith("evaluation at 3"))
        # To the whole group, as a terminal does.
        os.killpg(follower.pid, signal.SIGINT)
        said, complaint = follower.communicate(timeout=30)

    assert (follower.returncode, complaint) == (0, "")
    assert "Detached; mine goes on" in said
    assert place.told("mine")["state"] == "running"


def test_stop_ends_a_trainer_whose_supervisor_was_killed(place: Place) -> None:
    own = place.own_command("3", "forever")
    assert place.command("start", "--name", "mine", *own).returncode == 0
    state = json.loads((place.home / "runs" / "mine" / "state.json").read_text())
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)

    told = place.told("mine")
    assert (told["state"], told["trainer_alive"]) == ("supervisor_gone", True)
    assert told["sentence"].startswith("The supervisor of this run is gone")

    stopped = place.command("stop", "mine")
    assert (stopped.returncode, stopped.stdout) == (0, "mine stopped.\n")
    told = place.told("mine")
    assert (told["state"], told["trainer_alive"]) == ("stopped", False)
    # The very trainer that was orphaned, not one that a new supervisor started beside it.
    assert not processes.is_alive(ProcessIdentity(**state["trainer"]))


def test_a_run_that_does_not_come_up_says_why_in_one_line(place: Place) -> None:
    done = place.command("start", "--name", "mine", "--", "/nonexistent/program")
    assert done.returncode == 5
    assert done.stderr.startswith("maxrl-ops: mine did not come up: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--api-key", "x"), "'--api-key'"),
        (("env", "WANDB_API_KEY=x", "run"), "'WANDB_API_KEY'"),
        (("--db-password=x",), "'--db-password'"),
        (("curl", "hf_abcdefghijklmnopqrstuvwx"), "an argument of the command"),
    ],
)
def test_a_secret_in_a_command_is_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(["start", "--", "program", *words], capsys, 2)
    assert said.startswith(f"{told} looks like a secret")
    assert "hf_abc" not in said


def test_what_only_sounds_like_a_secret_is_none() -> None:
    check_no_secret(
        ("python", "t.py", "--max-tokens", "512", "--eos-token", "</s>", "--tokenizer=hf_tiny")
    )


def test_what_may_be_a_secret_is_masked_on_a_page() -> None:
    command = (
        *("env", "WANDB_KEY=abc", "python", "my train.py", "--max-tokens", "512", "--token", "abc"),
        *("--auth=abc", "--proxy", "https://me:abc@host/x", "--authors", "x", "sk-" + 20 * "a"),
        *("--password", "--", "-x"),
    )
    assert secret_words.masked(command) == (
        "env WANDB_KEY=*** python 'my train.py' --max-tokens 512 --token *** --auth=*** "
        "--proxy https://***@host/x --authors x *** --password -- -x"
    )


def test_the_last_words_of_a_failed_run_are_shown_safely(place: Place) -> None:
    script = "import sys; print('\\x1b[31m[bold]it broke'); print('Run failed: no'); sys.exit(2)"
    assert place.command("start", "--name", "mine", "--", sys.executable, "-c", script).returncode
    shown = place.command("status", "mine").stdout
    assert "The last lines of attempt 1:\n  [31m[bold]it broke\n  Run failed: no\n" in shown


def test_several_active_runs_must_be_named(place: Place) -> None:
    for name in ("one", "two"):
        own = place.own_command("1", "forever")
        assert place.command("start", "--name", name, *own).returncode == 0

    which = place.command("stop")
    assert (which.returncode, which.stderr) == (
        2, "maxrl-ops: which run? one, two are active; --all stops them all\n"
    )  # fmt: skip
    everything = place.command("stop", "--all")
    assert sorted(everything.stdout.splitlines()) == ["one stopped.", "two stopped."]


def test_a_run_is_continued_from_anothers_settings_and_model(place: Place) -> None:
    own = place.own_command("3")
    first = place.command("start", "--name", "old", "--seed", "7", "--use-grpo", *own)
    assert first.returncode == 0
    model = make_model(place.home / "runs" / "old" / "checkpoints" / "000003" / "model")
    (model.parent / "COMPLETE").write_text("{}")
    make_model(place.home / "runs" / "old" / "checkpoints" / "000009" / "model")

    again = place.command("start", "--name", "new", "--from", "old", "--use-maxrl", *own)

    assert again.returncode == 0
    assert run_json(place, "new")["settings"] == {
        # From the old run's header, which tells what its task's profile had made of it.
        "task": "rust", "iterations": 3, "correctness_threshold": 20.0,
        "seed": 7, "checkpoint": str(model), "use_maxrl": True,
    }  # fmt: skip


def test_a_setting_that_lost_does_not_reach_the_trainer(place: Place) -> None:
    script = "import os; print({k: v for k, v in os.environ.items() if 'MAXRL' in k})"
    own = ("--", sys.executable, "-c", script)
    done = place.command("start", "--objective", "grpo", "--name", "mine", *own, USE_MAXRL="true")

    assert done.returncode == 0
    assert run_json(place, "mine")["settings"] == {"objective": "grpo"}
    log = (place.home / "runs" / "mine" / "trainer.log").read_text()
    assert "'MAXRL_OBJECTIVE': 'grpo'" in log
    assert "'USE_MAXRL'" not in log


def test_reward_weights_are_made_absolute_and_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.toml").write_text("match = 1")
    assert preflight.resolve_weights("w.toml") == str(tmp_path / "w.toml")
    for text, what in (("none.toml", "does not exist"), (".", "is no file")):
        with pytest.raises(CommandError, match=what) as caught:
            preflight.resolve_weights(text)
        assert caught.value.exit_code == ExitCode.NOT_FOUND


def test_an_environment_file_that_everybody_may_read_is_refused_before_there_is_a_run(
    place: Place,
) -> None:
    secrets = place.home.parent / "run.env"
    secrets.write_text("HF_TOKEN=hush")
    secrets.chmod(0o644)
    given = ("start", "--environment-file", str(secrets), *place.own_command("1"))
    done = place.command(*given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"chmod 600 {secrets}" in done.stderr
    assert not list(place.home.glob("runs/*"))
    secrets.unlink()
    done = place.command(*given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    secrets.touch(0o600)
    done = place.command(*given[:1], "--restart-on-boot", *given[1:])
    assert "at boot    goes on by the daemon" in done.stdout, done.stderr
    kept = run_json(place, "fake_trainer-1")
    assert (kept["restart_on_boot"], kept["environment_file"]) == (True, str(secrets))
