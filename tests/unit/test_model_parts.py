"""Sampler, update and checkpoints, on the small model that ships with `arithmetic`."""

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.batch import judge, terms_of
from trainer.config import Config
from trainer.errors import ExitCode, TrainerError
from trainer.llama.recording import Recording
from trainer.objectives import OBJECTIVES
from trainer.policy import Policy, choose_device, load_policy, others_memory, speaks_in_chat
from trainer.replay import Answer
from trainer.reward import PROFILES
from trainer.sampler import Completion, sample
from trainer.seeds import seed_everything
from trainer.tasks import load_task
from trainer.tasks.base import Prompt, Task
from trainer.update import StepOptions, Term, UpdateResult, token_stats, train_step


def drawn(
    policy: Policy, task: Task, n_samples: int = 4, recording: Recording | None = None
) -> list[list[Completion]]:
    seed_everything(0, 1, "sample")
    prompts = task.training_prompts(Random(0), 3)
    return sample(policy, prompts, n_samples, 8, 1.0, task.answer_end, recording)


def test_groups_belong_to_their_prompts(policy: Policy, job: tuple[Config, Task]) -> None:
    groups = drawn(policy, job[1])
    assert [len(group) for group in groups] == [4, 4, 4]
    for group in groups:
        assert len({c.prompt.id for c in group}) == 1
        assert all(c.ids and len(c.ids) <= 8 for c in group)
    again = drawn(policy, job[1])
    assert [[c.ids for c in g] for g in again] == [[c.ids for c in g] for g in groups]


def test_greedy_decoding_is_the_most_likely_token(policy: Policy) -> None:
    prompt = Prompt("p", "add", "3+4=", ("7",))
    [[completion]] = sample(policy, [prompt], 1, 1, 0.0, lambda *_: None)
    logits = policy.model(torch.tensor([completion.prompt_ids])).logits
    assert completion.ids[0] == int(logits[0, -1].argmax())


def test_what_follows_an_answer_is_cut_tokens_and_all(policy: Policy) -> None:
    prompt = Prompt("p", "add", "3+4=", ("7",))

    def first_character(_: Prompt, text: str) -> int | None:
        return 1 if text else None

    seed_everything(0, 1, "sample")
    [group] = sample(policy, [prompt], 8, 6, 1.0, first_character)
    for completion in group:
        assert len(completion.text) <= 1
        if completion.text:
            assert policy.tokenizer.decode(completion.ids) == completion.text


def log_probs_of(
    policy: Policy, completions: list[Completion], temperature: float = 1.0
) -> torch.Tensor:
    """Log-probability of each whole completion (B,)."""
    terms = [Term(completion, 1.0) for completion in completions]
    per_token = token_stats(policy, terms, StepOptions(temperature)).log_probs
    parts = per_token.split([len(completion.ids) for completion in completions])
    return torch.stack([part.sum() for part in parts])


@torch.no_grad()
def test_log_probs_do_not_depend_on_padding(policy: Policy, job: tuple[Config, Task]) -> None:
    completions = [c for group in drawn(policy, job[1]) for c in group]
    assert len({len(c.ids) + len(c.prompt_ids) for c in completions}) > 1
    together = log_probs_of(policy, completions, 0.7)
    for completion, batched in zip(completions, together, strict=True):
        ids = torch.tensor([completion.prompt_ids + completion.ids])
        logits = policy.model(ids).logits[0, :-1] / 0.7
        answer = range(len(completion.prompt_ids) - 1, ids.shape[1] - 1)
        by_hand = sum(torch.log_softmax(logits[t], -1)[ids[0, t + 1]] for t in answer)
        assert batched.item() == pytest.approx(float(by_hand), abs=1e-4)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_the_loss_is_the_objectives_own(
    policy: Policy, job: tuple[Config, Task], objective: str
) -> None:
    config, task = job
    state = replace(config.initial, objective=objective)
    groups = judge(drawn(policy, task, 8), task, PROFILES["tested"])
    expected = []
    for group in groups:
        log_probs = log_probs_of(policy, [s.completion for s in group]).tolist()
        rewards = [s.reward.total for s in group if s.reward]
        loss = OBJECTIVES[objective].loss(log_probs, rewards, [r > 20 for r in rewards])
        if loss is not None:
            expected.append(loss)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    result = train_step(policy, optimizer, terms_of(groups, state), StepOptions())
    assert result.loss == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert result.skipped is None
    assert result.grad_norm > 0


def test_a_step_that_is_not_finite_changes_nothing(
    policy: Policy, job: tuple[Config, Task]
) -> None:
    [completion, *_] = drawn(policy, job[1])[0]
    before = copy.deepcopy(policy.model.state_dict())
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    result = train_step(policy, optimizer, [Term(completion, float("nan"))], StepOptions())
    assert result.skipped is not None
    assert "nan" in result.skipped
    after = policy.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_step_raises_the_likelihood_of_what_it_is_fed(
    policy: Policy, job: tuple[Config, Task]
) -> None:
    [completion, *_] = drawn(policy, job[1])[0]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-5)
    before = log_probs_of(policy, [completion]).item()
    train_step(policy, optimizer, [Term(completion, 1.0)], StepOptions())
    assert log_probs_of(policy, [completion]).item() > before


def gradients(
    policy: Policy,
    terms: list[Term],
    options: StepOptions,
    reference: Policy | None = None,
    recording: Recording | None = None,
) -> tuple[dict[str, torch.Tensor], UpdateResult]:
    """Gradients of a step that moves nothing, by parameter; and what it saw."""
    still = torch.optim.SGD(policy.model.parameters(), lr=0.0)
    options = replace(options, max_grad_norm=1e9)
    result = train_step(policy, still, terms, options, reference, recording=recording)
    found = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    return found, result


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_from_what_sampling_kept_is_the_same(
    policy: Policy, job: tuple[Config, Task], steps: int
) -> None:
    """Beside an answer of an earlier iteration; a second step computes all of it anew."""
    config, task = job
    recording = Recording()
    groups = judge(drawn(policy, task, 8, recording), task, PROFILES["tested"])
    earlier = Answer(groups[0][0].completion.prompt_ids, (5, 4, 3, 2), 23.0)
    terms = [*terms_of(groups, config.initial), Term(earlier, 0.4)]
    held = [recording.holds(t.completion.prompt_ids, t.completion.ids) for t in terms]
    assert held == [policy.is_llama_like] * (len(terms) - 1) + [False]
    options = StepOptions(entropy_bonus=0.1, updates_per_batch=steps)
    expected, plain = gradients(policy, terms, options)
    found, result = gradients(policy, terms, options, recording=recording)
    assert asdict(result) == pytest.approx(asdict(plain), abs=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_more_than_one_pass_of_the_update_is_not_kept(
    policy: Policy, job: tuple[Config, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording()
    monkeypatch.setattr("trainer.sampler.TOKENS_AT_ONCE", 12)
    [[completion, *_], *_] = drawn(policy, job[1], 4, recording)
    assert not recording.holds(completion.prompt_ids, completion.ids)


@pytest.fixture
def four_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("four_threads")
def test_threads_that_race_sum_to_the_same_bits() -> None:
    """Rows that are read twice get their gradient from several threads."""
    task = load_task("rust")
    assert task.model_dir is not None
    policy, random = load_policy(str(task.model_dir), torch.device("cpu")), Random(0)
    terms = [
        Term(Completion(prompt, policy.encode(prompt.text), tuple(range(3, 12 + n)), ""), 1.0)
        for prompt in task.training_prompts(random, 8)
        for n in range(random.randrange(4, 12))
    ]

    def gradients() -> list[torch.Tensor]:
        policy.model.zero_grad()
        token_stats(policy, terms, StepOptions()).log_probs.sum().backward()
        return [p.grad for p in policy.model.parameters() if p.grad is not None]

    first = gradients()
    for _ in range(8):
        assert all(map(torch.equal, first, gradients()))


def test_the_gradient_is_that_of_finite_differences(
    policy: Policy, job: tuple[Config, Task]
) -> None:
    """Of loss, entropy bonus and divergence together, along a random direction."""
    config, task = job
    groups = judge(drawn(policy, task, 8), task, PROFILES["tested"])
    terms = terms_of(groups, config.initial)
    reference = load_policy(config.checkpoint, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    parameters = dict(policy.model.named_parameters())
    direction = {n: torch.randn(p.shape, generator=generator) for n, p in parameters.items()}

    def move(step: float) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(step * direction[name])

    # Away from the reference, where the divergence has no slope.
    move(1e-3)
    options = StepOptions(entropy_bonus=0.3, kl_coefficient=0.7, length_normalisation=True)
    found, result = gradients(policy, terms, options, reference)
    assert result.kl is not None
    assert result.kl > 0
    slope = sum(float((found[n] * direction[n]).sum()) for n in found)

    def value() -> float:
        _, seen = gradients(policy, terms, options, reference)
        with torch.no_grad():
            here, there = (token_stats(p, terms, options).log_probs for p in (policy, reference))
        tokens = sum(len(term.completion.ids) for term in terms)
        squared = float((here - there).square().sum()) / 2 / tokens
        return seen.loss - 0.3 * seen.entropy + 0.7 * squared

    tiny = 1e-4
    move(tiny)
    above = value()
    move(-2 * tiny)
    below = value()
    assert (above - below) / (2 * tiny) == pytest.approx(slope, rel=2e-2)


def test_without_distance_to_the_reference_there_is_no_divergence(
    policy: Policy, job: tuple[Config, Task]
) -> None:
    config, task = job
    terms = terms_of(judge(drawn(policy, task, 8), task, PROFILES["tested"]), config.initial)
    same = load_policy(config.checkpoint, torch.device("cpu"))
    with_it, result = gradients(policy, terms, StepOptions(kl_coefficient=5.0), same)
    without, plain = gradients(policy, terms, StepOptions())
    assert result.kl == pytest.approx(0, abs=1e-6)
    assert plain.kl is None
    assert all(torch.allclose(with_it[n], without[n], atol=1e-6) for n in without)


def after_steps(
    policy: Policy, coefficient: float, options: StepOptions
) -> tuple[dict[str, torch.Tensor], float]:
    """Weights, and the log-prob of a completion of one token, after steps on it alone."""
    prompt = Prompt("p", "add", "3+4=", ("7",))
    prompt_ids = tuple(policy.tokenizer(prompt.text)["input_ids"])
    [answer] = policy.tokenizer("7")["input_ids"]
    completion = Completion(prompt, prompt_ids, (answer,), "7")
    before = copy.deepcopy(policy.model.state_dict())
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=1e-2)
    result = train_step(policy, optimizer, [Term(completion, coefficient)], options)
    assert result.skipped is None
    found = copy.deepcopy(policy.model.state_dict())
    log_prob = log_probs_of(policy, [completion]).item()
    policy.model.load_state_dict(before)
    return found, log_prob


@pytest.mark.parametrize(
    ("coefficient", "bound", "other"),
    [(1.0, "clip_high", "clip_low"), (-1.0, "clip_low", "clip_high")],
)
def test_a_ratio_beyond_its_bound_moves_nothing_more(
    policy: Policy, coefficient: float, bound: str, other: str
) -> None:
    once, first = after_steps(policy, coefficient, StepOptions())
    again = StepOptions(updates_per_batch=3, clip_low=0.9, clip_high=9.0)
    more, third = after_steps(policy, coefficient, again)
    assert coefficient * third > coefficient * first
    # A bound of 0 is passed by the first step; the other one has no say in this direction.
    bounded, _ = after_steps(policy, coefficient, replace(again, **{bound: 0.0}))
    assert all(torch.equal(bounded[name], once[name]) for name in once)
    free, _ = after_steps(policy, coefficient, replace(again, **{other: 0.0}))
    assert all(torch.equal(free[name], more[name]) for name in more)


# --- What a user gets wrong -----------------------------------------------------------------------


def test_no_such_checkpoint() -> None:
    with pytest.raises(TrainerError, match="/no/such: no such directory") as caught:
        load_policy("/no/such", torch.device("cpu"))
    assert caught.value.code is ExitCode.NOT_FOUND


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(TrainerError, match="cannot be loaded") as caught:
        load_policy(str(tmp_path), torch.device("cpu"))
    assert "\n" not in str(caught.value)


def copied(job: tuple[Config, Task], directory: Path) -> Path:
    """The shipped model, to be damaged."""
    shutil.copytree(job[0].checkpoint, directory)
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(TrainerError) as caught:
        load_policy(str(directory), torch.device("cpu"))
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def test_a_truncated_model_file(job: tuple[Config, Task], tmp_path: Path) -> None:
    directory = copied(job, tmp_path / "model")
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "cannot be loaded" in refusal(directory)


def test_a_model_without_some_of_its_weights(job: tuple[Config, Task], tmp_path: Path) -> None:
    directory = copied(job, tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    assert "1 of the model's weights" in refusal(directory)
    assert "up_proj" in refusal(directory)


def test_a_model_of_another_shape(job: tuple[Config, Task], tmp_path: Path) -> None:
    directory = copied(job, tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "intermediate_size": 8}))
    assert "shape" in refusal(directory) or "size mismatch" in refusal(directory)


def test_a_tokenizer_of_another_model(job: tuple[Config, Task], tmp_path: Path) -> None:
    directory = copied(job, tmp_path / "model")
    other = load_task("rust").model_dir
    assert other is not None
    shutil.copy(other / "tokenizer.json", directory / "tokenizer.json")
    assert "do not belong together" in refusal(directory)


def test_a_device_that_is_not_there_is_never_replaced() -> None:
    with pytest.raises(TrainerError, match="cuda:99"):
        choose_device("cuda:99")
    device, said = choose_device("auto")
    assert said == f"{device.type} (chosen by auto)"


def test_every_task_ships_a_model_that_loads() -> None:
    for name in ("rust", "arithmetic"):
        directory = load_task(name).model_dir
        assert directory is not None
        assert sum(p.stat().st_size for p in directory.iterdir()) < 4 << 20
        load_policy(str(directory), torch.device("cpu"))


# --- How the model computes, and how it is spoken to ----------------------------------------------

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}=>"


@pytest.mark.parametrize(
    ("template", "asked", "is_chat_task", "expected"),
    [
        (None, "auto", True, "3+4="),
        (TEMPLATE, "auto", True, "<user>3+4==>"),
        (TEMPLATE, "auto", False, "3+4="),
        (TEMPLATE, "always", False, "<user>3+4==>"),
        (TEMPLATE, "never", True, "3+4="),
    ],
)
def test_prompts_in_the_chat_template(
    policy: Policy, template: str | None, asked: str, is_chat_task: bool, expected: str
) -> None:
    policy.tokenizer.chat_template = template
    chat = replace(policy, is_chat=speaks_in_chat(policy, asked, is_chat_task=is_chat_task))
    assert chat.encode("3+4=") == tuple(policy.tokenizer(expected)["input_ids"])


def test_no_template_to_speak_in(policy: Policy) -> None:
    with pytest.raises(TrainerError, match="has no chat template"):
        speaks_in_chat(policy, "always", is_chat_task=True)


def test_bfloat16_is_nearly_float32(policy: Policy, job: tuple[Config, Task]) -> None:
    half = replace(policy, precision=torch.bfloat16)
    completions = [c for group in drawn(half, job[1]) for c in group]
    with torch.no_grad():
        torch.testing.assert_close(
            log_probs_of(half, completions), log_probs_of(policy, completions), rtol=0.05, atol=0.2
        )
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    before = copy.deepcopy(policy.model.state_dict())
    result = train_step(half, optimizer, [Term(completions[0], 1.0)], StepOptions())
    assert result.skipped is None
    after = policy.model.state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_layers_computed_twice_give_the_same_gradients(
    policy: Policy, job: tuple[Config, Task]
) -> None:
    if not policy.is_llama_like:
        pytest.skip("transformers' layers are not computed again")
    config, task = job
    terms = terms_of(judge(drawn(policy, task, 8), task, PROFILES["tested"]), config.initial)
    once, _ = gradients(policy, terms, StepOptions())
    twice, _ = gradients(policy, terms, StepOptions(gradient_checkpointing=True))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_a_gpu_that_somebody_uses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60 * gib, 80 * gib))
    said = others_memory(torch.device("cuda:1"))
    assert said is not None
    assert said.startswith("cuda:1: 20.0 of 80.0 GiB are in use by others")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (79.5 * gib, 80 * gib))
    assert others_memory(torch.device("cuda:1")) is None
    assert others_memory(torch.device("cpu")) is None
