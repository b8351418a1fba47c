"""Paths as a person writes them."""

import os
from pathlib import Path


def expanded(text: str) -> Path:
    """`~` or `~NAME` in front as that user's home; as it stands where there is no such home.

    Path.expanduser raises then, what is no OSError: a container's user often has no home.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - for that very reason
