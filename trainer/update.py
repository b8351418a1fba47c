"""The train step: completions and their coefficients -> one optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad

from trainer.llama.logprobs import hidden_states, log_probs_of, token_log_probs
from trainer.policy import Policy
from trainer.sampler import Completion

# Tokens of one forward pass, and logits where transformers makes them all; more rows than fit are
# accumulated, so memory stays bounded.
_TOKENS_AT_ONCE = 16_384
_LOGITS_AT_ONCE = 1 << 27


@dataclass(frozen=True, slots=True)
class Term:
    """One completion's part of the loss: `-coefficient * log_prob(completion)`."""

    completion: Completion
    coefficient: float


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is made.

    Attributes:
        sampling_temperature: The log-probs are those of the distribution that was sampled from.
        max_grad_norm: Clip the gradient's norm to this.
        entropy_bonus: Times the mean entropy of a token is taken off the loss.
        kl_coefficient: Times the mean of half the squared log-ratio to the reference model (k2 of
            http://joschu.net/blog/kl-approx.html) is added to it; k1 as a loss would pull nowhere.
        length_normalisation: Divide each sequence's log-prob by its tokens.
    """

    sampling_temperature: float = 1.0
    max_grad_norm: float = 1.0
    entropy_bonus: float = 0.0
    kl_coefficient: float = 0.0
    length_normalisation: bool = False


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What the step saw.

    Attributes:
        loss: The objective's before the step, averaged over groups that carry signal; bonus and
            divergence are not in it.
        grad_norm: Before clipping.
        entropy: Mean entropy of the next-token distribution over the trained tokens, in nats.
        kl: Mean divergence from the reference over the trained tokens, in nats (k3, which is never
            negative); None without a reference.
        skipped: Why the step was not taken, or None.
    """

    loss: float
    grad_norm: float
    entropy: float
    kl: float | None = None
    skipped: str | None = None


def train_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    terms: Sequence[Term],
    options: StepOptions,
    reference: Policy | None = None,
) -> UpdateResult:
    """One step on `loss = -sum(coefficient * log_prob)`; the terms already carry 1 / groups.

    On-policy: every sample is used for one step, by the policy that drew it, temperature included.
    A loss or gradient that is not finite changes nothing.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = entropy = kl = 0.0
    tokens = sum(len(term.completion.ids) for term in terms)
    for chunk in _chunks(terms, _tokens_at_once(policy)):
        seen = token_stats(policy, chunk, options)
        chunk_loss = _objective(chunk, seen, options)
        total = chunk_loss
        if options.entropy_bonus:
            total = total - options.entropy_bonus * seen.entropy / tokens
        if reference is not None:
            with torch.no_grad():
                there = token_stats(reference, chunk, options).log_probs
            ratio = seen.log_probs - there
            total = total + options.kl_coefficient * ratio.square().sum() / 2 / tokens
            kl += float((torch.exp(-ratio) + ratio - 1).detach().sum())
        total.backward()  # type: ignore[no-untyped-call]
        loss += chunk_loss.item()
        entropy += seen.entropy.item()
    norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), options.max_grad_norm))
    result = UpdateResult(loss, norm, entropy / tokens, None if reference is None else kl / tokens)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        return replace(result, skipped=f"loss {loss:.6g}, grad norm {norm:.6g}")
    optimizer.step()
    return result


def _tokens_at_once(policy: Policy) -> int:
    if policy.is_llama_like:
        return _TOKENS_AT_ONCE
    return max(1, min(_TOKENS_AT_ONCE, _LOGITS_AT_ONCE // len(policy.tokenizer)))


def _objective(chunk: Sequence[Term], seen: "TokenStats", options: StepOptions) -> torch.Tensor:
    lengths = [len(term.completion.ids) for term in chunk]
    divisors = lengths if options.length_normalisation else [1] * len(chunk)
    weights = [t.coefficient / max(1, n) for t, n in zip(chunk, divisors, strict=True)]
    like = seen.log_probs
    per_token = like.new_tensor(weights).repeat_interleave(like.new_tensor(lengths).long())
    return -(per_token * like).sum()


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What a model thinks of the tokens of some completions, one after the other.

    Attributes:
        log_probs: Of each token given what is before it (tokens,).
        entropy: Of the next-token distributions, summed over all tokens, in nats.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor


def token_stats(policy: Policy, terms: Sequence[Term], options: StepOptions) -> TokenStats:
    """Run the model over the sequences; ours where it covers the model, else transformers'."""
    completions = [term.completion for term in terms]
    targets = torch.tensor([i for c in completions for i in c.ids], device=policy.device)
    temperature, with_entropy = options.sampling_temperature, options.entropy_bonus > 0
    if policy.is_llama_like:
        model: Any = policy.model
        hidden = hidden_states(model, [(c.prompt_ids, c.ids) for c in completions])
        taken, entropies = token_log_probs(
            hidden, model.lm_head.weight, targets, temperature, with_entropy=with_entropy
        )
    else:
        logits = _logits(policy, completions)
        taken, entropies = log_probs_of(logits, targets, temperature, with_entropy=with_entropy)
    return TokenStats(taken, entropies.sum())


def _logits(policy: Policy, completions: Sequence[Completion]) -> torch.Tensor:
    """The logits that predict the completions' tokens (tokens, V), by transformers."""
    longest = max(len(c.prompt_ids) + len(c.ids) for c in completions)
    rows, mask, predicting = [], [], []
    for c in completions:
        ids = torch.tensor(c.prompt_ids + c.ids, device=policy.device)
        filling = (0, longest - len(ids))
        rows.append(pad(ids, filling, value=policy.pad_id))
        mask.append(pad(torch.ones_like(ids), filling))
        where = torch.arange(longest, device=policy.device)
        # The logits at t predict token t + 1.
        predicting.append((where >= len(c.prompt_ids) - 1) & (where < len(ids) - 1))
    output = policy.model(
        input_ids=torch.stack(rows), attention_mask=torch.stack(mask), use_cache=False
    )
    logits: torch.Tensor = output.logits[torch.stack(predicting)]
    return logits


def _chunks(terms: Sequence[Term], most: int) -> list[list[Term]]:
    """Cut the batch so that no padded chunk exceeds `most` tokens; a row alone always fits.

    The completions of a prompt stay side by side: they share its pass.
    """

    def length(term: Term) -> int:
        return len(term.completion.prompt_ids) + len(term.completion.ids)

    def order(term: Term) -> tuple[int, tuple[int, ...], int]:
        prompt = term.completion.prompt_ids
        return len(prompt), prompt, length(term)

    chunks: list[list[Term]] = []
    longest = 0
    for term in sorted(terms, key=order):
        longest = max(longest, length(term))
        if chunks and longest * (len(chunks[-1]) + 1) <= most:
            chunks[-1].append(term)
        else:
            chunks.append([term])
            longest = length(term)
    return chunks
