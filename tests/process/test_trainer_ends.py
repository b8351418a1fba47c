"""How a trainer of its own ends, where a device gives out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import RunEnded

# A device cannot be filled at will: the error is PyTorch's, raised where it would come.
FULL = """
import runpy
import torch
import {module}
real, calls = {module}.{function}, []
def full(*arguments):
    calls.append(1)
    if len(calls) > {enough}:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    return real(*arguments)
{module}.{function} = full
runpy.run_module("trainer", run_name="__main__")
"""
SETTINGS = {
    "MAXRL_TASK": "arithmetic",
    "MAXRL_ITERATIONS": "3",
    "MAXRL_PROMPTS_PER_ITERATION": "2",
    "MAXRL_EVALUATION_PROMPTS": "2",
}


@pytest.mark.parametrize(
    ("module", "function", "enough", "code"),
    # The first batch never fits: nothing would change. One did: others may be gone by and by.
    [("trainer.evaluate", "sample", 0, 2), ("trainer.loop", "judge", 1, 1)],
)
def test_out_of_memory_says_what_to_lower(
    module: str, function: str, enough: int, code: int, tmp_path: Path
) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
    program = FULL.format(module=module, function=function, enough=enough)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**kept, **SETTINGS, "MAXRL_RUN_DIR": str(tmp_path)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    log = (tmp_path / "trainer.log").read_bytes()
    assert b"Traceback" not in log
    *_, ended = Parser().feed(log)
    assert isinstance(ended, RunEnded)
    assert ended.detail.startswith("device auto: out of memory; lower max_new_tokens, ")
    assert ended.detail.endswith("CUDA out of memory")
