"""What `--task` may say: a shipped task, a function that makes one, or a file of prompts."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from maxrl_ops.wire.user_paths import expanded

SHIPPED = ("rust", "arithmetic")
ALLOWED = f"{' or '.join(SHIPPED)}, module:function, file.py:function or file.jsonl"

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Kind(Enum):
    """Where a task comes from."""

    SHIPPED = auto()
    MODULE = auto()
    FILE = auto()
    PROMPTS = auto()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A value of `--task`, taken apart.

    Attributes:
        text: As it was given.
        kind: Which of the four forms it has.
        place: The shipped task's name, the module, or the file's path.
        function: What makes the task; empty where nothing does.
    """

    text: str
    kind: Kind
    place: str
    function: str = ""

    @classmethod
    def parse(cls, text: str) -> "TaskSpec":
        """Take `text` apart.

        Raises:
            ValueError: It has none of the forms.
        """
        if text in SHIPPED:
            return cls(text, Kind.SHIPPED, text)
        if not text.isprintable():
            raise ValueError(text)
        if text.endswith(".jsonl"):
            return cls(text, Kind.PROMPTS, text)
        place, _, function = text.rpartition(":")
        if function.isidentifier() and place.endswith(".py"):
            return cls(text, Kind.FILE, place, function)
        if function.isidentifier() and _MODULE.fullmatch(place):
            return cls(text, Kind.MODULE, place, function)
        raise ValueError(text)

    @property
    def path(self) -> Path | None:
        """The file that it names, None where it names none."""
        return expanded(self.place) if self.kind in (Kind.FILE, Kind.PROMPTS) else None

    @property
    def stem(self) -> str:
        """A name for runs: of letters, digits, dashes and underscores, at most 40."""
        path = self.path
        bare = self.place.rpartition(".")[2] if path is None else path.stem
        return re.sub(r"[^A-Za-z0-9_]+", "-", bare).strip("-_")[:40].rstrip("-_") or "task"

    def absolute(self) -> str:
        """The text with its path, if any, absolute: it means the same from anywhere."""
        path = self.path
        if path is None:
            return self.text
        return str(path.resolve()) + (f":{self.function}" if self.function else "")


def parse_known(text: str) -> str:
    """`text` itself, where it is a task's spec: the converter of the setting `task`.

    Raises:
        ValueError: It is none.
    """
    return TaskSpec.parse(text).text
