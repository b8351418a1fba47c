"""Where a run came from: versions, host, directory, git revision."""

import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from maxrl_ops import __version__

_GIT_SECONDS = 5.0


def provenance() -> dict[str, str]:
    """What run.json tells of the place a run was started from; what is unknown is left out."""
    found = {
        "maxrl_ops": __version__,
        "python": platform.python_version(),
        "torch": _installed("torch"),
        "transformers": _installed("transformers"),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "directory": str(Path.cwd()),
        "git_revision": _git("rev-parse", "HEAD"),
    }
    if found["git_revision"] is not None:
        changes = _git("status", "--porcelain", "--untracked-files=no")
        found["git_dirty"] = None if changes is None else str(bool(changes)).lower()
    return {key: value for key, value in found.items() if value is not None}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the working directory; None where there is no git, or it takes long."""
    try:
        done = subprocess.run(
            # No lock: a run must not disturb somebody's git command in the same tree.
            ["git", "--no-optional-locks", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
