"""Being an ordinary user for a while, where the tests run as root."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

NOBODY = 65534


def run_as_nobody(
    arguments: Sequence[str], *, env: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a program as user 65534, from /."""
    return subprocess.run(
        arguments,
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env=env,
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def python_for_nobody() -> str:
    """A Python that user 65534 can run; skips the test where there is none."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = run_as_nobody([python, "-c", check], env={}, timeout=60)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that user 65534 can run")
