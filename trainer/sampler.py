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

from trainer.policy import Policy
from trainer.tasks.base import Prompt

AnswerEnd = Callable[[Prompt, str], int | None]

# Rows decoded at once: bounds the key-value cache, and with it the memory of an evaluation.
_ROWS_AT_ONCE = 256
# Looking for the end of an answer costs a detokenisation, so it is done every few tokens.
_STEPS_BETWEEN_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer: token ids of the prompt and of the answer, and the answer's text."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str


class _AnswersEnd(StoppingCriteria):
    """Stops a row as soon as its answer is complete."""

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], answer_end: AnswerEnd) -> None:
        self._policy, self._prompts, self._answer_end = policy, prompts, answer_end
        self._prompt_length: int | None = None
        self._done = torch.zeros(len(prompts), dtype=torch.bool, device=policy.device)

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor | None,  # noqa: ARG002 - part of transformers' interface
        **_: object,
    ) -> torch.Tensor:
        if self._prompt_length is None:
            self._prompt_length = input_ids.shape[1] - 1
        new = input_ids[:, self._prompt_length :]  # (rows, steps)
        if new.shape[1] % _STEPS_BETWEEN_LOOKS == 0:
            open_rows = (~self._done).nonzero().flatten().tolist()
            texts = _decode(self._policy, new[open_rows].tolist())
            for row, text in zip(open_rows, texts, strict=True):
                self._done[row] = self._answer_end(self._prompts[row], text) is not None
        return self._done.clone()


def _decode(policy: Policy, ids: list[list[int]]) -> list[str]:
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
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=sampling_temperature > 0,
        # Everything that would bend the distribution is off: the update assumes none of it.
        **({"temperature": sampling_temperature, "top_k": 0} if sampling_temperature > 0 else {}),
        pad_token_id=policy.pad_id,
        eos_token_id=policy.tokenizer.eos_token_id,
    )
    rows = [prompt for prompt in prompts for _ in range(n_samples)]
    completions: list[Completion] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        completions += _decode_rows(policy, rows[start : start + _ROWS_AT_ONCE], config, answer_end)
    return [completions[i : i + n_samples] for i in range(0, len(completions), n_samples)]


def _decode_rows(
    policy: Policy, rows: Sequence[Prompt], config: GenerationConfig, answer_end: AnswerEnd
) -> list[Completion]:
    prompt_ids = [policy.tokenizer(row.text)["input_ids"] for row in rows]
    width = max(len(ids) for ids in prompt_ids)
    padded = [[policy.pad_id] * (width - len(ids)) + ids for ids in prompt_ids]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompt_ids]
    output = cast("Any", policy.model).generate(
        input_ids=torch.tensor(padded, device=policy.device),  # (rows, width)
        attention_mask=torch.tensor(mask, device=policy.device),
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([_AnswersEnd(policy, rows, answer_end)]),
    )
    new = output[:, width:].tolist()  # (rows, steps)
    return [
        _cut(policy, prompt, tuple(ids), sampled, answer_end)
        for prompt, ids, sampled in zip(rows, prompt_ids, new, strict=True)
    ]


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
