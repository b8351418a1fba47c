"""The train step: completions and their coefficients -> one optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.nn.functional import pad

from trainer.llama.blocks import log_probs_of
from trainer.llama.logprobs import hidden_states, token_log_probs
from trainer.llama.recording import Recording
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks

# Tokens of one forward pass, and logits where transformers makes them all; more rows than fit are
# accumulated, so memory stays bounded.
TOKENS_AT_ONCE = 16_384
_LOGITS_AT_ONCE = 1 << 27


class TokenIds(Protocol):
    """A prompt's token ids, and those of what follows it: whose log-prob is meant."""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """What is given."""
        ...

    @property
    def ids(self) -> tuple[int, ...]:
        """What is trained on."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """One completion's part of the loss: `-coefficient * log_prob(completion)`."""

    completion: TokenIds
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
        updates_per_batch: Steps on the same samples.
        clip_low: From the second step on, a token's probability ratio to the policy that drew it
            counts down to 1 - clip_low (PPO, arXiv 1707.06347, eq. 7),
        clip_high: and up to 1 + clip_high: above clip_low, rare tokens have room to become likely
            (DAPO, arXiv 2503.14476, section 3.1).
        gradient_checkpointing: Compute each layer again in the backward pass, to save memory.
    """

    sampling_temperature: float = 1.0
    max_grad_norm: float = 1.0
    entropy_bonus: float = 0.0
    kl_coefficient: float = 0.0
    length_normalisation: bool = False
    updates_per_batch: int = 1
    clip_low: float = 0.2
    clip_high: float = 0.28
    gradient_checkpointing: bool = False


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
        skipped: Why a step was not taken, or None.
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
    ranks: Ranks = ALONE,
    recording: Recording | None = None,
) -> UpdateResult:
    """Steps on `loss = -sum(coefficient * log_prob)`; the terms already carry 1 / groups.

    The first step is on-policy: by the policy that drew the samples, temperature included. Those
    after it, where `updates_per_batch` asks for any, use each token's probability ratio to that
    policy instead, clipped. A step whose loss or gradient is not finite is not taken, and is the
    last of its batch. Of several processes each gets all terms, and computes its share of them.
    What `recording` has kept of the samples, the first step does not compute again.
    """
    own = terms if ranks.size == 1 else dealt(terms, ranks.size)[ranks.rank]
    chunks = _chunks_of(own, recording, _tokens_at_once(policy))
    tokens = sum(len(term.completion.ids) for term in terms)
    first: UpdateResult | None = None
    for step in range(1, options.updates_per_batch + 1):
        optimizer.zero_grad(set_to_none=True)
        found = _backward(policy, chunks, tokens, options, reference, ranks)
        first = first or found
        if not (math.isfinite(found.loss) and math.isfinite(found.grad_norm)):
            optimizer.zero_grad(set_to_none=True)
            which = f" at step {step} of {options.updates_per_batch}" if step > 1 else ""
            why = f"loss {found.loss:.6g}, grad norm {found.grad_norm:.6g}{which}"
            return replace(first, skipped=why)
        optimizer.step()
    if first is None:
        raise ValueError(f"updates_per_batch is {options.updates_per_batch}")
    return first


@dataclass(slots=True)
class _Chunk:
    """Terms of one forward pass.

    Attributes:
        before: Their tokens' log-probs (tokens,) before the first step.
        recording: Holds all of them; of use to the first step alone.
    """

    terms: Sequence[Term]
    before: torch.Tensor | None = None
    recording: Recording | None = None


def records_samples(policy: Policy, options: StepOptions, ranks: Ranks) -> bool:
    """Whether to keep what sampling computes: a step that may use it, and saves time by it.

    On a GPU and in lower precision it has not been tried; another process's samples are not here.
    """
    return (
        policy.is_llama_like
        and policy.device.type == "cpu"
        and policy.precision is torch.float32
        and not options.gradient_checkpointing
        and ranks.size == 1
    )


def _chunks_of(terms: Sequence[Term], recording: Recording | None, most: int) -> list[_Chunk]:
    """The terms that are recorded, which fit into one pass, and the others in passes of `most`."""
    if recording is None:
        return [_Chunk(part) for part in _chunks(terms, most)]
    held: list[Term] = []
    others: list[Term] = []
    for term in terms:
        is_held = recording.holds(term.completion.prompt_ids, term.completion.ids)
        (held if is_held else others).append(term)
    recorded = [_Chunk(held, recording=recording)] if held else []
    return recorded + [_Chunk(part) for part in _chunks(others, most)]


def _backward(
    policy: Policy,
    chunks: Sequence[_Chunk],
    tokens: int,
    options: StepOptions,
    reference: Policy | None,
    ranks: Ranks,
) -> UpdateResult:
    """Fill in the gradients, clipped, and say what was seen."""
    loss = entropy = kl = 0.0
    for chunk in chunks:
        recording = chunk.recording if chunk.before is None else None
        seen = token_stats(policy, chunk.terms, options, recording)
        chunk_loss = _objective(chunk, seen, options)
        total = chunk_loss
        if options.entropy_bonus:
            total = total - options.entropy_bonus * seen.entropy / tokens
        if reference is not None:
            with torch.no_grad():
                there = token_stats(reference, chunk.terms, options).log_probs
            ratio = seen.log_probs - there
            total = total + options.kl_coefficient * ratio.square().sum() / 2 / tokens
            kl += float((torch.exp(-ratio) + ratio - 1).detach().sum())
        total.backward()  # type: ignore[no-untyped-call]
        loss += chunk_loss.item()
        entropy += seen.entropy.item()
        if chunk.before is None:
            chunk.before = seen.log_probs.detach()
    ranks.add_gradients(policy.model.parameters())
    loss, entropy, kl = ranks.add(loss, entropy, kl)
    norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), options.max_grad_norm))
    return UpdateResult(loss, norm, entropy / tokens, None if reference is None else kl / tokens)


def _tokens_at_once(policy: Policy) -> int:
    if policy.is_llama_like:
        return TOKENS_AT_ONCE
    return max(1, min(TOKENS_AT_ONCE, _LOGITS_AT_ONCE // len(policy.tokenizer)))


def _objective(chunk: _Chunk, seen: "TokenStats", options: StepOptions) -> torch.Tensor:
    lengths = [len(term.completion.ids) for term in chunk.terms]
    divisors = lengths if options.length_normalisation else [1] * len(lengths)
    weights = [t.coefficient / max(1, n) for t, n in zip(chunk.terms, divisors, strict=True)]
    like = seen.log_probs
    per_token = like.new_tensor(weights).repeat_interleave(like.new_tensor(lengths).long())
    if chunk.before is None:
        return -(per_token * like).sum()
    ratio = torch.exp(like - chunk.before)
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    return -torch.minimum(per_token * ratio, per_token * clipped).sum()


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What a model thinks of the tokens of some completions, one after the other.

    Attributes:
        log_probs: Of each token given what is before it (tokens,).
        entropy: Of the next-token distributions, summed over all tokens, in nats.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor


def token_stats(
    policy: Policy,
    terms: Sequence[Term],
    options: StepOptions,
    recording: Recording | None = None,
) -> TokenStats:
    """Run the model over the sequences; ours where it covers the model, else transformers'."""
    completions = [term.completion for term in terms]
    targets = torch.tensor([i for c in completions for i in c.ids], device=policy.device)
    temperature, with_entropy = options.sampling_temperature, options.entropy_bonus > 0
    with policy.computing():
        if policy.is_llama_like:
            model: Any = policy.model
            sequences = [(c.prompt_ids, c.ids) for c in completions]
            hidden = hidden_states(
                model,
                sequences,
                recompute=options.gradient_checkpointing,
                kernels=policy.kernels,
                recording=recording,
            )
            taken, entropies = token_log_probs(
                hidden,
                model.lm_head.weight,
                targets,
                temperature,
                with_entropy=with_entropy,
                kernels=policy.kernels,
            )
        else:
            logits = _logits(policy, completions)
            taken, entropies = log_probs_of(logits, targets, temperature, with_entropy=with_entropy)
    return TokenStats(taken, entropies.sum())


def _logits(policy: Policy, completions: Sequence[TokenIds]) -> torch.Tensor:
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


def dealt(terms: Sequence[Term], size: int) -> list[list[Term]]:
    """The terms in `size` parts with about as many tokens each, a prompt's whole in one of them."""
    prompts: dict[tuple[int, ...], list[Term]] = {}
    for term in terms:
        prompts.setdefault(term.completion.prompt_ids, []).append(term)
    tokens = {ids: sum(map(_length, group)) for ids, group in prompts.items()}
    parts: list[list[Term]] = [[] for _ in range(size)]
    loads = [0] * size
    for ids in sorted(prompts, key=lambda ids: -tokens[ids]):
        least = loads.index(min(loads))
        parts[least] += prompts[ids]
        loads[least] += tokens[ids]
    return parts


def _length(term: Term) -> int:
    return len(term.completion.prompt_ids) + len(term.completion.ids)


def _chunks(terms: Sequence[Term], most: int) -> list[list[Term]]:
    """Cut the batch so that no padded chunk exceeds `most` tokens; a row alone always fits.

    The completions of a prompt stay side by side: they share its pass.
    """

    def order(term: Term) -> tuple[int, tuple[int, ...], int]:
        prompt = term.completion.prompt_ids
        return len(prompt), prompt, _length(term)

    chunks: list[list[Term]] = []
    longest = 0
    for term in sorted(terms, key=order):
        longest = max(longest, _length(term))
        if chunks and longest * (len(chunks[-1]) + 1) <= most:
            chunks[-1].append(term)
        else:
            chunks.append([term])
            longest = _length(term)
    return chunks
