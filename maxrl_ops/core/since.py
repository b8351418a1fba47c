"""Ages and beginnings as a person gives them: `30d`, `2026-11-24T12:00:00Z`, iteration `500`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_AGE = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ITERATION = re.compile(r"\d{1,15}", re.ASCII)


class SinceError(ValueError):
    """It is none; the message is one line that says what is allowed."""


@dataclass(frozen=True, slots=True)
class Since:
    """Where a history is to begin; without either at its beginning.

    Attributes:
        iteration: The first one.
        time: When the first one may have ended at the earliest.
    """

    iteration: int | None = None
    time: datetime | None = None


def age_of(text: str, name: str) -> timedelta:
    """Read `90s`, `30m`, `12h`, `7d` or `2w`; `name` is what an error calls it.

    Raises:
        SinceError: It is not that.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise SinceError(f"{name}={text!r} is not allowed: give an age such as 90s, 12h, 30d or 2w")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def since_of(text: str, now: datetime) -> Since:
    """Read an iteration, an age, or a time; one without a zone is UTC.

    Raises:
        SinceError: It is none of these.
    """
    if _ITERATION.fullmatch(text):
        return Since(iteration=int(text))
    if _AGE.fullmatch(text):
        return Since(time=now - age_of(text, "--since"))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SinceError(
            f"--since={text!r} is not allowed: give an iteration as 500, an age as 12h, or a time"
            " as 2026-11-24T12:00:00Z"
        ) from None
    return Since(time=time if time.tzinfo else time.replace(tzinfo=UTC))
