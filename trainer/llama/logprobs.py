"""Log-probs of completions for the train step: one pass over each prompt, no work on padding.

Everything but attention runs on packed rows, one a token that is there. Attention alone sees
padded blocks: the prompts among themselves, and each completion on its prompt and itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from trainer.llama.blocks import Layer, Norm, Rotation, Shape
from trainer.llama.kernels import EAGER, Kernels
from trainer.llama.recording import Ids, Recording

# 64 MiB of float32, and three or four times as much while their softmax is taken.
_LOGITS_AT_ONCE = 1 << 24


@dataclass(frozen=True, slots=True)
class _Block:
    """Sequences of unequal length as packed rows and as a padded block (sequences, width)."""

    lengths: list[int]
    width: int
    where: Tensor | None  # of each packed row in the flat block; None where nothing is padded

    @staticmethod
    def of(lengths: list[int], device: torch.device) -> "_Block":
        width = max(lengths)
        if min(lengths) == width:
            return _Block(lengths, width, None)
        there = torch.arange(width) < torch.tensor(lengths)[:, None]
        return _Block(lengths, width, there.flatten().nonzero().flatten().to(device))

    def pad(self, rows: Tensor) -> Tensor:
        """(tokens, heads, head_dim) -> (sequences, heads, width, head_dim)."""
        size = (len(self.lengths), self.width, *rows.shape[1:])
        if self.where is not None:
            flat = rows.new_zeros(size[0] * size[1], *rows.shape[1:])
            rows = flat.index_copy(0, self.where, rows)
        return rows.view(size).transpose(1, 2)

    def pack(self, block: Tensor) -> Tensor:
        """(sequences, heads, width, head_dim) -> (tokens, heads * head_dim)."""
        rows = block.transpose(1, 2).reshape(len(self.lengths) * self.width, -1)
        return rows if self.where is None else rows.index_select(0, self.where)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompts, what follows them, and how the two meet.

    Attributes:
        ids: Prompts' tokens, then those of the completions that are read (all but the last ones).
        positions: Of each of `ids` in its sequence.
        prompt_of: The prompt of each completion that is read.
        predicting: For each token of each completion, the row that predicts it.
        known: Of each layer, what its matrix products give, (rows, one of Layer.widths) each.
    """

    ids: Tensor
    positions: Tensor
    prompts: _Block
    completions: _Block | None
    prompt_of: Tensor
    bias: Tensor | None
    predicting: Tensor
    known: list[list[Tensor]] | None


def hidden_states(
    model: Any,
    sequences: Sequence[tuple[Ids, Ids]],
    *,
    recompute: bool = False,
    kernels: Kernels = EAGER,
    recording: Recording | None = None,
) -> Tensor:
    """Of `sequences` (prompt, completion): the state that predicts each completion's tokens.

    With `recompute`, the backward pass computes each layer again instead of keeping it in memory.
    A `recording` holds all of them, made by the weights as they are: no matrix product is computed
    again.

    Returns:
        (tokens of all completions, hidden), after the last normalisation.
    """
    embedding = model.model.embed_tokens
    batch = _lay_out(sequences, embedding.weight, recording)
    shape = Shape.of(model.config)
    longest = max(len(prompt) + len(completion) for prompt, completion in sequences)
    with torch.no_grad():
        rotation = Rotation.table(model, longest).at(batch.positions)
    x = embedding(batch.ids)  # (rows, hidden)
    for i, module in enumerate(model.model.layers):
        known = None if batch.known is None else batch.known[i]
        arguments = (module, shape, x, rotation, batch, kernels, known)
        x = _recomputed(_layer, *arguments) if recompute else _layer(*arguments)
    return Norm.of(model.model.norm)(x.index_select(0, batch.predicting))


def _lay_out(
    sequences: Sequence[tuple[Ids, Ids]], like: Tensor, recording: Recording | None
) -> _Batch:
    device = like.device
    prompts = list(dict.fromkeys(prompt for prompt, _ in sequences))
    number = {prompt: i for i, prompt in enumerate(prompts)}
    last_row = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1
    ids = [token for prompt in prompts for token in prompt]
    positions = [i for prompt in prompts for i in range(len(prompt))]
    predicting: list[int] = []
    read: list[tuple[Ids, Ids]] = []  # those of more than one token
    for prompt, completion in sequences:
        if not completion:
            continue
        n = number[prompt]
        inner = completion[:-1]
        predicting += [int(last_row[n]), *range(len(ids), len(ids) + len(inner))]
        if inner:
            read.append((prompt, completion))
            ids += inner
            positions += range(len(prompt), len(prompt) + len(inner))
    prompt_block = _Block.of([len(prompt) for prompt in prompts], device)
    block = _Block.of([len(ids) - 1 for _, ids in read], device) if read else None
    prompt_of = torch.tensor(
        [number[prompt] for prompt, _ in read], dtype=torch.long, device=device
    )
    return _Batch(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, device=device),
        prompts=prompt_block,
        completions=block,
        prompt_of=prompt_of,
        bias=None if block is None else _bias(prompt_block, block, prompt_of, like),
        predicting=torch.tensor(predicting, dtype=torch.long, device=device),
        known=None if recording is None else recording.rows(prompts, read),
    )


def _bias(prompts: _Block, completions: _Block, prompt_of: Tensor, like: Tensor) -> Tensor:
    """What each place of a completion may look at: (1 or sequences, 1, width, widths of both)."""
    device = like.device
    causal = torch.ones(completions.width, completions.width, dtype=torch.bool, device=device)
    lengths = torch.tensor(prompts.lengths, device=device)[prompt_of]
    is_prompt = torch.arange(prompts.width, device=device) < lengths[:, None]  # (S, Lp)
    if prompts.where is None:
        is_prompt = is_prompt[:1]
    seen = torch.cat(
        (
            is_prompt[:, None].expand(-1, completions.width, -1),
            causal.tril().expand(len(is_prompt), -1, -1),
        ),
        -1,
    )
    bias = torch.zeros(seen.shape, dtype=like.dtype, device=device)
    return bias.masked_fill_(~seen, float("-inf"))[:, None]


def _recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it now, keep nothing but the arguments, and call it again in the backward pass."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _layer(
    module: Any,
    shape: Shape,
    x: Tensor,
    rotation: Rotation,
    batch: _Batch,
    kernels: Kernels,
    known: Sequence[Tensor] | None,
) -> Tensor:
    layer = Layer.of(module, shape)
    if known is not None:
        layer = layer.knowing(known)
    grouped = layer.shape.kv_heads != layer.shape.heads
    parts = kernels.attend_with(layer, x, rotation)
    ends = sum(batch.prompts.lengths)
    q, k, v = (batch.prompts.pad(part[:ends]) for part in parts)
    # Padding stands on the right, where causality hides it.
    seen = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    attended = batch.prompts.pack(seen)
    if batch.completions is not None:
        own_q, own_k, own_v = (batch.completions.pad(part[ends:]) for part in parts)
        keys = torch.cat((k.index_select(0, batch.prompt_of), own_k), 2)
        values = torch.cat((v.index_select(0, batch.prompt_of), own_v), 2)
        seen = scaled_dot_product_attention(
            own_q, keys, values, attn_mask=batch.bias, enable_gqa=grouped
        )
        attended = torch.cat((attended, batch.completions.pack(seen)))
    return kernels.after_attention(layer, x, attended)


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float,
    *,
    with_entropy: bool,
    kernels: Kernels = EAGER,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each of `targets` (tokens,), and the entropy of its distribution, in nats.

    The logits of all tokens never stand in memory together: they are made in portions, and again
    in the backward pass. The gradient of the entropy is kept only `with_entropy`.
    """
    portion = max(1, _LOGITS_AT_ONCE // len(weight))
    found = [
        _recomputed(
            _log_probs,
            hidden[i : i + portion],
            weight,
            targets[i : i + portion],
            temperature,
            with_entropy,
            kernels,
        )
        if len(hidden) > portion
        else _log_probs(hidden, weight, targets, temperature, with_entropy, kernels)
        for i in range(0, max(1, len(hidden)), portion)
    ]
    log_probs, entropies = zip(*found, strict=True)
    return torch.cat(log_probs), torch.cat(entropies)


def _log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float,
    with_entropy: bool,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    logits = linear(hidden, weight)
    return kernels.log_probs_of(logits, targets, temperature, with_entropy=with_entropy)
