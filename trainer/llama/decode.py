"""Sampling with a key-value cache that is allocated once.

A prompt is read once, however many samples it gets; a row that has ended leaves the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trainer.llama.blocks import Layer, Norm, Rotation, Shape
from trainer.llama.cache import Cache, Slots
from trainer.llama.kernels import EAGER, Kernels
from trainer.llama.recording import Recording

# Rows and what they say so far -> which of them have ended.
Ended = Callable[[Sequence[int], Sequence[list[int]]], Sequence[bool]]

# Looking whether an answer has ended may cost a detokenisation, so it is done every few tokens.
STEPS_BETWEEN_LOOKS = 4
# Rows that have ended are dropped from the cache once they are this share of it: that copies it.
_SHARE_TO_DROP = 0.25


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n_samples: int,
    max_new_tokens: int,
    sampling_temperature: float,
    ended: Ended,
    kernels: Kernels = EAGER,
    recording: Recording | None = None,
) -> list[list[int]]:
    """Continue each prompt `n_samples` times; a temperature of 0 decodes greedily.

    Draws exactly from softmax(logits / sampling_temperature). A row's tokens go a little beyond
    its end where `ended` was not asked in time: cutting them is the caller's business. What is
    computed of the tokens is kept in `recording`, if there is one.

    Returns:
        New token ids of each row, the samples of a prompt side by side.
    """
    device = model.model.embed_tokens.weight.device
    width = max(len(ids) for ids in prompts)
    # Padded on the left, so that all rows write the same column.
    padding = torch.tensor([width - len(ids) for ids in prompts], device=device)
    ids = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    rotation = Rotation.table(model, width + max_new_tokens)
    is_lower = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if is_lower else None
    shape = Shape.of(model.config)
    layers = [Layer.of(module, shape, dtype) for module in model.model.layers]
    x = model.model.embed_tokens(ids)  # (P, width, hidden)
    if recording is not None:
        samples = len(prompts) * n_samples
        if not recording.begin(layers, len(prompts), width, samples, max_new_tokens - 1):
            recording = None
    hidden, cache = _read(
        layers, x, padding, rotation, n_samples, max_new_tokens, kernels, recording
    )
    at = (width - padding).repeat_interleave(n_samples)  # of each row's next token
    said: list[list[int]] = [[] for _ in range(len(at))]
    running = list(range(len(said)))  # which row of `said` a row of the cache is
    since_look: list[Tensor] = []
    for step in range(max_new_tokens):
        tokens = _draw(_logits(model, hidden), sampling_temperature)
        since_look.append(tokens)
        is_last = step + 1 == max_new_tokens
        if is_last or (step + 1) % STEPS_BETWEEN_LOOKS == 0:
            for row, new in zip(running, torch.stack(since_look, 1).tolist(), strict=True):
                said[row].extend(new)
            since_look = []
            if is_last:
                break
            over = ended(running, [said[row] for row in running])
            if all(over):
                break
            if sum(over) >= _SHARE_TO_DROP * len(over):
                kept = torch.tensor([i for i, is_over in enumerate(over) if not is_over])
                running = [running[i] for i in kept.tolist()]
                kept = kept.to(device)
                tokens, at = tokens[kept], at[kept]
                cache.keep(kept)
                if recording is not None:
                    recording.stand(step, running)
        x = model.model.embed_tokens(tokens)  # (rows, hidden)
        hidden = _step(layers, x, rotation.at(at), cache, kernels, recording)
        at = at + 1
    return said


def _blocked(padding: Tensor, width: int) -> Tensor | None:
    """What to add to the scores so that no row looks at its padding: (prompts, 1, 1, width)."""
    if not padding.any():
        return None
    is_padding = torch.arange(width, device=padding.device) < padding[:, None]
    return torch.zeros(is_padding.shape, device=padding.device).masked_fill_(
        is_padding, float("-inf")
    )[:, None, None]


def _read(
    layers: Sequence[Layer],
    x: Tensor,
    padding: Tensor,
    rotation: Rotation,
    n_samples: int,
    max_new_tokens: int,
    kernels: Kernels,
    recording: Recording | None,
) -> tuple[Tensor, Cache]:
    """Read the prompts (P, width): the last token's hidden state of each row, and their cache."""
    prompts, width = x.shape[:2]
    column = torch.arange(width, device=x.device)
    here = rotation.at((column - padding[:, None]).clamp_(min=0))  # (P, width, 1, head_dim)
    is_text = column >= padding[:, None]
    # A padded position looks at itself: at nothing, it would be not a number.
    seen = (column <= column[:, None]) & (is_text[:, None] | (column == column[:, None]))
    prompt_of = torch.arange(prompts, device=x.device).repeat_interleave(n_samples)
    cache = Cache([], [], _blocked(padding, width), prompt_of, Slots(prompts))
    if recording is not None:
        layers = [
            layer.keeping(results)
            for layer, results in zip(layers, recording.of_prompts, strict=True)
        ]
    for layer in layers:
        shape = layer.shape
        q, k, v = (part.transpose(1, 2) for part in kernels.attend_with(layer, x, here))
        cache.read.append((k.contiguous(), v.contiguous()))
        size = (prompts * n_samples, shape.kv_heads, max_new_tokens, shape.head_dim)
        cache.said.append((k.new_empty(size), v.new_empty(size)))
        attended = scaled_dot_product_attention(
            q, k, v, attn_mask=seen[:, None], enable_gqa=shape.kv_heads != shape.heads
        )
        together = attended.transpose(1, 2).reshape(prompts, width, -1)
        x = kernels.after_attention(layer, x, together)
    return x[:, -1].repeat_interleave(n_samples, 0), cache


def _step(
    layers: Sequence[Layer],
    x: Tensor,
    here: Rotation,
    cache: Cache,
    kernels: Kernels,
    recording: Recording | None,
) -> Tensor:
    """Read one more token of each row: its hidden state (rows, hidden)."""
    kept = None
    if recording is not None:
        kept = recording.of_said[cache.used]
        if len(x) < len(kept[0][0]):
            kept = [[rows[: len(x)] for rows in layer] for layer in kept]
    cache.used += 1
    said = [(keys[:, :, : cache.used], values[:, :, : cache.used]) for keys, values in cache.said]
    # A length of 1 would be compiled apart from all others.
    read_token = kernels.read_token if cache.used > 1 else EAGER.read_token
    return read_token(layers, x, here, cache.read, said, cache.blocked, cache.slots, kept)


def _logits(model: Any, hidden: Tensor) -> Tensor:
    logits: Tensor = model.lm_head(Norm.of(model.model.norm)(hidden))
    single: Tensor = logits.float()
    return single


def _draw(logits: Tensor, sampling_temperature: float) -> Tensor:
    """One token of each row of `logits` (rows, vocabulary)."""
    if sampling_temperature == 0:
        return logits.argmax(-1)
    # The first of exponential clocks that run at the tokens' probabilities (Gumbel's trick).
    clocks = torch.rand_like(logits).log_().neg_()
    return ((logits / sampling_temperature).softmax(-1) / clocks).argmax(-1)
