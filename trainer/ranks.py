"""The processes that train one model together, as torchrun or accelerate start them.

Each holds the whole model, draws the same prompts, and samples and verifies its share of them.
Then all hold all groups, so that what an iteration's loss is divided by, what the log tells and
what is drawn next are the same everywhere. Each computes the gradient of its share of the terms;
these are summed before they are clipped, and every process makes the same step. Only the first
writes anything, and reads control. A process alone exchanges nothing and copies nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from trainer.environment import whole_number
from trainer.errors import ExitCode, TrainerError
from trainer.policy import choose_device

T = TypeVar("T")

# Ending a standstill is the supervisor's business, which sees a slow verifier as what it is.
_PATIENCE = timedelta(days=1)
# What accelerate tells of a model that no process would hold whole.
_SHARDED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among those of the run, and what they exchange.

    Every method that exchanges something must be called by all of them, in the same order.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, env: Mapping[str, str], device: str) -> "Ranks":
        """Meet the other processes that a launcher has started; nothing to do where it has not.

        Raises:
            TrainerError: They cannot train together as they were started, or do not meet.
        """
        tasks = whole_number(env, "SLURM_STEP_NUM_TASKS", 1)
        if tasks > 1 and "RANK" not in env:
            raise TrainerError(
                f"srun started {tasks} processes that do not know of each "
                f'other: give --launch "srun --ntasks 1 torchrun --nproc-per-node N"'
            )
        size = whole_number(env, "WORLD_SIZE", 1)
        if size < 2:
            return cls()
        whole_number(env, "RANK", 0)
        _refuse_sharding(env)
        kind = _place(env, device)
        with _together():
            # What is told to each other lies in memory, gradients where the model is.
            backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=_PATIENCE)
        return cls(dist.get_rank(), size)

    def leave(self) -> None:
        """Part from the others, once all of them are done."""
        if self.size > 1:
            # A launcher takes whoever ends first for a failure, and kills who still saves.
            self.gather([])
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """This process writes log and checkpoints, and reads control."""
        return self.rank == 0

    def purpose(self, purpose: str) -> str:
        """What this process's random numbers are for: no two of them draw the same ones."""
        return purpose if self.is_first else f"{purpose} by {self.rank}"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share: `gather` puts the shares together in the order of `items`."""
        if self.size == 1:
            return items
        first, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[first:end]

    def gather(self, items: list[T]) -> list[T]:
        """The items of all processes, one process's after another's."""
        if self.size == 1:
            return items
        found: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(found, items)
        return list(chain.from_iterable(found))

    def tell(self, find: Callable[[], T]) -> T:
        """What the first process finds; the others do not look."""
        if self.size == 1:
            return find()
        told = [find() if self.is_first else None]
        with _together():
            dist.broadcast_object_list(told)
        return cast("T", told[0])

    def any(self, is_so: bool) -> bool:
        """Whether it is so in any of the processes."""
        return any(self.gather([is_so]))

    def add(self, *numbers: float) -> Sequence[float]:
        """Each number's sum over all processes, the same bits in each."""
        if self.size == 1:
            return numbers
        sums = torch.tensor(numbers, dtype=torch.float64)
        with _together():
            dist.all_reduce(sums)
        return cast("list[float]", sums.tolist())

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Make each gradient the sum of those of all processes, the same bits in each."""
        if self.size == 1:
            return
        with _together():
            sums = [
                dist.all_reduce(_gradient(parameter), async_op=True)
                for parameter in parameters
                if parameter.requires_grad
            ]
            for each in sums:
                cast("Any", each).wait()


ALONE = Ranks()


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    # A process without a term has none, and yet its part in the sum.
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@contextmanager
def _together() -> Iterator[None]:
    """Say in one line that the others are gone, whatever gloo or NCCL makes of it."""
    try:
        yield
    except torch.OutOfMemoryError:
        # A RuntimeError too, and our own: who catches it says what takes less.
        raise
    except (RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise TrainerError(
            f"another process of this run is gone or cannot be reached ({detail}); what it said "
            f"last stands in supervisor.log",
            ExitCode.CRASHED,
        ) from error


def _refuse_sharding(env: Mapping[str, str]) -> None:
    for name, what in _SHARDED.items():
        if env.get(name, "").lower() in {"1", "true"}:
            raise TrainerError(
                f"accelerate is to use {what}, and the native engine holds the whole model in each "
                f"process: give --engine trl, or accelerate another configuration"
            )


def _place(env: Mapping[str, str], asked: str) -> str:
    """Take the device that is this process's own; its type.

    Raises:
        TrainerError: There is none, or processes cannot add their gradients there.
    """
    device, _ = choose_device(asked)
    if device.type not in {"cpu", "cuda"}:
        raise TrainerError(
            f"device {asked!r}: several processes train on cuda or cpu; leave out --launch"
        )
    if device.type == "cuda":
        own, count = whole_number(env, "LOCAL_RANK", 0), torch.cuda.device_count()
        if device.index is not None:
            raise TrainerError(
                f"device {asked!r}: each process takes a GPU of its own; give --device cuda"
            )
        if own >= count:
            raise TrainerError(
                f"process {own} of this host has no GPU of its own: there are {count}; start as "
                f"many processes, or give --device cpu"
            )
        torch.cuda.set_device(own)
    return device.type
