"""Our own sampling and log-probs say what transformers says."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainer.llama import logprobs
from trainer.llama.blocks import Product, covers
from trainer.llama.decode import decode
from trainer.llama.kernels import EAGER, Kernels, compiled
from trainer.llama.logprobs import hidden_states, token_log_probs
from trainer.llama.recording import Recording

VOCABULARY = 40
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZE, num_key_value_heads=4, tie_word_embeddings=True)
    ),
    "llama, grouped heads": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SIZE,
            num_key_value_heads=2,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        )
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE, num_key_value_heads=1, head_dim=16)),
}
Ids = tuple[int, ...]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    made = MODELS[request.param]().eval()
    # The initial weights are so small that every distribution would be flat.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else parameter.add_(
                torch.randn_like(parameter) * 0.1
            )
    return made


def never(rows: Sequence[int], _: Sequence[list[int]]) -> list[bool]:
    return [False] * len(rows)


def prompts_of(*lengths: int) -> list[Ids]:
    random = Random(1)
    return [tuple(random.randrange(VOCABULARY) for _ in range(n)) for n in lengths]


@torch.no_grad()
def reference_log_probs(model: Any, prompt: Ids, completion: Ids) -> torch.Tensor:
    """One sequence, alone and without padding, by transformers."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return -cross_entropy(logits, torch.tensor(completion), reduction="none")


def test_greedy_decoding_is_generates(model: Any) -> None:
    prompts = prompts_of(5, 9, 1)
    said = decode(model, prompts, 1, 12, 0.0, never)
    config = GenerationConfig(max_new_tokens=12, do_sample=False, pad_token_id=0)
    for prompt, ids in zip(prompts, said, strict=True):
        whole = model.generate(torch.tensor([prompt]), generation_config=config)
        assert ids == whole[0, len(prompt) :].tolist()


def test_samples_have_the_probabilities_of_the_model(model: Any) -> None:
    torch.manual_seed(0)
    prompts, n, temperature = prompts_of(3, 6), 4000, 0.7
    said = decode(model, prompts, n, 2, temperature, never)
    for i, prompt in enumerate(prompts):
        rows = said[i * n : (i + 1) * n]
        logits = model(torch.tensor([prompt])).logits[0, -1].detach()
        expected = torch.softmax(logits / temperature, -1)
        counts = torch.bincount(torch.tensor([row[0] for row in rows]), minlength=VOCABULARY)
        error = (expected * (1 - expected) / n).sqrt()
        # 80 comparisons: five standard errors, and a count more where next to none is expected.
        assert ((counts / n - expected).abs() <= 5 * error + 1 / n).all()
        # The second token is drawn given the first.
        first = int(counts.argmax())
        seconds = torch.tensor([row[1] for row in rows if row[0] == first])
        logits = model(torch.tensor([(*prompt, first)])).logits[0, -1].detach()
        expected = torch.softmax(logits / temperature, -1)
        shares = torch.bincount(seconds, minlength=VOCABULARY) / len(seconds)
        error = (expected * (1 - expected) / len(seconds)).sqrt()
        assert ((shares - expected).abs() <= 5 * error + 1 / len(seconds)).all()


def test_rows_that_end_leave_the_others_as_they_were(model: Any) -> None:
    prompts = prompts_of(4, 7, 2, 5)
    whole = decode(model, prompts, 1, 20, 0.0, never)
    ends = {0: 3, 1: 9, 2: 14, 3: 20}

    def ended(rows: Sequence[int], said: Sequence[list[int]]) -> list[bool]:
        return [len(ids) >= ends[row] for row, ids in zip(rows, said, strict=True)]

    for row, ids in enumerate(decode(model, prompts, 1, 20, 0.0, ended)):
        assert ids == whole[row][: len(ids)]
        assert ends[row] <= len(ids)
    assert len(decode(model, prompts[:1], 1, 20, 0.0, ended)[0]) == 4


def test_rows_of_a_prompt_end_one_by_one(model: Any) -> None:
    """However many are left of each prompt, they go on from it."""
    prompts, n = prompts_of(4, 7, 2, 5), 3
    whole = decode(model, prompts, 1, 20, 0.0, never)
    ends = [20, 3, 3, 3, 3, 3, 9, 14, 3, 20, 20, 20]  # of the second prompt, none is left

    def ended(rows: Sequence[int], said: Sequence[list[int]]) -> list[bool]:
        return [len(ids) >= ends[row] for row, ids in zip(rows, said, strict=True)]

    for row, ids in enumerate(decode(model, prompts, n, 20, 0.0, ended)):
        assert ids == whole[row // n][: len(ids)]
        assert ends[row] <= len(ids)


sequences = st.lists(
    st.tuples(
        st.sampled_from(prompts_of(1, 4, 4, 7)),
        st.lists(st.integers(0, VOCABULARY - 1), max_size=6).map(tuple),
    ),
    min_size=1,
    max_size=8,
)


@given(sequences=sequences, portion=st.sampled_from([1, 3, 1000]))
@settings(max_examples=25, deadline=None)
def test_log_probs_are_those_of_each_sequence_alone(
    sequences: list[tuple[Ids, Ids]], portion: int
) -> None:
    torch.manual_seed(3)
    model: Any = MODELS["llama, grouped heads"]().eval()
    check_log_probs(model, sequences, portion)


def test_log_probs_of_every_family(model: Any) -> None:
    first, second = prompts_of(3, 8)
    check_log_probs(model, [(first, (1, 2, 3)), (second, (4,)), (first, (5, 6, 7, 8))], 1000)


def check_log_probs(model: Any, sequences: list[tuple[Ids, Ids]], portion: int) -> None:
    targets = torch.tensor([t for _, completion in sequences for t in completion]).long()
    hidden = hidden_states(model, sequences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "_LOGITS_AT_ONCE", portion * VOCABULARY)
        found, entropy = token_log_probs(
            hidden, model.lm_head.weight, targets, 1.0, with_entropy=False
        )
    expected = [reference_log_probs(model, *each) for each in sequences if each[1]]
    assert found.shape == targets.shape == entropy.shape
    if expected:
        torch.testing.assert_close(found.detach(), torch.cat(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("portion", [2, 1000])
def test_gradients_are_autograds_through_transformers(
    model: Any, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "_LOGITS_AT_ONCE", portion * VOCABULARY)
    first, second = prompts_of(3, 8)
    sequences = [(first, (1, 2, 3)), (second, (4,)), (first, (5, 6, 7, 8)), (second, (9, 1))]
    check_gradients(model, sequences, hidden_states(model, sequences))


def check_gradients(model: Any, sequences: list[tuple[Ids, Ids]], hidden: torch.Tensor) -> None:
    """Those that flow through `hidden` are those of transformers, sequence by sequence."""
    weights = torch.linspace(-0.7, 1.1, len(sequences))

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss, list(model.parameters())))

    targets = torch.tensor([t for _, completion in sequences for t in completion])
    per_token = weights.repeat_interleave(torch.tensor([len(c) for _, c in sequences]))
    arguments = (hidden, model.lm_head.weight, targets, 0.8)
    taken, entropy = token_log_probs(*arguments, with_entropy=True)
    ours = gradients(-(per_token * taken).sum() - 0.1 * entropy.sum())

    loss = torch.zeros(())
    for weight, (prompt, completion) in zip(weights, sequences, strict=True):
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / 0.8
        log_p = logits.log_softmax(-1)
        loss = loss - weight * log_p[range(len(completion)), list(completion)].sum()
        loss = loss + 0.1 * (log_p.exp() * log_p).sum()
    for mine, theirs in zip(ours, gradients(loss), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_known_product_has_the_gradients_of_a_computed_one(has_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(size, requires_grad=True, dtype=torch.double) for size in [(5, 3), (4, 3), (4,)]
    )
    computed = Product(weight, bias if has_bias else None)
    known = replace(computed, known=computed(x).detach())
    inputs = [x, weight, bias][: 3 if has_bias else 2]
    found, expected = (
        torch.autograd.grad(product(x).sin().sum(), inputs) for product in (known, computed)
    )
    torch.testing.assert_close(found, expected)


def recorded(
    model: Any, prompts: list[Ids], ends: list[int], kernels: Kernels = EAGER
) -> tuple[Recording, list[tuple[Ids, Ids]]]:
    """What was kept while the samples of `prompts` were drawn, of so many tokens each."""
    recording = Recording()

    def ended(rows: Sequence[int], said: Sequence[list[int]]) -> list[bool]:
        return [len(ids) >= ends[row] for row, ids in zip(rows, said, strict=True)]

    each = len(ends) // len(prompts)
    with torch.inference_mode():
        said = decode(model, prompts, each, max(ends), 1.0, ended, kernels, recording)
    drawn = [(prompts[i // each], tuple(said[i][:end])) for i, end in enumerate(ends)]
    recording.name(drawn)
    return recording, drawn


# Rows that leave the batch at once, later and never; samples of one token; nothing but whole rows.
@pytest.mark.parametrize(
    ("lengths", "ends"),
    [((3, 8, 5), [2, 9, 3, 12, 1, 4, 3, 12, 6, 7, 4, 8]), ((4, 4), [6] * 6), ((3, 2), [1] * 4)],
)
def test_what_sampling_kept_gives_the_gradients_of_transformers(
    model: Any, lengths: tuple[int, ...], ends: list[int]
) -> None:
    torch.manual_seed(1)
    recording, drawn = recorded(model, prompts_of(*lengths), ends)
    for sequences in (drawn, drawn[::-2]):  # of all, and without those that taught nothing
        assert all(recording.holds(*each) for each in sequences)
        hidden = hidden_states(model, sequences, recording=recording)
        torch.testing.assert_close(hidden, hidden_states(model, sequences), rtol=0, atol=1e-5)
        check_gradients(model, sequences, hidden)


def test_with_all_products_known_none_is_computed(model: Any) -> None:
    """The weights have a say in gradients alone: the kept results are used, and as they are."""
    recording, drawn = recorded(model, prompts_of(4, 4), [6] * 6)
    before = hidden_states(model, drawn, recording=recording)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("_proj.weight", "_proj.bias")):
                parameter.zero_()
    assert torch.equal(hidden_states(model, drawn, recording=recording), before)


def test_what_was_not_sampled_is_not_held(model: Any) -> None:
    recording, [(prompt, completion), *_] = recorded(model, prompts_of(4, 4), [6] * 6)
    assert not recording.holds(prompt, (*completion, 1))
    assert not recording.holds((*prompt, 1), completion)
    assert not Recording().holds(prompt, completion)


@pytest.mark.slow
@pytest.mark.needs("g++")
# Dynamo and inductor warn of their own affairs.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_it_is_the_same() -> None:
    torch.manual_seed(3)
    model: Any = MODELS["qwen3"]().eval()
    first, second = prompts_of(2, 8)
    sequences = [(first, (1, 2, 3)), (second, (4,)), (first, (5, 6, 7, 8)), (second, (9, 1))]
    targets = torch.tensor([t for _, completion in sequences for t in completion])

    def told(kernels: Kernels) -> tuple[torch.Tensor, list[torch.Tensor], list[list[int]]]:
        hidden = hidden_states(model, sequences, kernels=kernels)
        arguments = (hidden, model.lm_head.weight, targets, 0.8)
        taken, entropy = token_log_probs(*arguments, with_entropy=True, kernels=kernels)
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(taken.sum() - 0.1 * entropy.sum(), parameters)
        with torch.inference_mode():
            said = decode(model, [first, second], 2, 6, 0.0, never, kernels)
        return taken.detach(), list(gradients), said

    (taken, gradients, said), (fused, their_gradients, their_said) = told(EAGER), told(compiled())
    torch.testing.assert_close(fused, taken, rtol=0, atol=1e-5)
    for mine, theirs in zip(their_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert their_said == said
    recording, drawn = recorded(model, [first, second], [6] * 4, compiled())
    hidden = hidden_states(model, drawn, kernels=compiled(), recording=recording)
    check_gradients(model, drawn, hidden)


def test_what_is_not_covered_is_left_to_transformers() -> None:
    assert all(covers(make()) for make in MODELS.values())
    assert not covers(GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1)))
    other: list[dict[str, Any]] = [
        {"hidden_act": "gelu"},
        {"attention_dropout": 0.1},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ]
    for change in other:
        assert not covers(LlamaForCausalLM(LlamaConfig(**SIZE, **change)))
    sliding = Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert not covers(Qwen2ForCausalLM(sliding))
    adapted = MODELS["llama"]()
    layer = adapted.model.layers[0].self_attn
    layer.q_proj = torch.nn.Sequential(layer.q_proj, torch.nn.Linear(32, 32))
    assert not covers(adapted)


def test_a_batch_is_as_its_parts() -> None:
    """Sharing a prompt's pass changes nothing that a single pass would not say."""
    torch.manual_seed(3)
    model: Any = MODELS["qwen3"]().eval()
    first, second = prompts_of(2, 6)
    batch = [(p, c) for p, c in itertools.product((first, second), ((3,), (1, 2, 5), (7, 7)))]
    together = hidden_states(model, batch)
    apart = torch.cat([hidden_states(model, [each]) for each in batch])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
