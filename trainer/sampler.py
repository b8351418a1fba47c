"""Sampling: prompts -> completions, exactly from softmax(logits / sampling_temperature).

An episode ends where the task says that the answer ends, at a token by which the model ends a
sequence, or at the token limit. What a model writes after its answer is cut off, tokens and all, so
that it is neither verified nor trained on.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from trainer.errors import TrainerError
from trainer.llama.decode import STEPS_BETWEEN_LOOKS, decode
from trainer.llama.recording import Recording
from trainer.policy import Policy
from trainer.tasks.base import Prompt
from trainer.update import TOKENS_AT_ONCE

AnswerEnd = Callable[[Prompt, str], int | None]

# What is decoded at once: so many rows at most, and so many bytes of keys and values, on a GPU a
# share of its memory. Not of what is free just now: a resumed run would draw other samples.
_ROWS_AT_ONCE = 256
_CACHE_BYTES = 4 << 30
_CACHE_SHARE_OF_GPU = 1 / 8
# An unfinished text is decoded again once it has grown by this share: at a fixed number of tokens,
# the work would grow with the square of the length.
_SHARE_UNREAD = 16


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer: token ids of the prompt and of the answer, and the answer's text."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str


class _Watch:
    """Tells which rows are over: their answer is complete, or their sequence has ended."""

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], answer_end: AnswerEnd) -> None:
        self._policy, self._prompts, self._answer_end = policy, prompts, answer_end
        self._ends = policy.ends
        self._over = [False] * len(prompts)
        self._read_at = 0

    def __call__(self, rows: Sequence[int], said: Sequence[list[int]]) -> list[bool]:
        for row, ids in zip(rows, said, strict=True):
            # Newest tokens last: what ended earlier was seen when it did.
            is_ended = not self._ends.isdisjoint(ids[-STEPS_BETWEEN_LOOKS:])
            self._over[row] = self._over[row] or is_ended
        length = len(said[0])  # of each: they go on together
        if length >= self._read_at:
            self._read_at = length + length // _SHARE_UNREAD
            self._read(rows, said)
        return [self._over[row] for row in rows]

    def _read(self, rows: Sequence[int], said: Sequence[list[int]]) -> None:
        unsure = [(row, ids) for row, ids in zip(rows, said, strict=True) if not self._over[row]]
        texts = _decode(self._policy, [ids for _, ids in unsure])
        for (row, _), text in zip(unsure, texts, strict=True):
            self._over[row] = self._answer_end(self._prompts[row], text) is not None


class _AnswersEnd(StoppingCriteria):
    """Stops a row of transformers' generate as soon as its answer is complete."""

    def __init__(self, watch: _Watch, rows: int, prompt_length: int, device: torch.device) -> None:
        self._watch, self._prompt_length = watch, prompt_length
        self._done = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor | None,  # noqa: ARG002 - part of transformers' interface
        **_: object,
    ) -> torch.Tensor:
        new = input_ids[:, self._prompt_length :]  # (rows, steps)
        if new.shape[1] % STEPS_BETWEEN_LOOKS == 0:
            running = (~self._done).nonzero().flatten()
            over = self._watch(running.tolist(), new[running].tolist())
            self._done[running] = torch.tensor(over, device=self._done.device)
        return self._done.clone()


def _decode(policy: Policy, ids: list[list[int]]) -> list[str]:
    # Of nothing, the tokenizer would make one empty text.
    if not ids:
        return []
    return policy.tokenizer.batch_decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


@torch.inference_mode()
def sample(
    policy: Policy,
    prompts: Sequence[Prompt],
    n_samples: int,
    max_new_tokens: int,
    sampling_temperature: float,
    answer_end: AnswerEnd,
    recording: Recording | None = None,
) -> list[list[Completion]]:
    """Draw `n_samples` completions of every prompt; `sampling_temperature` 0 decodes greedily.

    What is computed of them is kept in `recording`, if one pass of the update will have room for
    all of them.

    Returns:
        A group of completions for each prompt, in the order of the prompts.

    Raises:
        TrainerError: A prompt is none for this model, or leaves too little room for an answer.
    """
    if not prompts:
        return []
    encoded = [_encode(policy, prompt, max_new_tokens) for prompt in prompts]
    longest = max(map(len, encoded)) + max_new_tokens
    rows = _rows_at_once(policy, longest)
    drawn: list[list[int]] = []
    portions = list(_portions(len(prompts), n_samples, rows))
    is_recorded = len(portions) == 1 and len(prompts) * n_samples * longest <= TOKENS_AT_ONCE
    for part, count in portions:
        watch = _Watch(policy, [prompts[i] for i in part for _ in range(count)], answer_end)
        arguments = ([encoded[i] for i in part], count, max_new_tokens)
        with policy.computing():
            if policy.is_llama_like:
                drawn += decode(
                    policy.model,
                    *arguments,
                    sampling_temperature,
                    watch,
                    policy.kernels,
                    recording if is_recorded else None,
                )
            else:
                drawn += _generate(policy, *arguments, sampling_temperature, watch)
    completions = [
        _cut(policy, prompts[row // n_samples], encoded[row // n_samples], ids, answer_end)
        for row, ids in enumerate(drawn)
    ]
    if recording is not None:
        recording.name((c.prompt_ids, c.ids) for c in completions)
    return [completions[i : i + n_samples] for i in range(0, len(completions), n_samples)]


def _encode(policy: Policy, prompt: Prompt, max_new_tokens: int) -> tuple[int, ...]:
    """The prompt's token ids.

    Raises:
        TrainerError: There are none, or the model has no place or no embedding for one.
    """
    ids = policy.encode(prompt.text)
    where = f"the prompt {prompt.id!r:.80}"
    if not ids:
        raise TrainerError(f"{where} has no token in the checkpoint's tokenizer: leave it out")
    if max(ids) >= policy.embedded:
        token = policy.tokenizer.convert_ids_to_tokens(max(ids))
        raise TrainerError(
            f"{where} has the token {token!r:.80} ({max(ids)}) in the checkpoint's tokenizer, and "
            f"its model knows only those below {policy.embedded}: resize its embeddings"
        )
    longest = policy.positions
    if longest is not None and len(ids) + max_new_tokens > longest:
        raise TrainerError(
            f"{where} has {len(ids)} tokens, with max_new_tokens {max_new_tokens} more than the "
            f"{longest} positions of the model: "
            + (
                f"give --max-new-tokens up to {longest - len(ids)}"
                if len(ids) < longest
                else "leave it out"
            )
        )
    return ids


def _rows_at_once(policy: Policy, length: int) -> int:
    """How many sequences of `length` tokens are decoded together."""
    config: Any = policy.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        return _ROWS_AT_ONCE
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    row: int = 2 * config.num_hidden_layers * kv_heads * head_dim * length * torch.float32.itemsize
    most = _CACHE_BYTES
    if policy.device.type == "cuda":
        total = torch.cuda.get_device_properties(policy.device).total_memory
        most = int(total * _CACHE_SHARE_OF_GPU)
    return max(1, min(_ROWS_AT_ONCE, most // row))


def _portions(prompts: int, n_samples: int, rows: int) -> Iterator[tuple[range, int]]:
    """Which prompts to continue together and how often, so that at most `rows` rows are open."""
    at_once = rows // n_samples
    if at_once:
        for start in range(0, prompts, at_once):
            yield range(start, min(start + at_once, prompts)), n_samples
        return
    for prompt in range(prompts):
        for start in range(0, n_samples, rows):
            yield range(prompt, prompt + 1), min(rows, n_samples - start)


@contextmanager
def _without_its_own(model: Any) -> Iterator[None]:
    """Without the model's generation settings: generate uses them for all that is not set."""
    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


def _generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    n_samples: int,
    max_new_tokens: int,
    sampling_temperature: float,
    watch: _Watch,
) -> list[list[int]]:
    """As `decode`, by transformers: for models that ours does not cover."""
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=sampling_temperature > 0,
        # Everything that would bend the distribution is off: the update assumes none of it.
        **({"temperature": sampling_temperature, "top_k": 0} if sampling_temperature > 0 else {}),
        pad_token_id=policy.pad_id,
        eos_token_id=sorted(policy.ends),
    )
    pad = policy.pad_id
    rows = [ids for ids in prompts for _ in range(n_samples)]
    width = max(len(ids) for ids in rows)
    padded = [[pad] * (width - len(ids)) + list(ids) for ids in rows]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in rows]
    ends = _AnswersEnd(watch, len(rows), width, policy.device)
    with _without_its_own(policy.model):
        output = cast("Any", policy.model).generate(
            input_ids=torch.tensor(padded, device=policy.device),  # (rows, width)
            attention_mask=torch.tensor(mask, device=policy.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([ends]),
        )
    drawn: list[list[int]] = output[:, width:].tolist()
    return drawn


def _cut(
    policy: Policy,
    prompt: Prompt,
    prompt_ids: tuple[int, ...],
    sampled: list[int],
    answer_end: AnswerEnd,
) -> Completion:
    """Keep the tokens up to one that ends the sequence, or to the one that ends the answer."""
    ends = policy.ends
    length = next((at for at, token in enumerate(sampled) if token in ends), len(sampled))
    # The end is trained on, and no part of the text, special token or not.
    [text] = _decode(policy, [sampled[:length]])
    sampled = sampled[: length + 1]
    end = answer_end(prompt, text)
    if end is None:
        return Completion(prompt, prompt_ids, tuple(sampled), text)
    lengths = range(len(sampled) + 1)
    kept = bisect_left(lengths, end, key=lambda n: len(_decode(policy, [sampled[:n]])[0]))
    return Completion(prompt, prompt_ids, tuple(sampled[:kept]), text[:end])
