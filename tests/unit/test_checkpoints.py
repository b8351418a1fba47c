"""Checkpoints: whole or not there, the newest and the best kept, damaged ones set aside."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest
import torch

from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.rundir import CHECKPOINT_MARKER, RunDir
from trainer import checkpoint
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.policy import Policy, load_policy
from trainer.sampler import sample
from trainer.seeds import seed_everything
from trainer.tasks.base import Task
from trainer.update import StepOptions, Term, train_step


def saved(policy: Policy, path: Path, iterations: range) -> RunDir:
    run = RunDir(path)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    for iteration in iterations:
        checkpoint.save(run, iteration, policy, optimizer)
    return run


def test_the_newest_checkpoints_are_kept_and_load(policy: Policy, tmp_path: Path) -> None:
    run = saved(policy, tmp_path, range(1, 5))
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["000003", "000004"]
    newest = checkpoints.newest(run)
    assert newest is not None
    assert newest.iteration == 4
    loaded = load_policy(str(newest.model), torch.device("cpu")).model.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in policy.model.state_dict().items())


def test_the_best_checkpoint_and_those_asked_for_stay(policy: Policy, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    held_out = {1: 0.5, 2: 0.7, 3: None, 4: 0.7, 5: None, 6: None}
    for iteration, pass_at_1 in held_out.items():
        checkpoint.save(run, iteration, policy, optimizer, pass_at_1, kept={1})
    assert [each.iteration for each in checkpoints.complete(run)] == [1, 2, 5, 6]
    best = checkpoints.best(run)
    assert best is not None
    assert (best.iteration, best.pass_at_1) == (2, 0.7)


def test_a_checkpoint_that_will_not_fit_is_not_begun(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved(policy, tmp_path, range(1, 2))
    full = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("trainer.checkpoint.shutil.disk_usage", lambda _: full)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    with pytest.raises(OSError, match="MiB, 1 are free"):
        checkpoint.save(run, 2, policy, optimizer)
    assert [each.iteration for each in checkpoints.complete(run)] == [1]


@pytest.mark.parametrize("damage", ["truncate", "remove", "unmark", "garble"])
def test_an_incomplete_checkpoint_is_passed_over(
    policy: Policy, tmp_path: Path, damage: str
) -> None:
    run = saved(policy, tmp_path, range(1, 3))
    path = run.checkpoints / "000002"
    match damage:
        case "truncate":
            weights = path / "model" / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
        case "remove":
            (path / "optimizer.pt").unlink()
        case "unmark":
            (path / "COMPLETE").unlink()
        case _:
            (path / "COMPLETE").write_text("[]")
    newest = checkpoints.newest(run)
    assert newest is not None
    assert newest.iteration == 1


def test_killed_while_saving_leaves_the_one_before(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of the protocol: files, marker, rename."""
    run = saved(policy, tmp_path, range(1, 2))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for target in ("trainer.checkpoint.torch.save", "trainer.checkpoint.write_all"):
        with monkeypatch.context() as patch:
            patch.setattr(target, die)
            with pytest.raises(KeyboardInterrupt):
                checkpoint.save(run, 2, policy, optimizer)
        newest = checkpoints.newest(run)
        assert newest is not None
        assert newest.iteration == 1


def test_what_a_killed_trainer_left_is_cleared(policy: Policy, tmp_path: Path) -> None:
    run = saved(policy, tmp_path, range(1, 3))
    (run.checkpoints / "000001" / "COMPLETE").unlink()  # killed while it was dropped
    (run.checkpoints / f".000003.{os.getpid()}").mkdir()  # killed while it was saved
    (run.checkpoints / "000003").mkdir()  # by another hand: said, and left alone
    checkpoint.clear_leftovers(run)
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["000002", "000003"]
    (run.checkpoints / f".000004.{os.getpid()}").mkdir()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    assert checkpoint.save(run, 4, policy, optimizer).seconds


@pytest.mark.parametrize("name", ["model/model.safetensors", "optimizer.pt"])
def test_a_checkpoint_that_lost_a_block_is_set_aside(
    policy: Policy, tmp_path: Path, name: str
) -> None:
    run = saved(policy, tmp_path, range(1, 3))
    whole = (run.checkpoints / "000002" / name).read_bytes()
    (run.checkpoints / "000002" / name).write_bytes(bytes(len(whole[:4096])) + whole[4096:])
    assert checkpoint.set_aside_damaged(run) == ["000002"]
    assert checkpoint.set_aside_damaged(run) == []
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["000001", "damaged-000002"]
    last = checkpoints.newest(run)
    assert last is not None
    assert last.iteration == 1


def test_one_of_that_iteration_may_have_been_set_aside_before(
    policy: Policy, tmp_path: Path
) -> None:
    run = saved(policy, tmp_path, range(1, 3))
    earlier = run.checkpoints / "damaged-000002"
    earlier.mkdir()
    (earlier / "earlier").touch()
    (run.checkpoints / "000002" / "optimizer.pt").write_bytes(b"")
    (run.checkpoints / "000002" / CHECKPOINT_MARKER).write_text("{}")
    assert checkpoint.set_aside_damaged(run) == ["000002"]
    assert (earlier / CHECKPOINT_MARKER).exists()
    assert not (earlier / "earlier").exists()


def test_of_those_that_were_set_aside_the_last_two_stay(policy: Policy, tmp_path: Path) -> None:
    run = saved(policy, tmp_path, range(1, 2))
    for iteration in (9, 5, 7, 6):
        path = run.checkpoints / f"{iteration:06d}"
        path.mkdir()
        (path / "optimizer.pt").write_bytes(b"")
        (path / CHECKPOINT_MARKER).write_text("{}")
        assert checkpoint.set_aside_damaged(run) == [f"{iteration:06d}"]
    left = sorted(p.name for p in run.checkpoints.iterdir())
    assert left == ["000001", "damaged-000006", "damaged-000007"]


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), MemoryError()])
def test_a_checkpoint_that_the_host_cannot_read_now_is_left_where_it_is(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    run = saved(policy, tmp_path, range(1, 3))
    for reader in ("safe_open", "torch.load"):
        with monkeypatch.context() as patch:
            patch.setattr(f"trainer.checkpoint.{reader}", fail)
            with pytest.raises(type(fault)):
                checkpoint.set_aside_damaged(run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["000001", "000002"]


def test_the_optimizer_keeps_its_kernels_and_takes_the_state(
    policy: Policy, job: tuple[Config, Task], tmp_path: Path
) -> None:
    task = job[1]
    seed_everything(0, 1, "sample")
    prompts = task.training_prompts(Random(0), 1)
    [[completion]] = sample(policy, prompts, 1, 8, 1.0, task.answer_end)
    elsewhere = torch.optim.AdamW(policy.model.parameters(), lr=1e-4, fused=False)
    train_step(policy, elsewhere, [Term(completion, 1.0)], StepOptions())
    there = checkpoint.save(RunDir(tmp_path), 1, policy, elsewhere)
    here = torch.optim.AdamW(policy.model.parameters(), lr=1e-4, fused=True)
    checkpoint.restore_optimizer(there, here)
    assert here.param_groups[0]["fused"] is True
    moments = [state["exp_avg"] for state in here.state.values()]
    assert all(map(torch.equal, moments, (s["exp_avg"] for s in elsewhere.state.values())))
    (there.path / "optimizer.pt").write_bytes(b"PK")
    with pytest.raises(TrainerError, match=r"optimizer.pt cannot be loaded: .*; remove .*000001"):
        checkpoint.restore_optimizer(there, here)
