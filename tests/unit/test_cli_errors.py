"""Whatever a person gets wrong ends in one line that says what to do, and in its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Place, clean_environment, refused

from maxrl_ops.cli.app import run

CONTRADICTION = "contradict each other"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["statos"], 2, "no such command 'statos'. Did you mean 'status'"),
        (["status", "--jsn"], 2, "no such option: --jsn"),
        (["status", "--watch", "--json"], 2, "--watch and --json: give one of them"),
        (["status", "nobody"], 3, "there is no run 'nobody'"),
        (["status", "../../etc"], 3, "there is no run '../../etc'"),
        (["status", "a\x1b[31m\nb"], 3, "there is no run"),
        (["logs"], 3, "there is no run yet"),
        (["logs", "-n", "-1"], 2, "--lines"),
        (["stop", "nobody"], 3, "there is no run 'nobody'"),
        (["stop", "nobody", "--all"], 2, "not both"),
        (["stop", "--timeout", "soon"], 2, "--timeout"),
        (["demo", "--weight-temperature", "0"], 2, "--weight-temperature='0' is not allowed"),
        (["demo", "--correctness-threshold", "nan"], 2, "--correctness-threshold='nan'"),
        (["start", "--n-samples", "1"], 2, "--n-samples='1' is not allowed: give a whole number"),
        (["start", "--learning-rate", "fast"], 2, "--learning-rate='fast' is not allowed"),
        (["start", "--task", "rsut"], 2, "--task='rsut' is not allowed: give rust or arithmetic"),
        (["start", "--objective", "ppo"], 2, "--objective='ppo' is not allowed"),
        (["start", "--algorithm", "ppo"], 2, "--algorithm='ppo' is not allowed"),
        (["start", "--device", "gpu"], 2, "--device='gpu' is not allowed"),
        (["start", "--iterations"], 2, "--iterations"),
        (["start", "--name", "../up"], 2, "--name='../up' is not allowed"),
        (["start", "--name", ""], 2, "--name='' is not allowed"),
        (["start", "--job", "a\nb"], 2, "--job='a\\nb' is not allowed"),
        (["start", "--use-grpo", "--objective", "maxrl"], 2, CONTRADICTION),
        (["start", "--use-grpo", "--algorithm", "maxrl"], 2, CONTRADICTION),
        (["start", "python", "train.py"], 2, "unexpected extra argument"),
        (["start", "--"], 2, "nothing stands after --"),
        (["start", "--config", "nowhere.toml"], 3, "there is no file nowhere.toml"),
        (["start", "--config", "."], 2, "Is a directory"),
        (["start", "--config", "~no-such-user/a"], 3, "there is no file ~no-such-user/a"),
        (["backtest", "~no-such-user/a.log"], 3, "there is no file and no run"),
        (["start", "--from", "nobody"], 3, "there is no run 'nobody'"),
        (["start", "--task", "arithmetic", "--checkpoint", "./gone"], 3, "./gone does not exist"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], code: int, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(arguments, capsys, code)
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iterations = \n", "settings.toml:1:14: "),
        ("iterations = 5\nseed = = 3\n", "settings.toml:2:8: "),
        ("name = 'never ends", "settings.toml:1:"),
        ("iteratons = 5\n", "there is no setting 'iteratons' (did you mean iterations?)"),
        ("n_samples = 'many'\n", "n_samples"),
        ("seed = [1]\n", "seed must be a whole number"),
        ("use_maxrl = false\nobjective = 'maxrl'\n", CONTRADICTION),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.toml").write_text(text)
    assert said in refused(["start", "--config", "settings.toml"], capsys, 2)


def test_a_file_that_is_not_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.toml").write_bytes(b"seed = 1 # \xff")
    assert "not UTF-8 text" in refused(["start", "--config", "settings.toml"], capsys, 2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MAXRL_N_SAMPLES", "x", "MAXRL_N_SAMPLES='x' is not allowed"),
        ("MAXRL_N_SAMPELS", "8", "(did you mean MAXRL_N_SAMPLES?)"),
        ("USE_MAXRL", "maybe", "USE_MAXRL='maybe' is not allowed: give true or false"),
    ],
)
def test_a_wrong_environment_is_refused(
    name: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert said in refused(["start"], capsys, 2)


def test_a_missing_compiler_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    said = refused(["start"], capsys, 2)

    assert "needs rustc" in said
    assert "apt install" in said
    assert "--task arithmetic" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "has no config.json"),
        (("config.json",), "has no tokenizer"),
    ],
)
def test_a_directory_without_a_model_is_refused(
    files: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in files:
        (model / name).write_text("{}")
    arguments = ["start", "--task", "arithmetic", "--checkpoint", "./model"]
    assert said in refused(arguments, capsys, 3)


def test_a_name_in_use_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "runs" / "mine").mkdir(parents=True)
    arguments = ["start", "--task", "arithmetic", "--name", "mine"]
    assert "'mine' is in use" in refused(arguments, capsys, 4)


def test_a_run_without_a_checkpoint_cannot_be_continued_from(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = {
        "name": "old", "job_name": "rust", "settings": {}, "command": [], "created": "", "exits": []
    }  # fmt: skip
    # Without its marker a checkpoint is not one.
    (home / "runs" / "old" / "checkpoints" / "000050" / "model").mkdir(parents=True)
    (home / "runs" / "old" / "run.json").write_text(json.dumps(run_json))
    assert "no complete checkpoint" in refused(["start", "--from", "old"], capsys, 3)


def test_a_near_miss_is_told_the_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "runs" / "rust-1").mkdir(parents=True)
    assert "(did you mean rust-1?)" in refused(["stop", "rsut-1"], capsys, 3)


def test_a_home_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "file" / "home"))
    said = refused(["start", "--task", "arithmetic"], capsys, 2)
    assert "Not a directory" in said


@pytest.mark.parametrize("command", ["start", "stop", "status", "logs", "demo"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_an_example(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, flag]) == 0
    assert f"Example: maxrl-ops {command}" in capsys.readouterr().out


def test_help_names_every_setting_with_its_allowed_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["start", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--evaluate-every VALUE" in text
    assert "[rust or arithmetic, module:function, file.py:function or file.jsonl]" in text


def test_in_a_process_of_its_own_a_refusal_is_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", clean_environment() | {"MAXRL_OPS_HOME": str(tmp_path)})
    done = place.command("start", "--n-samples", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("maxrl-ops: --n-samples='x' is not allowed")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["status", "--json"], ["demo"], ["policy"]])
def test_nobody_listens(home: Path, words: list[str]) -> None:
    """Neither stream is there: what is opened next must not become one."""
    command = 'exec "$0" -m maxrl_ops "$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, *words], check=False, timeout=60)
    assert done.returncode == 0
    complaint = subprocess.run(
        ["sh", "-c", f"{command} 2>said", sys.executable, *words], check=False, timeout=60
    )
    assert (complaint.returncode, Path("said").read_text()) == (0, "")


@pytest.mark.parametrize("words", [["report"], ["start", "--task", "arithmetic"]])
def test_a_directory_that_is_gone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (home / "runs" / "one").mkdir(parents=True)
    os.chdir(gone)
    gone.rmdir()
    assert "the current directory is gone: cd to another" in refused(words, capsys, 2)


def test_a_home_that_cannot_be_written_is_not_said_to_be_frozen(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file")
    assert "Not a directory" in refused(["freeze"], capsys, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["prometheus", "--alertmanager", "x"],
            "--alertmanager='x' is not allowed: give HOST:PORT",
        ),
        (["prometheus", "--webhook", "x"], "--webhook='x' is not allowed: give a URL"),
        (["grafana", "--prometheus", "x"], "--prometheus='x' is not allowed: give a URL"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(["export", *words, "--to", "out"], capsys, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("group", [[], ["export"]])
def test_help_says_of_each_command_what_it_does(
    capsys: pytest.CaptureFixture[str], group: list[str]
) -> None:
    """In a whole sentence, on a line of its own."""
    assert run([*group, "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) >= 4
    for line in listed:
        assert line[2] != " "
        assert line.endswith(".")
        assert not line.endswith("..")
