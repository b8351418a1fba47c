"""Unit tests bring no daemon up: those that need one say so, and end it."""

import pytest
import torch

from trainer.config import Config, load_config
from trainer.policy import Policy, load_policy
from trainer.tasks.base import Task


@pytest.fixture(autouse=True)
def _no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_OPS_NO_DAEMON", "1")


@pytest.fixture(scope="session")
def job() -> tuple[Config, Task]:
    """The small model that ships with `arithmetic`, and its task."""
    return load_config({"MAXRL_TASK": "arithmetic"})


@pytest.fixture(params=["ours", "transformers"])
def policy(
    request: pytest.FixtureRequest, job: tuple[Config, Task], monkeypatch: pytest.MonkeyPatch
) -> Policy:
    """The model, sampled and trained by ourselves, and as one that we do not cover."""
    if request.param == "transformers":
        monkeypatch.setattr("trainer.policy.covers", lambda _: False)
    return load_policy(job[0].checkpoint, torch.device("cpu"))
