"""The keys and values of what was read, and reading one more token of each row with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.llama.blocks import Layer, Rotation


@dataclass(frozen=True, slots=True)
class Slots:
    """The rows of each prompt, as a block (prompts, most rows of one).

    Attributes:
        prompts: How many.
        row_in: The row in each slot, any where there is none; None where every slot has its row.
        slot_of: The slot of each row, likewise.
    """

    prompts: int
    row_in: Tensor | None = None
    slot_of: Tensor | None = None

    @staticmethod
    def of(prompt_of: Tensor) -> "Slots":
        """Rows stand in the order of their prompts, and each prompt has one."""
        counts = torch.bincount(prompt_of)
        most = int(counts.max())
        if int(counts.min()) == most:
            return Slots(len(counts))
        rows = torch.arange(len(prompt_of), device=prompt_of.device)
        slot_of = prompt_of * most + rows - (counts.cumsum(0) - counts)[prompt_of]
        row_in = rows.new_zeros(len(counts) * most).index_copy(0, slot_of, rows)
        return Slots(len(counts), row_in, slot_of)

    def by_prompt(self, x: Tensor) -> Tensor:
        """(rows, kv_heads, group, d) -> (prompts, kv_heads, slots of one * group, d)."""
        x = x if self.row_in is None else x.index_select(0, self.row_in)
        split = x.view(self.prompts, -1, *x.shape[1:]).transpose(1, 2)
        return split.reshape(self.prompts, x.shape[1], -1, x.shape[-1])

    def by_row(self, x: Tensor, group: int) -> Tensor:
        """The way back."""
        split = x.view(*x.shape[:2], -1, group, x.shape[-1]).transpose(1, 2)
        rows = split.reshape(-1, *split.shape[2:])
        return rows if self.slot_of is None else rows.index_select(0, self.slot_of)


@dataclass(slots=True)
class Cache:
    """Keys and values of every layer: those of the prompts once, however many go on with one.

    Attributes:
        read: Of the prompts, (prompts, kv_heads, width, head_dim) each.
        said: Of what came after, (rows, kv_heads, max_new_tokens, head_dim); `used` columns hold.
        blocked: What to add to the scores so that nobody looks at padding (prompts, 1, 1, width).
        prompt_of: Of each row, in ascending order.
    """

    read: list[tuple[Tensor, Tensor]]
    said: list[tuple[Tensor, Tensor]]
    blocked: Tensor | None
    prompt_of: Tensor
    slots: Slots
    used: int = 0

    def keep(self, rows: Tensor) -> None:
        """Drop all but these `rows`."""
        self.said = [(keys[rows], values[rows]) for keys, values in self.said]
        prompts, self.prompt_of = torch.unique(self.prompt_of[rows], return_inverse=True)
        self.read = [(keys[prompts], values[prompts]) for keys, values in self.read]
        self.blocked = None if self.blocked is None else self.blocked[prompts]
        self.slots = Slots.of(self.prompt_of)


def read_token(
    layers: Sequence[Layer],
    x: Tensor,
    here: Rotation,
    read: Sequence[tuple[Tensor, Tensor]],
    said: Sequence[tuple[Tensor, Tensor]],
    blocked: Tensor | None,
    slots: Slots,
    kept: Sequence[Sequence[Tensor]] | None = None,
) -> Tensor:
    """Read one more token of each row: its hidden state (rows, hidden), from its embedding `x`.

    `said` ends with the column that this token's keys and values are written to; it and the rest
    are as in Cache. What each layer's products give is written into its part of `kept`, if there is
    any: (rows, one of Layer.widths) each.
    """
    if kept is not None:
        layers = [layer.keeping(results) for layer, results in zip(layers, kept, strict=True)]
    for layer, (prompt_keys, prompt_values), (keys, values) in zip(layers, read, said, strict=True):
        q, keys[:, :, -1], values[:, :, -1] = layer.attend_with(x, here)
        # The heads that share keys stand side by side, as queries of one product.
        q = q.view(len(x), layer.shape.kv_heads, -1, layer.shape.head_dim)
        q = q * layer.shape.head_dim**-0.5
        # And so do all rows that go on with a prompt.
        on_prompt = slots.by_prompt(q) @ prompt_keys.transpose(-1, -2)
        if blocked is not None:
            on_prompt = on_prompt + blocked
        scores = (slots.by_row(on_prompt, q.shape[2]), q @ keys.transpose(-1, -2))
        weights = torch.cat(scores, -1).softmax(-1)
        of_prompt, of_said = torch.split(weights, [prompt_keys.shape[2], keys.shape[2]], -1)
        from_prompt = slots.by_row(slots.by_prompt(of_prompt) @ prompt_values, q.shape[2])
        attended = from_prompt + of_said @ values
        x = layer.after_attention(x, attended.reshape(len(x), -1))
    return x
