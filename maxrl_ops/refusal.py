"""Whether files can be written in a directory, found out without writing one."""

import os
from pathlib import Path


def refusal(directory: Path) -> str | None:
    """Why its owner cannot make a file there; None where they can, as far as a look tells."""
    try:
        system = os.statvfs(directory)
        if system.f_flag & os.ST_RDONLY:
            return "the file system is read-only"
        if not system.f_bavail:
            return "the disk is full"
        if not system.f_favail and system.f_files:
            return "the disk has no room for another file"
        is_ours = os.geteuid() in (0, directory.stat().st_uid)
        if is_ours and not os.access(directory, os.W_OK | os.X_OK):
            return f"{directory} may not be written"
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return None
