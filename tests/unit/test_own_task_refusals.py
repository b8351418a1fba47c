"""Tasks of one's own that are none: every refusal; and what a task that is one is called."""

import sys
from pathlib import Path

import pytest
from commands import refused
from test_own_tasks import HEAD, PROTOCOL

from maxrl_ops.cli import preflight
from maxrl_ops.cli.new_run import create
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.settings import SettingError
from maxrl_ops.wire.task_spec import Kind, TaskSpec
from trainer.config import load_config
from trainer.errors import TrainerError
from trainer.tasks import load_task


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "spec", "words"),
    [
        ("", "gone.py:make", "gone.py is no file"),
        ("", "no_such_package.mine:make", "there is no module 'no_such_package'"),
        ("", "json.gone:make", "there is no module 'json.gone'"),
        ("", "json.decoder.gone:make", "there is no module 'json.decoder.gone'"),
        ("", "mine.py:make", "mine.py has no 'make'"),
        ("make = 3", "mine.py:make", "make is a int, not a function"),
        ("def make(", "mine.py:make", "importing mine.py raises SyntaxError"),
        ("import no_such_thing", "mine.py:make", "ModuleNotFoundError: No module named"),
        ("exit(3)", "mine.py:make", "importing mine.py raises SystemExit: 3"),
        ("def make(): raise OSError('a\\n\\x1bb')", "mine.py:make", r"OSError: a b \(mine.py:1\)"),
        ("def make(x): ...", "mine.py:make", "TypeError: .*missing 1 required"),
        ("def make(): return 3", "mine.py:make", "returns a int that is no task: .*'prepare'"),
        (PROTOCOL + "del Mine.verify", "mine.py:make", "it has no method 'verify'"),
        (PROTOCOL + "del Mine.reward_grid", "mine.py:make", "it has no attribute 'reward_grid'"),
        (PROTOCOL + "Mine.reward_grid = (2, 1)", "mine.py:make", r"its reward_grid is \(2, 1\)"),
        (PROTOCOL + "Mine.name = 'a\\nb'", "mine.py:make", "its name is 'a.+b'"),
        (PROTOCOL + "Mine.reward_profiles = ('x',)", "mine.py:make", "one or more of tested"),
        (HEAD + "reward = None", "mine.py:make", "reward is a NoneType, not a function"),
        (
            "from trainer.tasks.own import OwnTask\ndef make(): return OwnTask(['a'], print)",
            "mine.py:make",
            "there are 1 prompts: give at least 2",
        ),
        (
            "from trainer.tasks.own import OwnTask\ndef make(): return OwnTask(['a', 'a'], print)",
            "mine.py:make",
            "two prompts have the id",
        ),
    ],
)
def test_code_that_gives_no_task(code: str, spec: str, words: str, here: Path) -> None:
    (here / "mine.py").write_text(code + "\n")
    with pytest.raises(TrainerError, match=words) as caught:
        load_task(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no prompts: give at least 2"),
        ("\n\n", "has no prompts"),
        ('{"prompt": "a"}\n', "has 1 prompt: give at least 2"),
        ('{"prompt": "a"}\n{"prompt": \n', "p.jsonl:2: not JSON: Expecting value"),
        ('{"prompt": "a"}\n\n[1]\n', "p.jsonl:3: not a JSON object"),
        ('{"text": "a"}\n', 'p.jsonl:1: there is no "prompt"'),
        ('{"prompt": ""}\n', 'p.jsonl:1: there is no "prompt"'),
        ('{"prompt": "a", "id": []}\n', 'p.jsonl:1: "id" is not a text'),
        ('{"prompt": "a", "id": 1}\n{"prompt": "b", "id": "1"}\n', "p.jsonl:2: .*that of line 1"),
        ('{"prompt": "a"}\n{"prompt": "a"}\n', "p.jsonl:2: .*that of line 1"),
        ('{"prompt": "\udcff"}\n', "p.jsonl:1: not UTF-8"),
        ('{"prompt": "' + "a" * (1 << 20) + '"}\n', "p.jsonl:1: the line is longer than 1 MiB"),
        ("[" * 100_000 + "\n", "p.jsonl:1: not JSON: nested too deeply"),
    ],
)
def test_a_file_that_is_no_set_of_prompts(text: str, words: str, here: Path) -> None:
    (here / "p.jsonl").write_text(text, errors="surrogateescape")
    with pytest.raises(TrainerError, match=words) as caught:
        load_task("p.jsonl", "cat")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "error", "words"),
    [
        ({"MAXRL_TASK": "p.jsonl"}, SettingError, "give MAXRL_REWARD_COMMAND"),
        ({"MAXRL_REWARD_COMMAND": "cat"}, SettingError, "the task is rust: leave it out"),
        (
            {"MAXRL_TASK": "p.jsonl", "MAXRL_REWARD_COMMAND": "no-such-program"},
            TrainerError,
            "no program 'no-such-program' on PATH",
        ),
        ({"MAXRL_REWARD_COMMAND": "'"}, SettingError, "give a program and its arguments"),
        ({"MAXRL_TASK": "gone.jsonl", "MAXRL_REWARD_COMMAND": "cat"}, TrainerError, "not exist"),
        (
            {"MAXRL_TASK": "p.jsonl", "MAXRL_REWARD_COMMAND": "cat"},
            SettingError,
            "the task p ships no model: give MAXRL_CHECKPOINT",
        ),
        (
            {"MAXRL_TASK": "p.jsonl", "MAXRL_REWARD_COMMAND": "cat", "MAXRL_REWARD": "tested"},
            SettingError,
            "does not fit the task p: give own",
        ),
        ({"MAXRL_REWARD": "own"}, SettingError, "does not fit the task rust"),
        ({"MAXRL_REWARD_TIMEOUT": "0"}, SettingError, "a number above 0"),
    ],
)
def test_settings_that_make_no_task(
    env: dict[str, str], error: type[Exception], words: str, here: Path
) -> None:
    (here / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(error, match=words):
        load_config(env)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--task", "gone.py:make"], 3, "--task gone.py:make: gone.py does not exist"),
        (["--task", "gone.jsonl", "--reward-command", "cat"], 3, "gone.jsonl does not exist"),
        (["--task", "p.jsonl"], 2, "give --reward-command, such as 'python grade.py'"),
        (["--task", "p.jsonl", "--reward-command", "nosuch x"], 3, "no program 'nosuch' on PATH"),
        (["--task", "arithmetic", "--reward-command", "cat"], 2, "the task is arithmetic: leave"),
        (["--task", "mine.py"], 2, "--task='mine.py' is not allowed: give rust or arithmetic, mod"),
        (["--task", "a b:c"], 2, "is not allowed"),
    ],
)
def test_start_refuses_before_it_makes_a_run(
    arguments: list[str],
    code: int,
    said: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(here / "home"))
    (here / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    assert said in refused(["start", *arguments], capsys, code)
    assert not (here / "home" / "runs").exists()


# --- Names and paths ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "stem"),
    [
        ("rust", Kind.SHIPPED, "rust"),
        ("my.package.sums:make", Kind.MODULE, "sums"),
        ("/a dir/my sums.py:make", Kind.FILE, "my-sums"),
        ("../[red]x[/red].jsonl", Kind.PROMPTS, "red"),
        ("ü.py:make", Kind.FILE, "task"),
        (f"{'a' * 99}.jsonl", Kind.PROMPTS, "a" * 40),
    ],
)
def test_the_name_that_goes_with_a_task(text: str, kind: Kind, stem: str, here: Path) -> None:
    spec = TaskSpec.parse(text)
    assert (spec.kind, spec.stem) == (kind, stem)
    run = create(Home(here / "home"), {"task": text}, (), None, None)
    assert (run.name, RunSpec.load(run).job_name) == (f"{stem}-1", stem)


def test_start_makes_paths_absolute(here: Path) -> None:
    for name in ("mine.py", "p.jsonl", "grade.py"):
        (here / name).touch()
    assert preflight.resolve_task({"task": "mine.py:make"})["task"] == f"{here}/mine.py:make"
    given = {"task": "p.jsonl", "reward_command": "python grade.py --strict 'a b'"}
    assert preflight.resolve_task(given) == {
        "task": f"{here}/p.jsonl",
        "reward_command": f"python {here}/grade.py --strict 'a b'",
    }
    assert preflight.resolve_task({"task": "a.b:make"}) == {"task": "a.b:make"}
