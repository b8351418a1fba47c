"""The arithmetic of one decoder layer, and of what predicts a token, on packed rows of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Norm:
    """Root mean square normalisation by the last dimension."""

    weight: Tensor
    epsilon: float

    @staticmethod
    def of(module: Any) -> "Norm":
        """What transformers' `module` does."""
        return Norm(module.weight, module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the rows of `x`."""
        return rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix and a bias: of one linear layer, or of several side by side.

    Attributes:
        known: What it gives of the rows that it will be asked for, where that was computed before.
        kept_in: Where to write what it gives, (rows, as wide as the matrix is high).
    """

    weight: Tensor
    bias: Tensor | None
    known: Tensor | None = None
    kept_in: Tensor | None = None

    @staticmethod
    def of(*modules: Any, dtype: torch.dtype | None = None) -> "Product":
        """What multiplies the same rows as `modules`, cast to `dtype` if there is one."""
        weights, biases = [m.weight for m in modules], [m.bias for m in modules]
        return Product(
            _side_by_side(weights).to(dtype),
            None if biases[0] is None else _side_by_side(biases).to(dtype),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply the rows of `x`."""
        if self.known is not None:
            known: Tensor = _Known.apply(x, self.weight, self.bias, self.known)  # type: ignore[no-untyped-call]
            return known
        given = linear(x, self.weight, self.bias)
        if self.kept_in is not None:
            self.kept_in.copy_(given)
        return given


class _Known(torch.autograd.Function):
    """y = x W^T + b where y (rows, out) is known: nothing to compute but the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, known: Tensor) -> Tensor:
        """Give y; keep x (rows, in) and W (out, in)."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return known.view_as(known)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """dL/dx = dL/dy W, dL/dW = (dL/dy)^T x, dL/db = the sum of dL/dy over the rows."""
        [by_y] = gradients
        x, weight = ctx.saved_tensors
        return by_y @ weight, by_y.T @ x, by_y.sum(0) if ctx.has_bias else None, None


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoder layer: nothing but tensors, with matrices side by side that multiply the same rows.

    Attributes:
        before_attention: And `before_mlp`: the normalisations.
        of_queries: And `of_keys`, where the model normalises heads.
    """

    shape: Shape
    before_attention: Norm
    queries_keys_values: Product
    of_queries: Norm | None
    of_keys: Norm | None
    output: Product
    before_mlp: Norm
    gate_and_up: Product
    down: Product

    @staticmethod
    def of(module: Any, shape: Shape, dtype: torch.dtype | None = None) -> "Layer":
        """The layer that transformers' `module` is; gradients flow back into its weights.

        The matrices are cast to `dtype` once, where many steps would each cast them.
        """
        attention, mlp = module.self_attn, module.mlp
        normalises = hasattr(attention, "q_norm")
        return Layer(
            shape,
            Norm.of(module.input_layernorm),
            Product.of(attention.q_proj, attention.k_proj, attention.v_proj, dtype=dtype),
            Norm.of(attention.q_norm) if normalises else None,
            Norm.of(attention.k_norm) if normalises else None,
            Product.of(attention.o_proj, dtype=dtype),
            Norm.of(module.post_attention_layernorm),
            Product.of(mlp.gate_proj, mlp.up_proj, dtype=dtype),
            Product.of(mlp.down_proj, dtype=dtype),
        )

    @property
    def widths(self) -> list[int]:
        """Of a row that each matrix product gives, in the order in which they are computed."""
        return [len(each.weight) for each in self._products]

    @property
    def _products(self) -> tuple[Product, ...]:
        return self.queries_keys_values, self.output, self.gate_and_up, self.down

    def keeping(self, results: Sequence[Tensor]) -> "Layer":
        """One that writes what its products give into `results`, (rows, one of `widths`) each."""
        pairs = zip(self._products, results, strict=True)
        return self._with(*(replace(product, kept_in=result) for product, result in pairs))

    def knowing(self, results: Sequence[Tensor]) -> "Layer":
        """One that has its products computed already: `results` are what `keeping` wrote."""
        pairs = zip(self._products, results, strict=True)
        return self._with(*(replace(product, known=result) for product, result in pairs))

    def _with(
        self, first: Product, output: Product, gate_and_up: Product, down: Product
    ) -> "Layer":
        return replace(
            self, queries_keys_values=first, output=output, gate_and_up=gate_and_up, down=down
        )

    def attend_with(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the rows `x` (..., hidden): (..., heads, head_dim)."""
        shape = self.shape
        heads = self.queries_keys_values(self.before_attention(x))
        heads = heads.view(*x.shape[:-1], -1, shape.head_dim)
        both = shape.heads + shape.kv_heads
        turning, values = torch.split(heads, [both, shape.kv_heads], -2)
        sizes = [shape.heads, shape.kv_heads]
        if self.of_queries is not None and self.of_keys is not None:
            queries, keys = torch.split(turning, sizes, -2)
            turning = torch.cat((self.of_queries(queries), self.of_keys(keys)), -2)
        queries, keys = torch.split(rotation.turn(turning), sizes, -2)
        return queries, keys, values

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer: the output projection, and the gated feed-forward network."""
        x = x + self.output(attended)
        gate, up = self.gate_and_up(self.before_mlp(x)).chunk(2, -1)
        return x + self.down(silu(gate) * up)


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
