"""The train step: completions and their coefficients -> one optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad

from trainer.policy import Policy
from trainer.sampler import Completion

# Tokens of one forward pass; more rows than fit are accumulated, so memory stays bounded.
_TOKENS_AT_ONCE = 16_384


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
    for chunk in _chunks(terms):
        seen = token_stats(policy, chunk, options)
        chunk_loss = _objective(chunk, seen, options)
        total = chunk_loss
        if options.entropy_bonus:
            total = total - options.entropy_bonus * seen.entropy / tokens
        if reference is not None:
            with torch.no_grad():
                there = token_stats(reference, chunk, options).log_probs
            ratio = seen.log_probs - there  # (B, T-1), 0 off the answers
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


def _objective(chunk: Sequence[Term], seen: "TokenStats", options: StepOptions) -> torch.Tensor:
    sequences = seen.log_probs.sum(-1)  # (B,)
    if options.length_normalisation:
        lengths = [max(1, len(term.completion.ids)) for term in chunk]
        sequences = sequences / torch.tensor(lengths, device=sequences.device)
    coefficients = torch.tensor([t.coefficient for t in chunk], device=sequences.device)
    return -(coefficients * sequences).sum()


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What a model thinks of the tokens of some completions.

    Attributes:
        log_probs: Of each token given what is before it (B, T-1); 0 where no answer stands.
        entropy: Of the next-token distributions, summed over all answers, in nats.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor


def token_stats(policy: Policy, terms: Sequence[Term], options: StepOptions) -> TokenStats:
    """Run the model over whole sequences, padded on the right."""
    completions = [term.completion for term in terms]
    longest = max(len(c.prompt_ids) + len(c.ids) for c in completions)
    rows, mask, answer = [], [], []
    for c in completions:
        ids = torch.tensor(c.prompt_ids + c.ids, device=policy.device)
        filling = (0, longest - len(ids))
        rows.append(pad(ids, filling, value=policy.pad_id))
        mask.append(pad(torch.ones_like(ids), filling))
        where = torch.arange(longest, device=policy.device)
        answer.append((where >= len(c.prompt_ids)) & (where < len(ids)))
    input_ids = torch.stack(rows)  # (B, T)
    output = policy.model(input_ids=input_ids, attention_mask=torch.stack(mask), use_cache=False)
    # The logits at t predict token t + 1.
    logits = output.logits[:, :-1].float() / options.sampling_temperature  # (B, T-1, V)
    log_p = torch.log_softmax(logits, dim=-1)
    taken = log_p.gather(-1, input_ids[:, 1:, None]).squeeze(-1)  # (B, T-1)
    is_answer = torch.stack(answer)[:, 1:]
    # A gradient of the entropy costs as much as that of the loss: only where it is wanted.
    with torch.set_grad_enabled(torch.is_grad_enabled() and options.entropy_bonus > 0):
        entropies = -(log_p.exp() * log_p).sum(-1)
        entropy = (entropies * is_answer).sum()
    return TokenStats(taken * is_answer, entropy)


def _chunks(terms: Sequence[Term]) -> list[list[Term]]:
    """Cut the batch so that no padded chunk exceeds _TOKENS_AT_ONCE; a row alone always fits."""
    by_length = sorted(terms, key=lambda t: len(t.completion.prompt_ids) + len(t.completion.ids))
    chunks: list[list[Term]] = []
    for term in by_length:
        length = len(term.completion.prompt_ids) + len(term.completion.ids)
        if chunks and length * (len(chunks[-1]) + 1) <= _TOKENS_AT_ONCE:
            chunks[-1].append(term)
        else:
            chunks.append([term])
    return chunks
