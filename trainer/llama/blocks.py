"""The arithmetic of one decoder layer, and of what predicts a token, on packed rows of tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, silu

_MODELS = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
# Rotary embeddings that depend on nothing but the position.
_ROPES = frozenset({"default", "linear", "llama3"})


def covers(model: nn.Module) -> bool:
    """Whether this package computes exactly what `model` computes.

    Quantised or adapted layers, sliding windows, and rotary embeddings that depend on the length
    are left to transformers.
    """
    if type(model).__name__ not in _MODELS:
        return False
    config: Any = model.config
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    linear = [module for name, module in model.named_modules() if name.endswith("_proj")]
    return (
        config.hidden_act == "silu"
        and rope in _ROPES
        and not kinds
        and not getattr(config, "attention_dropout", 0.0)
        and all(type(module) is nn.Linear for module in linear)
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """How many heads there are, and how wide they are."""

    heads: int
    kv_heads: int
    head_dim: int

    @staticmethod
    def of(config: Any) -> "Shape":
        """The shape that a transformers configuration describes."""
        head_dim = getattr(config, "head_dim", None)
        return Shape(
            config.num_attention_heads,
            config.num_key_value_heads,
            head_dim or config.hidden_size // config.num_attention_heads,
        )


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotary embedding of some positions: cosines and sines, (..., 1, head_dim / 2)."""

    cos: Tensor
    sin: Tensor

    @staticmethod
    def table(model: Any, length: int) -> "Rotation":
        """Of the positions 0 to `length` - 1: (length, 1, head_dim / 2)."""
        weight = model.model.embed_tokens.weight
        positions = torch.arange(length, device=weight.device)[None]
        cos, sin = model.model.rotary_emb(weight, positions)
        # What transformers gives is the same for both halves of a head.
        half = cos.shape[-1] // 2
        return Rotation(cos[0, :, None, :half], sin[0, :, None, :half])

    def at(self, positions: Tensor) -> "Rotation":
        """Of each of `positions`."""
        return Rotation(self.cos[positions], self.sin[positions])

    def turn(self, x: Tensor) -> Tensor:
        """Rotate the heads of `x` (..., heads, head_dim)."""
        first, second = x.chunk(2, -1)
        turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        return torch.cat(turned, -1).to(x.dtype)


def normalise(norm: Any, x: Tensor) -> Tensor:
    """Root mean square normalisation by the last dimension, with the weights of `norm`."""
    return rms_norm(x, (x.shape[-1],), norm.weight.to(x.dtype), norm.variance_epsilon)


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoder layer, with matrices side by side that multiply the same rows."""

    module: Any
    shape: Shape
    queries_keys_values: tuple[Tensor, Tensor | None]
    gate_and_up: tuple[Tensor, Tensor | None]

    @staticmethod
    def of(module: Any, shape: Shape, dtype: torch.dtype | None = None) -> "Layer":
        """The layer that transformers' `module` is; gradients flow back into its weights.

        What is side by side is cast to `dtype` once, where many steps would each cast it.
        """
        attention, mlp = module.self_attn, module.mlp
        return Layer(
            module,
            shape,
            _side_by_side(dtype, attention.q_proj, attention.k_proj, attention.v_proj),
            _side_by_side(dtype, mlp.gate_proj, mlp.up_proj),
        )

    def attend_with(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the rows `x` (..., hidden): (..., heads, head_dim)."""
        attention, shape = self.module.self_attn, self.shape
        normed = normalise(self.module.input_layernorm, x)
        heads = linear(normed, *self.queries_keys_values).view(*x.shape[:-1], -1, shape.head_dim)
        both = shape.heads + shape.kv_heads
        turning, values = torch.split(heads, [both, shape.kv_heads], -2)
        sizes = [shape.heads, shape.kv_heads]
        if hasattr(attention, "q_norm"):
            queries, keys = torch.split(turning, sizes, -2)
            normed_heads = normalise(attention.q_norm, queries), normalise(attention.k_norm, keys)
            turning = torch.cat(normed_heads, -2)
        queries, keys = torch.split(rotation.turn(turning), sizes, -2)
        return queries, keys, values

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer: the output projection, and the gated feed-forward network."""
        module = self.module
        x = x + module.self_attn.o_proj(attended)
        normed = normalise(module.post_attention_layernorm, x)
        gate, up = linear(normed, *self.gate_and_up).chunk(2, -1)
        out: Tensor = module.mlp.down_proj(silu(gate) * up)
        return x + out


def _side_by_side(dtype: torch.dtype | None, *modules: Any) -> tuple[Tensor, Tensor | None]:
    weight = torch.cat([module.weight for module in modules]).to(dtype)
    if modules[0].bias is None:
        return weight, None
    return weight, torch.cat([module.bias for module in modules]).to(dtype)


def log_probs_of(
    logits: Tensor, targets: Tensor, temperature: float, *, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-prob of each of `targets` (tokens,) by `logits` (tokens, V), and the entropy, in nats.

    The gradient of the entropy is kept only `with_entropy`.
    """
    log_p = torch.log_softmax(logits.float() / temperature, -1)
    taken = log_p.gather(-1, targets[:, None]).squeeze(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and with_entropy):
        entropies = -(log_p.exp() * log_p).sum(-1)
    return taken, entropies
