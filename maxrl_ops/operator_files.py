"""What a person tells the autopilot beside control/: a run's mode, a declined suggestion, a freeze.

Files of the run or of the home, which the daemon finds and journals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from maxrl_ops.core.policy import Mode
from maxrl_ops.settings import Home
from maxrl_ops.wire.rundir import (
    DIRECTORY_MODE,
    DocumentError,
    RunDir,
    read_json,
    replace_json,
)


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody's word.

    Attributes:
        author: `uid:1000`.
        time: RFC 3339 in UTC.
    """

    author: str
    time: str

    def to_json(self) -> dict[str, object]:
        """As its file has it."""
        return {"author": self.author, "time": self.time}


def _wish(raw: Mapping[str, object]) -> Wish:
    return Wish(str(raw.get("author", "unknown")), str(raw.get("time", "")))


# --- A run's mode ---------------------------------------------------------------------------------


def set_mode(run: RunDir, mode: Mode, wish: Wish) -> None:
    """Write mode.json.

    Raises:
        OSError: It cannot be written.
    """
    replace_json(run.mode, {"mode": str(mode), **wish.to_json()})


def mode_of(run: RunDir) -> tuple[Mode, Wish] | None:
    """What mode.json says; None where there is none, and the run's spec counts.

    Raises:
        OSError: It cannot be read.
        DocumentError: It is damaged.
    """
    try:
        raw = read_json(run.mode)
    except FileNotFoundError:
        return None
    try:
        return Mode(str(raw["mode"])), _wish(raw)
    except (KeyError, ValueError):
        raise DocumentError(f"{run.mode}: its mode is missing, or none") from None


# --- Suggestions ----------------------------------------------------------------------------------


def decline(run: RunDir, intent: str, wish: Wish) -> None:
    """Write that a suggestion is declined.

    Raises:
        OSError: It cannot be written.
    """
    run.declined.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    replace_json(_declined(run, intent), {"intent": intent, **wish.to_json()})


def is_declined(run: RunDir, intent: str) -> bool:
    """Whether somebody has declined it."""
    return _declined(run, intent).exists()


def _declined(run: RunDir, intent: str) -> Path:
    return run.declined / f"{quote(intent, safe='')}.json"


# --- The host's autopilot -------------------------------------------------------------------------


def freeze(home: Home, wish: Wish) -> None:
    """Write frozen.json; the first one's word stays.

    Raises:
        OSError: It cannot be written.
    """
    try:
        home.frozen.stat()
    except FileNotFoundError:
        replace_json(home.frozen, wish.to_json())


def unfreeze(home: Home) -> bool:
    """Remove frozen.json; whether there was one.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        home.frozen.unlink()
    except FileNotFoundError:
        return False
    return True


def is_frozen(home: Home) -> bool:
    """Whether nobody's autopilot may change anything; where nobody can tell, it is so."""
    try:
        home.frozen.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def frozen_by(home: Home) -> Wish | None:
    """Who froze it; None where it is not frozen."""
    if not is_frozen(home):
        return None
    try:
        return _wish(read_json(home.frozen))
    except (OSError, DocumentError):
        return Wish("unknown", "")
