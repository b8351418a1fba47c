"""Prompts from a file: one JSON object a line, `{"prompt", "id"?, "family"?, "answer"?}`."""

import json
from pathlib import Path
from typing import Any

from trainer.errors import ExitCode, TrainerError
from trainer.tasks.base import Prompt
from trainer.tasks.prompt_set import id_of

# All of it is kept in memory.
_LARGEST_FILE = 256 << 20
_LONGEST_LINE = 1 << 20
_MOST_PROMPTS = 1_000_000
_LONGEST_NAME = 200


def read_prompts(path: Path) -> list[Prompt]:
    """The file's prompts; `tests` holds the answer as JSON, or nothing. Other keys are ignored.

    Raises:
        TrainerError: It cannot be read, is too large, or a line is wrong; the line is named.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file.read(_LARGEST_FILE + 1))
    except FileNotFoundError:
        raise TrainerError(f"{path} does not exist", ExitCode.NOT_FOUND) from None
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}") from error


def _read(path: Path, data: bytes) -> list[Prompt]:
    if len(data) > _LARGEST_FILE:
        raise TrainerError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB: take fewer prompts")
    prompts: list[Prompt] = []
    first: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        prompt = _prompt(line, f"{path}:{number}")
        if prompt.id in first:
            raise TrainerError(
                f"{path}:{number}: the id {prompt.id!r} is that of line {first[prompt.id]}: "
                f"give each line an id of its own, or each a prompt of its own"
            )
        first[prompt.id] = number
        prompts.append(prompt)
        if len(prompts) > _MOST_PROMPTS:
            raise TrainerError(f"{path} has more than {_MOST_PROMPTS} prompts: take fewer")
    if len(prompts) < 2:
        raise TrainerError(
            f"{path} has {len(prompts) or 'no'} prompt{'s' if not prompts else ''}: give at least "
            f"2, one of them to be held out"
        )
    return prompts


def _prompt(line: bytes, where: str) -> Prompt:
    if len(line) > _LONGEST_LINE:
        raise TrainerError(f"{where}: the line is longer than {_LONGEST_LINE >> 20} MiB")
    try:
        fields = json.loads(line)
    except UnicodeDecodeError:
        raise TrainerError(f"{where}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise TrainerError(f"{where}: not JSON: {what}") from None
    if not isinstance(fields, dict):
        raise TrainerError(f'{where}: not a JSON object, such as {{"prompt": "2+2="}}')
    text = fields.get("prompt")
    if not isinstance(text, str) or not text:
        raise TrainerError(f'{where}: there is no "prompt", a text that is not empty')
    answer = (json.dumps(fields["answer"]),) if "answer" in fields else ()
    return Prompt(
        id=_name(fields.get("id", id_of(text)), f'{where}: "id"'),
        family=_name(fields.get("family", "all"), f'{where}: "family"'),
        text=text,
        tests=answer,
    )


def _name(value: Any, where: str) -> str:
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    if not is_plain or not 1 <= len(str(value)) <= _LONGEST_NAME:
        raise TrainerError(f"{where} is not a text of 1 to {_LONGEST_NAME} characters")
    return str(value)
