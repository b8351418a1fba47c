"""What each of several processes does its share of, and what they cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import ExitCode, TrainerError
from trainer.ranks import ALONE, Ranks
from trainer.sampler import Completion
from trainer.tasks.base import Prompt
from trainer.update import Term, dealt

sizes = st.integers(1, 9)


@given(items=st.lists(st.integers()), size=sizes)
def test_the_shares_put_together_are_the_whole_and_about_equal(items: list[int], size: int) -> None:
    shares = [Ranks(rank, size).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(
    groups=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 30)), max_size=12),
    size=sizes,
)
def test_each_group_is_learned_from_in_one_process(
    groups: list[tuple[int, int]], size: int
) -> None:
    terms = [
        Term(Completion(Prompt(str(at), "f", "", ()), (at,), (7,) * tokens, ""), float(row))
        for at, (rows, tokens) in enumerate(groups)
        for row in range(rows)
    ]
    parts = dealt(terms, size)
    assert len(parts) == size
    found = [id(term) for part in parts for term in part]
    assert sorted(found) == sorted(map(id, terms))
    places = [{term.completion.prompt_ids for term in part} for part in parts]
    assert sum(map(len, places)) == len(groups)
    # Nobody has more to do than another but for a group.
    loads = [sum(1 + len(term.completion.ids) for term in part) for part in parts]
    largest = max((rows * (1 + tokens) for rows, tokens in groups), default=0)
    assert max(loads) - min(loads) <= largest


def test_each_process_draws_random_numbers_of_its_own() -> None:
    assert ALONE.purpose("sample") == "sample"
    assert len({Ranks(rank, 8).purpose("sample") for rank in range(8)}) == 8


@pytest.mark.parametrize(
    ("env", "device", "words"),
    [
        ({"SLURM_STEP_NUM_TASKS": "2"}, "cpu", "srun --ntasks 1 torchrun"),
        ({"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}, "cpu", "FSDP"),
        ({"WORLD_SIZE": "2", "ACCELERATE_USE_DEEPSPEED": "true"}, "cpu", "--engine trl"),
        ({"WORLD_SIZE": "2"}, "meta", "cuda or cpu"),
        ({"WORLD_SIZE": "two"}, "cpu", "WORLD_SIZE='two' is not allowed: give a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "cpu", "RANK='-1' is not allowed"),
        ({"SLURM_STEP_NUM_TASKS": ""}, "cpu", "SLURM_STEP_NUM_TASKS='' is not allowed"),
    ],
)
def test_processes_that_cannot_train_together_are_refused(
    env: dict[str, str], device: str, words: str
) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        Ranks.join(env, device)
    assert "\n" not in str(caught.value)


def test_one_process_meets_nobody() -> None:
    assert Ranks.join({}, "cpu") == Ranks.join({"WORLD_SIZE": "1", "RANK": "0"}, "cpu") == ALONE


def test_memory_that_runs_out_while_they_exchange_is_no_lost_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise errors.pop()

    errors = [
        RuntimeError("Connection closed\nby peer"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ]
    monkeypatch.setattr(dist, "all_gather_object", fail)
    with pytest.raises(torch.OutOfMemoryError):
        Ranks(0, 2).gather([1])
    with pytest.raises(TrainerError, match=r"another process .* \(Connection closed by peer\)"):
        Ranks(0, 2).gather([1])


@pytest.mark.parametrize(
    ("name", "words"),
    [("MAXRL_OPS_LOG_BYTES", "MAXRL_OPS_LOG_BYTES='1e6' is not allowed"), ("RANK", "")],
)
def test_a_malformed_environment_is_told_in_one_line(tmp_path: Path, name: str, words: str) -> None:
    env = {"PATH": os.environ["PATH"], "MAXRL_TASK": "arithmetic", "MAXRL_RUN_DIR": str(tmp_path)}
    # What follows is refused too, whoever this process is.
    env |= {"MAXRL_OPS_ATTEMPT": "1e6", name: "1e6"}
    command = [sys.executable, "-P", "-m", "trainer"]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith(f"trainer: {words}")
    assert done.stderr.count("\n") == 1
