"""What sampling has computed of a batch, so that the update need not compute it again.

The update's first step asks for the forward pass of the tokens that were sampled, by the weights
that sampled them. Its matrix products were computed then, one token after the other; kept, they
leave to the update what is cheap between them, and the gradients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.llama.blocks import Layer

Ids = tuple[int, ...]

# 1 GiB of float32.
_MOST_NUMBERS = 1 << 28


@dataclass(slots=True)
class Room:
    """Memory for one recording after the other: to get it anew each time costs more than to use it.

    It is as large as the largest recording was.
    """

    numbers: Tensor = field(default_factory=lambda: torch.empty(0))

    def take(self, count: int) -> Tensor:
        """So many numbers, of any value."""
        if len(self.numbers) < count:
            # What inference mode makes can be no part of a gradient.
            with torch.inference_mode(mode=False):
                self.numbers = torch.empty(0)  # both would not have to fit
                self.numbers = torch.empty(count)
        return self.numbers[:count]


@dataclass(slots=True)
class Recording:
    """The results of the matrix products of every token that was read: empty until it is filled.

    Its rows are those of the prompts (prompts * width, padding on the left included), then those of
    what came after (samples * columns), one column less than tokens: the last one is never read.

    Attributes:
        of_prompts: Of each layer, the results of its products: (prompts, width, that of
            Layer.widths) each.
        of_said: Of each column, likewise: (samples, that of Layer.widths) each.
    """

    room: Room = field(default_factory=Room)
    of_prompts: list[list[Tensor]] = field(default_factory=list)
    of_said: list[list[list[Tensor]]] = field(default_factory=list)
    _layers: list[list[Tensor]] = field(default_factory=list)
    _prompts: int = 0
    _width: int = 0
    _columns: int = 0
    _standing: list[tuple[int, list[int]]] = field(default_factory=list)
    _end_of: dict[Ids, int] = field(default_factory=dict)
    _sample_of: dict[tuple[Ids, Ids], int] = field(default_factory=dict)

    def begin(
        self, layers: Sequence[Layer], prompts: int, width: int, samples: int, columns: int
    ) -> bool:
        """Make room, unless that is too much to keep."""
        read, said = prompts * width, samples * columns
        widths = layers[0].widths
        count = len(layers) * (read + said) * sum(widths)
        if count > _MOST_NUMBERS:
            return False
        for of_layer in self.room.take(count).chunk(len(layers)):
            parts = torch.split(of_layer, [(read + said) * wide for wide in widths])
            rows = [part.view(-1, wide) for part, wide in zip(parts, widths, strict=True)]
            self._layers.append(rows)
            self.of_prompts.append([each[:read].view(prompts, width, -1) for each in rows])
        by_column = [
            [each[read:].view(samples, columns, each.shape[1]).unbind(1) for each in rows]
            for rows in self._layers
        ]
        self.of_said = [[[r[i] for r in rows] for rows in by_column] for i in range(columns)]
        self._prompts, self._width, self._columns = prompts, width, columns
        self._standing = [(0, list(range(samples)))]
        return True

    def stand(self, column: int, samples: list[int]) -> None:
        """From `column` on, these samples are the first rows of each column."""
        self._standing.append((column, samples))

    def name(self, sequences: Iterable[tuple[Ids, Ids]]) -> None:
        """Say what was read: prompt and completion of each sample, in order.

        A completion may be cut. Two that are equal were computed equally: one is enough.
        """
        if not self._layers:
            return
        each = len(self._standing[0][1]) // self._prompts
        for sample, (prompt, completion) in enumerate(sequences):
            self._end_of.setdefault(prompt, (sample // each + 1) * self._width)
            self._sample_of.setdefault((prompt, completion), sample)

    def holds(self, prompt: Ids, completion: Ids) -> bool:
        """Whether all of it was read here."""
        return (prompt, completion) in self._sample_of

    def rows(self, prompts: Iterable[Ids], read: Iterable[tuple[Ids, Ids]]) -> list[list[Tensor]]:
        """Of each layer's products: the prompts' tokens, then all but the last of completions'."""
        where: list[int] = []
        for prompt in prompts:
            end = self._end_of[prompt]
            where += range(end - len(prompt), end)
        for sequence in read:
            where += self._places(self._sample_of[sequence], len(sequence[1]) - 1)
        if where == list(range(len(self._layers[0][0]))):
            return self._layers
        index = torch.tensor(where)
        return [[rows.index_select(0, index) for rows in layer] for layer in self._layers]

    def _places(self, sample: int, columns: int) -> list[int]:
        """Where the first `columns` of a sample stand."""
        places: list[int] = []
        ends = [start for start, _ in self._standing[1:]] + [columns]
        for (start, standing), end in zip(self._standing, ends, strict=True):
            if start >= columns:
                break
            first = self._prompts * self._width + standing.index(sample) * self._columns
            places += range(first + start, first + min(end, columns))
        return places
