"""What does the layers' work: the functions as they are, or compiled by PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from trainer.llama.blocks import Layer, Rotation, log_probs_of
from trainer.llama.cache import read_token

# Sampling and training, with and without gradients, few rows and many: each is compiled apart.
_MOST_VARIANTS = 32


@dataclass(frozen=True, slots=True)
class Kernels:
    """Reading a token with a cache, and the parts of any other forward pass between attentions.

    Attributes:
        read_token: cache.read_token, or what computes the same.
        attend_with: Layer.attend_with.
        after_attention: Layer.after_attention.
        log_probs_of: blocks.log_probs_of.
    """

    read_token: Callable[..., Tensor]
    attend_with: Callable[[Layer, Tensor, Rotation], tuple[Tensor, Tensor, Tensor]]
    after_attention: Callable[[Layer, Tensor, Tensor], Tensor]
    log_probs_of: Callable[..., tuple[Tensor, Tensor]]


EAGER = Kernels(read_token, Layer.attend_with, Layer.after_attention, log_probs_of)


@cache
def compiled() -> Kernels:
    """The same, fused by torch.compile when they are first called.

    A size that changes between calls, of rows for one, is symbolic from the second on. Reading a
    token is one graph through all layers: its work is so little that entering a graph counts.
    """
    torch._dynamo.config.recompile_limit = _MOST_VARIANTS  # noqa: SLF001 - documented, without another name
    return Kernels(
        torch.compile(read_token),
        torch.compile(Layer.attend_with),
        torch.compile(Layer.after_attention),
        torch.compile(log_probs_of),
    )
