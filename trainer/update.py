"""The train step: completions and their coefficients -> one optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
class UpdateResult:
    """What the step saw.

    Attributes:
        loss: Before the step, averaged over groups that carry signal.
        grad_norm: Before clipping.
        entropy: Mean entropy of the next-token distribution over the trained tokens, in nats.
        skipped: Why the step was not taken, or None.
    """

    loss: float
    grad_norm: float
    entropy: float
    skipped: str | None = None


def train_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    terms: Sequence[Term],
    sampling_temperature: float,
    max_grad_norm: float,
) -> UpdateResult:
    """One step on `loss = -sum(coefficient * log_prob)`; the terms already carry 1 / groups.

    The log-probs are those of the distribution that was sampled from, temperature included, which
    makes this the on-policy gradient. A loss or gradient that is not finite changes nothing.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = entropy = 0.0
    tokens = sum(len(term.completion.ids) for term in terms)
    for chunk in _chunks(terms):
        log_probs, chunk_entropy = sequence_log_probs(
            policy, [term.completion for term in chunk], sampling_temperature
        )
        coefficients = torch.tensor([t.coefficient for t in chunk], device=policy.device)
        chunk_loss = -(coefficients * log_probs).sum()
        chunk_loss.backward()  # type: ignore[no-untyped-call]
        loss += chunk_loss.item()
        entropy += chunk_entropy.item()
    norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), max_grad_norm))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        return UpdateResult(loss, norm, entropy / tokens, f"loss {loss:.6g}, grad norm {norm:.6g}")
    optimizer.step()
    return UpdateResult(loss, norm, entropy / tokens)


def sequence_log_probs(
    policy: Policy, completions: Sequence[Completion], sampling_temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each whole completion given its prompt.

    Returns:
        log_probs (B,), and the entropy summed over all completion tokens, without gradient.
    """
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
    logits = output.logits[:, :-1].float() / sampling_temperature  # (B, T-1, V)
    log_p = torch.log_softmax(logits, dim=-1)
    taken = log_p.gather(-1, input_ids[:, 1:, None]).squeeze(-1)  # (B, T-1)
    is_answer = torch.stack(answer)[:, 1:]
    log_probs = (taken * is_answer).sum(-1)
    with torch.no_grad():
        entropies = -(log_p.exp() * log_p).sum(-1)
        entropy = (entropies * is_answer).sum()
    return log_probs, entropy


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
