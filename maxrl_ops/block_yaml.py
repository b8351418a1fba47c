"""Plain data as YAML that people can read: blocks, and every text as a JSON string."""

import json
from collections.abc import Iterator, Mapping, Sequence

Yaml = Mapping[str, "Yaml"] | Sequence["Yaml"] | str | int | float | bool | None


def dump(data: Yaml) -> str:
    """A document; keys must be plain words."""
    return "\n".join(_lines(data)) + "\n"


def _lines(data: Yaml) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if _is_block(value):
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(value))
            else:
                yield f"{key}: {_scalar(value)}"
    elif isinstance(data, Sequence) and not isinstance(data, str):
        for value in data:
            inner = _lines(value) if _is_block(value) else iter([_scalar(value)])
            yield f"- {next(inner)}"
            yield from (f"  {line}" for line in inner)
    else:
        yield _scalar(data)


def _scalar(value: Yaml) -> str:
    text = json.dumps(value)
    # Without a point it is a text for readers of YAML 1.1.
    is_whole = isinstance(value, float) and "." not in text
    return text.replace("e", ".0e") if is_whole else text


def _is_block(value: Yaml) -> bool:
    """What is empty, or one word, stands on the line of its key."""
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and len(value) > 0
