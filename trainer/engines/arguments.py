"""A file of arguments for the library behind an engine: `key = value`, and peft's as [lora]."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer.errors import ExitCode, TrainerError

_MOST_BYTES = 64 * 1024
_LORA = "lora"


@dataclass(frozen=True, slots=True)
class EngineArguments:
    """What a file gives.

    Attributes:
        file: Where it stands, for messages.
    """

    file: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    lora_values: Mapping[str, Any] | None = None

    def checked(self, kind: type, ours: Mapping[str, object]) -> Mapping[str, Any]:
        """The values, each of which the dataclass `kind` has, and none of which is in `ours`.

        Raises:
            TrainerError: One is not.
        """
        self._check(self.values, kind)
        for key in self.values:
            if key in ours:
                raise TrainerError(
                    f"{self.file}: {key} is maxrl-ops' to say: see maxrl-ops start --help"
                )
        return self.values

    def lora(self) -> Any:
        """Peft's LoraConfig, or None.

        Raises:
            TrainerError: peft is not there, or refuses it.
        """
        if self.lora_values is None:
            return None
        try:
            from peft import LoraConfig  # noqa: PLC0415 - for those who want it
        except ImportError:
            raise TrainerError(
                f"{self.file}: [{_LORA}] needs peft: pip install 'maxrl-ops[trl]'"
            ) from None
        self._check(self.lora_values, LoraConfig)
        try:
            return LoraConfig(**self.lora_values)
        except (TypeError, ValueError) as error:
            raise TrainerError(f"{self.file}: [{_LORA}]: {error}") from error

    def _check(self, values: Mapping[str, Any], kind: type) -> None:
        known = [each.name for each in fields(kind)]
        for key in values:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise TrainerError(f"{self.file}: {kind.__name__} has no {key!r}{hint}")


def load_arguments(file: str | None) -> EngineArguments:
    """The arguments in a TOML file; none without a file.

    Raises:
        TrainerError: It cannot be read, or is no TOML.
    """
    if file is None:
        return EngineArguments()
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise TrainerError(f"{file}: more than {_MOST_BYTES} bytes")
        table = tomllib.loads(data.decode())
    except FileNotFoundError:
        raise TrainerError(f"{file}: there is no such file", ExitCode.NOT_FOUND) from None
    except OSError as error:
        raise TrainerError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TrainerError(f"{file}: no TOML: {error}") from None
    lora = table.pop(_LORA, None)
    if lora is not None and not isinstance(lora, dict):
        raise TrainerError(f"{file}: {_LORA} is a table: write [{_LORA}]")
    return EngineArguments(file, table, lora)
