"""What does a layer's work: the functions as they are, or compiled by PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from trainer.llama.blocks import Layer, Rotation, log_probs_of

# Sampling and training, with and without gradients, few rows and many: each is compiled apart.
_MOST_VARIANTS = 32


@dataclass(frozen=True, slots=True)
class Kernels:
    """The parts of a forward pass between attentions.

    Attributes:
        attend_with: Layer.attend_with, or what computes the same.
        after_attention: Layer.after_attention.
        log_probs_of: blocks.log_probs_of.
    """

    attend_with: Callable[[Layer, Tensor, Rotation], tuple[Tensor, Tensor, Tensor]]
    after_attention: Callable[[Layer, Tensor, Tensor], Tensor]
    log_probs_of: Callable[..., tuple[Tensor, Tensor]]


EAGER = Kernels(Layer.attend_with, Layer.after_attention, log_probs_of)


@cache
def compiled() -> Kernels:
    """The same, fused by torch.compile when they are first called; all layers share them.

    The number of rows is symbolic from the start: it is another one at each step.
    """
    torch._dynamo.config.recompile_limit = _MOST_VARIANTS  # noqa: SLF001 - documented, without another name
    return Kernels(
        torch.compile(Layer.attend_with, dynamic=True),
        torch.compile(Layer.after_attention, dynamic=True),
        torch.compile(log_probs_of, dynamic=True),
    )
