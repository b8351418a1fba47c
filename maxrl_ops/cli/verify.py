"""`verify`: Rust files, judged by the trainer's verifier in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence

from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode

_PROGRAM = (sys.executable, "-P", "-m", "trainer.verify")
# What it says by itself; anything else is a crash.
_CODES = (ExitCode.OK, ExitCode.BAD, ExitCode.INTERRUPTED)


def verify(files: Sequence[str], reward: str, weights: str | None, *, as_json: bool) -> int:
    """Let the verifier print what it finds; its exit code.

    Raises:
        CommandError: It refused the command line or a file, cannot work on this host, or died.
    """
    options = ["--reward", reward]
    options += [] if weights is None else ["--reward-weights", weights]
    options += ["--json"] if as_json else []
    done = subprocess.run(
        [*_PROGRAM, *options, "--", *files],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode in _CODES and not done.stderr:
        return done.returncode
    said = done.stderr.strip().rpartition("\n")[2].removeprefix("verify: ")
    known = done.returncode in (ExitCode.USAGE, ExitCode.NOT_FOUND)
    code = ExitCode(done.returncode) if known else ExitCode.BAD
    raise CommandError(said if known else f"the verifier died: {said or done.returncode}", code)
