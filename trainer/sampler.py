"""Sampling: prompts -> completions, exactly from softmax(logits / sampling_temperature).

An episode ends where the task says that the answer ends, at the model's end-of-sequence token, or
at the token limit. What a model writes after its answer is cut off, tokens and all, so that it is
neither verified nor trained on.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from trainer.llama.decode import STEPS_BETWEEN_LOOKS, decode
from trainer.policy import Policy
from trainer.tasks.base import Prompt

AnswerEnd = Callable[[Prompt, str], int | None]

# Rows decoded at once: bounds the key-value cache, and with it the memory of an evaluation.
_ROWS_AT_ONCE = 256


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
        self._over = [False] * len(prompts)

    def __call__(self, rows: Sequence[int], said: Sequence[list[int]]) -> list[bool]:
        eos = self._policy.tokenizer.eos_token_id
        for row, ids in zip(rows, said, strict=True):
            # Newest tokens last: what ended earlier was seen when it did.
            self._over[row] = self._over[row] or eos in ids
        unsure = [(row, ids) for row, ids in zip(rows, said, strict=True) if not self._over[row]]
        texts = _decode(self._policy, [ids for _, ids in unsure])
        for (row, _), text in zip(unsure, texts, strict=True):
            self._over[row] = self._answer_end(self._prompts[row], text) is not None
        return [self._over[row] for row in rows]


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
) -> list[list[Completion]]:
    """Draw `n_samples` completions of every prompt; `sampling_temperature` 0 decodes greedily.

    Returns:
        A group of completions for each prompt, in the order of the prompts.
    """
    encoded = [policy.encode(prompt.text) for prompt in prompts]
    drawn: list[list[int]] = []
    at_once = max(1, _ROWS_AT_ONCE // n_samples)
    for start in range(0, len(prompts), at_once):
        part = prompts[start : start + at_once]
        watch = _Watch(policy, [p for p in part for _ in range(n_samples)], answer_end)
        arguments = (encoded[start : start + at_once], n_samples, max_new_tokens)
        with policy.computing():
            if policy.is_llama_like:
                drawn += decode(policy.model, *arguments, sampling_temperature, watch)
            else:
                drawn += _generate(policy, *arguments, sampling_temperature, watch)
    completions = [
        _cut(policy, prompts[row // n_samples], encoded[row // n_samples], ids, answer_end)
        for row, ids in enumerate(drawn)
    ]
    return [completions[i : i + n_samples] for i in range(0, len(completions), n_samples)]


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
        eos_token_id=policy.tokenizer.eos_token_id,
    )
    rows = [ids for ids in prompts for _ in range(n_samples)]
    width = max(len(ids) for ids in rows)
    padded = [[policy.pad_id] * (width - len(ids)) + list(ids) for ids in rows]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in rows]
    ends = _AnswersEnd(watch, len(rows), width, policy.device)
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
    """Keep the tokens up to the end-of-sequence token, or to the one that ends the answer."""
    eos = policy.tokenizer.eos_token_id
    if eos in sampled:
        sampled = sampled[: sampled.index(eos) + 1]
    [text] = _decode(policy, [sampled])
    end = answer_end(prompt, text)
    if end is None:
        return Completion(prompt, prompt_ids, tuple(sampled), text)
    lengths = range(len(sampled) + 1)
    kept = bisect_left(lengths, end, key=lambda n: len(_decode(policy, [sampled[:n]])[0]))
    return Completion(prompt, prompt_ids, tuple(sampled[:kept]), text[:end])
