"""Whole numbers of the environment that are no settings: what supervisors and launchers tell."""

from collections.abc import Mapping

from trainer.errors import TrainerError


def whole_number(env: Mapping[str, str], name: str, default: int) -> int:
    """What `name` says; `default` where it is not set.

    Raises:
        TrainerError: It is no whole number of 0 or more.
    """
    text = env.get(name, str(default))
    # Not int() alone: that takes 1_0, and digits of any script.
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise TrainerError(f"{name}={text!r} is not allowed: give a whole number of 0 or more")
    return int(text)
