"""Processes of ours that outlive whoever starts them: nobody's children, each in its session."""

import os
import subprocess
import sys
from pathlib import Path

from maxrl_ops.attempt import open_for_appending

_FLAG = "--detach"


def spawn(module: str, arguments: list[str], log: Path) -> int:
    """Start `python -m module` detached from this process and its terminal; its pid.

    Raises:
        OSError: It could not be started; its log may say why.
    """
    output = open_for_appending(log)
    try:
        launcher = subprocess.run(
            [sys.executable, "-P", "-m", module, _FLAG, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd="/",
            start_new_session=True,
            check=True,
        )
        return int(launcher.stdout)
    except (subprocess.CalledProcessError, ValueError):
        raise OSError(f"{module} did not start: see {log}") from None
    finally:
        os.close(output)


def detach_if_asked(arguments: list[str]) -> list[str]:
    """The process's arguments; where `spawn` gave them, in a child that is nobody's.

    A parent that lives on need not wait for it.
    """
    if arguments[:1] != [_FLAG]:
        return arguments
    if pid := os.fork():
        os.write(1, b"%d\n" % pid)
        os._exit(0)
    os.dup2(2, 1)
    return arguments[1:]
