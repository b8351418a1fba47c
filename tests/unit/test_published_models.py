"""Models as they are published, with settings and tokens of their own; what is decoded at once."""

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from maxrl_ops.wire.rundir import RunDir
from trainer import checkpoint, sampler
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.policy import Policy, load_policy
from trainer.sampler import Completion, sample
from trainer.seeds import seed_everything
from trainer.tasks import load_task
from trainer.tasks.base import Prompt, Task
from trainer.update import StepOptions, Term, train_step

PROMPTS = [Prompt("p", "add", "3+4=", ("7",)), Prompt("q", "add", "30+41=", ("71",))]


def drawn(policy: Policy, n_samples: int = 4) -> list[list[Completion]]:
    seed_everything(0, 1, "sample")
    return sample(policy, PROMPTS, n_samples, 8, 1.0, lambda *_: None)


def copied(job: tuple[Config, Task], directory: Path) -> Path:
    """The shipped model, to be changed."""
    shutil.copytree(job[0].checkpoint, directory)
    return directory


def small_gpt2(directory: Path, **tokenizer: object) -> str:
    """A model that ours does not cover, of 64 positions, with the tokenizer of `arithmetic`."""
    shipped = load_task("arithmetic").model_dir
    assert shipped is not None
    own = AutoTokenizer.from_pretrained(shipped)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(own), n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(directory)
    own.add_special_tokens(tokenizer)
    own.save_pretrained(directory)
    return str(directory)


def with_generation(directory: Path, **changes: object) -> None:
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, **changes}))


@pytest.mark.parametrize(
    "bent",
    [
        {"do_sample": True, "top_p": 0.05},
        {"repetition_penalty": 50.0},
        {"suppress_tokens": list(range(2, 200))},
        {"do_sample": True, "min_p": 0.9, "temperature": 0.01},
    ],
)
def test_the_models_own_generation_settings_change_no_sample(
    policy: Policy, job: tuple[Config, Task], bent: dict[str, object], tmp_path: Path
) -> None:
    directory = copied(job, tmp_path / "model")
    with_generation(directory, **bent)
    its = load_policy(str(directory), torch.device("cpu"))
    expected = [[c.ids for c in group] for group in drawn(policy, 16)]
    assert [[c.ids for c in group] for group in drawn(its, 16)] == expected
    # They are the model's still: whoever gets the trained one finds them there.
    its.model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert {key: saved[key] for key in bent} == bent


def test_every_token_that_ends_a_sequence_ends_it(
    policy: Policy, job: tuple[Config, Task], tmp_path: Path
) -> None:
    directory = copied(job, tmp_path / "model")
    [turn] = policy.tokenizer("7")["input_ids"]
    with_generation(directory, eos_token_id=[0, turn])
    its = load_policy(str(directory), torch.device("cpu"))
    assert its.ends == {policy.tokenizer.eos_token_id, turn}
    seed_everything(0, 1, "sample")
    groups = sample(its, PROMPTS, 32, 12, 2.0, lambda *_: None)
    ended = [c for group in groups for c in group if turn in c.ids]
    assert ended
    for completion in ended:
        assert completion.ids.index(turn) == len(completion.ids) - 1
        assert "7" not in completion.text


def test_a_padding_token_without_an_embedding_is_not_looked_up(tmp_path: Path) -> None:
    directory = small_gpt2(tmp_path / "model", pad_token="[PAD]")
    policy = load_policy(directory, torch.device("cpu"))
    assert policy.tokenizer.pad_token_id == policy.embedded
    assert policy.pad_id == policy.tokenizer.eos_token_id
    groups = drawn(policy)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    terms = [Term(c, 1.0) for group in groups for c in group]
    assert train_step(policy, optimizer, terms, StepOptions()).skipped is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3" * 60, "give --max-new-tokens up to 4$"),
        ("3" * 70, "70 tokens, with max_new_tokens 8 more than the 64 positions .*: leave it out"),
        ("<turn>3+4=", r"has the token '<turn>' \(\d+\) .* knows only those below"),
        ("", "has no token in the checkpoint's tokenizer"),
    ],
)
def test_a_prompt_that_is_none_for_the_model(text: str, words: str, tmp_path: Path) -> None:
    extra = {"additional_special_tokens": ["<turn>"]}
    policy = load_policy(small_gpt2(tmp_path / "model", **extra), torch.device("cpu"))
    with pytest.raises(TrainerError, match=f"^the prompt 'p' {words}|^the prompt 'p' .*{words}"):
        sample(policy, [Prompt("p", "add", text, ())], 2, 8, 1.0, lambda *_: None)


def test_positions_that_rotary_embeddings_stretch(policy: Policy) -> None:
    assert policy.positions == 512
    policy.model.config.rope_parameters = {"rope_type": "yarn", "factor": 4.0}
    assert policy.positions == 2048
    policy.model.config.rope_parameters = {"rope_type": "llama3", "factor": 8.0}
    assert policy.positions == 512


def test_generation_settings_that_cannot_be_saved_do_not_end_the_run(
    job: tuple[Config, Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As transformers 5.0 to 5.17 are; later ones refuse only what was changed since."""
    save = GenerationConfig.save_pretrained

    def strictly(config: GenerationConfig, *arguments: object, **named: object) -> None:
        config.validate(strict=True)
        save(config, *arguments, **named)  # type: ignore[arg-type]

    directory = copied(job, tmp_path / "model")
    with_generation(directory, eos_token_id=[0, 5], temperature=0.6)
    monkeypatch.setattr(GenerationConfig, "save_pretrained", strictly)
    policy = load_policy(str(directory), torch.device("cpu"))
    assert "only the token ids are kept" in capsys.readouterr().err
    assert policy.ends == {0, 5}
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-4)
    checkpoint.save(RunDir(tmp_path), 1, policy, optimizer)


def test_a_home_directory_is_found(
    job: tuple[Config, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(job, tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    load_policy("~/model", torch.device("cpu"))


# --- What is decoded together ---------------------------------------------------------------------


def test_few_rows_at_once_are_as_many(
    policy: Policy, job: tuple[Config, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedily, so that the draws do not depend on what is decoded together."""
    prompts = job[1].training_prompts(Random(0), 5)

    def greedy() -> list[list[tuple[int, ...]]]:
        groups = sample(policy, prompts, 3, 8, 0.0, job[1].answer_end)
        return [[c.ids for c in group] for group in groups]

    expected = greedy()
    for rows in (7, 2, 1):
        monkeypatch.setattr("trainer.sampler._rows_at_once", lambda *_, rows=rows: rows)
        assert greedy() == expected


def test_a_large_models_cache_bounds_the_rows(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    begin = sampler._Watch

    def watched(policy: Policy, prompts: list[Prompt], end: sampler.AnswerEnd) -> object:
        opened.append(len(prompts))
        return begin(policy, prompts, end)

    monkeypatch.setattr("trainer.sampler._Watch", watched)
    prompts = [Prompt(str(i), "add", "3+4=", ("7",)) for i in range(5)]
    # A row of 12 positions takes 2 * 3 layers * 96 wide * 12 * 4 bytes of keys and values.
    monkeypatch.setattr("trainer.sampler._CACHE_BYTES", 7 * 2 * 3 * 96 * 12 * 4)
    sample(policy, prompts, 3, 8, 1.0, lambda *_: None)
    sample(policy, prompts[:1], 16, 8, 1.0, lambda *_: None)
    assert opened == [6, 6, 3, 7, 7, 2]


def test_a_long_text_is_not_read_again_at_every_look(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(Policy, "ends", frozenset({-1}))
    prompt = Prompt("p", "add", "3+4=", ("7",))
    sample(policy, [prompt], 1, 480, 1.0, lambda _, text: read.append(text))
    # 16 times up to 64 tokens, then in steps of a sixteenth; in steps of 4 it were 120 times.
    assert 40 <= len(read) <= 55
