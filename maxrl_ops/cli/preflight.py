"""What can be found wrong before a run is made: a missing tool, a checkpoint that is none."""

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import Value
from maxrl_ops.wire.task_spec import Kind, TaskSpec
from maxrl_ops.wire.user_paths import expanded

_NO_RUSTC = (
    "the task rust needs rustc, which is not on PATH: see https://rustup.rs, or apt install rustc; "
    "--task arithmetic needs no toolchain"
)
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
)


def check_tools(settings: Mapping[str, Value]) -> None:
    """Our trainer's rust task compiles what a model wrote.

    Which sandbox there is, the trainer finds out: bubblewrap is one of several.

    Raises:
        CommandError: The compiler is missing; how to get it, and what works without.
    """
    if settings.get("task", "rust") == "rust" and shutil.which("rustc") is None:
        raise CommandError(_NO_RUSTC)


def resolve_task(settings: Mapping[str, Value]) -> dict[str, Value]:
    """`settings` with the paths of a task of one's own absolute: a trainer may run anywhere.

    The task's code is the trainer's to import; nothing of it is looked at here.

    Raises:
        CommandError: A file or program is missing, or task and reward command do not go together.
    """
    resolved = dict(settings)
    spec = TaskSpec.parse(str(settings.get("task", "rust")))
    if spec.path is not None:
        if not spec.path.is_file():
            what = "is no file" if spec.path.exists() else "does not exist"
            raise CommandError(f"--task {spec.text}: {spec.place} {what}", ExitCode.NOT_FOUND)
        resolved["task"] = spec.absolute()
    command = settings.get("reward_command")
    if spec.kind is not Kind.PROMPTS:
        if command is not None:
            raise CommandError(
                f"--reward-command goes with --task FILE.jsonl, and the task is {spec.text}: "
                f"leave it out"
            )
    elif command is None:
        raise CommandError(
            f"--task {spec.text} has prompts and no reward: "
            f"give --reward-command, such as 'python grade.py'"
        )
    else:
        resolved["reward_command"] = _resolve_command(str(command))
    return resolved


def _resolve_command(text: str) -> str:
    program, *arguments = shlex.split(text)
    if shutil.which(program) is None:
        raise CommandError(
            f"--reward-command: there is no program {program!r} on PATH", ExitCode.NOT_FOUND
        )
    if "/" in program:
        program = str(Path(program).absolute())
    files = (str(Path(word).absolute()) if Path(word).is_file() else word for word in arguments)
    return shlex.join([program, *files])


def resolve_weights(text: str) -> str:
    """A file of reward weights as an absolute path; what it says is the trainer's to judge.

    Raises:
        CommandError: It is no file.
    """
    path = expanded(text)
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise CommandError(f"--reward-weights {text}: it {what}", ExitCode.NOT_FOUND)
    return str(path.absolute())


def resolve_checkpoint(text: str) -> str:
    """A checkpoint on this machine as an absolute path; a hub id as it is.

    Raises:
        CommandError: It is meant as a path, and no model lies there.
    """
    path = expanded(text)
    looks_like_path = text.startswith(("/", ".", "~")) or text.count("/") > 1
    if not looks_like_path and not path.exists():
        return text
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise CommandError(f"checkpoint {text} {what}", ExitCode.NOT_FOUND)
    if not (path / "config.json").is_file():
        raise CommandError(
            f"checkpoint {text} has no config.json: it is no Hugging Face model directory",
            ExitCode.NOT_FOUND,
        )
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise CommandError(
            f"checkpoint {text} has no tokenizer (tokenizer.json): save the model's beside it",
            ExitCode.NOT_FOUND,
        )
    return str(path.resolve())


def newest_model(run: RunDir) -> Path:
    """The model of a run's newest complete checkpoint.

    Raises:
        CommandError: It has none.
    """
    found = checkpoints.newest(run)
    if found is None:
        raise CommandError(
            f"--from {run.name}: it has no complete checkpoint yet", ExitCode.NOT_FOUND
        )
    return found.model
