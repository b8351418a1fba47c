"""The engine trl, with real TRL: what it trains on, live switches, a kill, two processes, LoRA."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from conftest import Installation, kill
from test_main_job import ARITHMETIC, blocks, evaluations

from maxrl_ops.dialects import Past, load
from maxrl_ops.wire.control import Control, TrainingState, publish
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import RunDir
from trainer.objectives import OBJECTIVES, is_correct

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "trainer" / "tasks" / "arithmetic" / "model"
pytestmark = [
    pytest.mark.slow,
    # Of TRL, transformers and accelerate about themselves.
    pytest.mark.filterwarnings("ignore"),
]
TRL = ("--engine", "trl", "--use-maxrl", *ARITHMETIC)


def graded(completions: list[str], **_: Any) -> list[float | None]:
    """Something to tell apart, from 0 to 3; now and then nothing at all."""
    values = [sum(map(ord, text)) * 7 % 31 for text in completions]
    return [None if value == 13 else value / 10 for value in values]


def test_each_objective_and_each_live_switch_give_our_advantages(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: PLC0415
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]  # noqa: PLC0415

    from trainer.engines.trl import MaxRLCallback, objective_reward  # noqa: PLC0415

    names, size = list(OBJECTIVES), 8
    run = RunDir(tmp_path / "run")
    advantages: list[list[float]] = []

    class Recording(GRPOTrainer):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            found = super()._generate_and_score_completions(inputs)
            advantages.append(found["advantages"].tolist())
            return found

    class Switching(TrainerCallback):  # type: ignore[misc]
        """Stands for daemon and operator: another control before each step."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step = state.global_step
            threshold, temperature = at_step(step)
            wanted = TrainingState(names[step % len(names)], threshold, temperature, size, 1e-5)
            publish(run.control, Control(step + 1, step, wanted, "uid:0", "test", utc_now()))

    maxrl = MaxRLCallback(correctness_threshold=1.2, bounds=(0.5, 3.0), run_dir=run.path)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    trainer = Recording(
        model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        reward_funcs=objective_reward(graded, maxrl),
        args=GRPOConfig(
            str(tmp_path / "out"),
            scale_rewards="none",
            num_generations=size,
            per_device_train_batch_size=4 * size,
            max_completion_length=6,
            max_steps=2 * len(names),
            learning_rate=1e-4,
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_dict({"prompt": ["2+3=", "4+4=", "7-5=", "3*3="]}),
        processing_class=tokenizer,
        callbacks=[Switching(), maxrl],
    )
    trainer.train()

    records = {r.iteration: r for r in Parser().feed(run.log.read_bytes()) if is_record(r)}
    assert [records[n + 1].objective for n in range(len(records))] == names * 2
    for step, rows in enumerate(advantages):
        objective, (threshold, temperature) = names[step % len(names)], at_step(step)
        samples = [line for line in sampled(run) if line["iteration"] == step + 1]
        assert len(samples) == len(rows) == 4 * size
        for at in range(0, len(rows), size):
            group = [line["reward"] for line in samples[at : at + size]]
            expected = ours_less_its_mean(group, objective, threshold, temperature)
            assert rows[at : at + size] == pytest.approx(expected, abs=1e-6)
    # What the trainer cannot change while it runs is refused, and nothing else with it.
    assert "rejected" not in run.log.read_text()
    assert any(line["reward"] is None for line in sampled(run))
    lr = {record.learning_rate for record in records.values()}
    assert max(rate for rate in lr if rate) <= 1e-5


def at_step(step: int) -> tuple[float, float]:
    """Threshold and weight temperature of a step."""
    return 1.0 + step / 10, 1.0 + step / 7


def is_record(event: object) -> bool:
    return isinstance(event, IterationRecord)


def sampled(run: RunDir) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in run.samples.read_text().splitlines()]


def ours_less_its_mean(
    rewards: list[float | None], objective: str, threshold: float, temperature: float
) -> list[float]:
    known = [reward for reward in rewards if reward is not None]
    mask = [is_correct(reward, threshold) for reward in known]
    coefficients = OBJECTIVES[objective].coefficients(known, mask, temperature)
    weights = [len(known) * c for c in coefficients or [0.0] * len(known)]
    left = iter(weights)
    return [0.0 if r is None else next(left) - fmean(weights) for r in rewards]


def test_the_daemon_hands_a_trl_run_over_to_maxrl_and_a_kill_loses_nothing(
    maxrl: Installation,
) -> None:
    job = ("--engine", "trl", "--algorithm", "adaptive", *ARITHMETIC, "--learning-rate", "5e-4")
    size = ("--iterations", "400", "--checkpoint-every", "20", "--evaluate-every", "0")
    maxrl.run("start", "--name", "a", *job, *size)
    maxrl.wait_for("a", lambda log: "objective maxrl (was grpo)" in log)
    maxrl.wait_for("a", lambda log: "Checkpoint 60" in log or "Checkpoint 80" in log)
    kill(maxrl.trainer_pid("a"))
    maxrl.wait_for("a", lambda log: "Resumed from: " in log)
    log = maxrl.log("a")
    resumed = int(re.findall(r"^Resumed from: (\d+)", log, re.M)[-1])
    maxrl.wait_for("a", lambda log: f"Iteration {resumed + 5}/" in log.rpartition("Resumed")[2])
    maxrl.run("stop", "a")
    log = maxrl.log("a")
    switched = re.search(r"^Control 1 applied at (\d+): objective maxrl \(was grpo\)", log, re.M)
    assert switched is not None
    [decision] = json.loads(maxrl.run("decisions", "a", "--json"))
    assert (decision["rule"], decision["outcome"]) == ("ADAPT", "applied")
    assert (decision["answered_at"], decision["by"]) == (int(switched[1]), "rule:ADAPT")
    told = blocks(log)
    assert "Objective: grpo" in told[int(switched[1]) - 1]
    assert "Objective: maxrl" in told[int(switched[1])]
    assert "Objective: maxrl" in told[resumed + 5]
    status = maxrl.status("a")
    assert (status["state"], status["objective"], status["attempt"]) == ("stopped", "maxrl", 2)
    # The stop was answered with a checkpoint at the boundary.
    assert f"Checkpoint {status['iteration']}: saved" in log


def test_two_processes_and_lora(maxrl: Installation, tmp_path: Path) -> None:
    arguments = tmp_path / "trl.toml"
    arguments.write_text('[lora]\nr = 4\ntarget_modules = ["q_proj", "v_proj"]\n')
    launch = f"{Path(sys.executable).parent / 'torchrun'} --nproc-per-node 2"
    job = (*TRL, "--iterations", "3", "--launch", launch, "--engine-config", str(arguments))
    maxrl.run("start", "--name", "two", *job)
    told = maxrl.wait_ended("two")
    log = maxrl.log("two")
    assert (told["state"], told["iteration"]) == ("finished", 3)
    assert "Engine: trl" in log
    assert ", 2 processes" in log
    assert sorted(blocks(log)) == [1, 2, 3]
    assert "of 128" in blocks(log)[3]
    assert [n for n, _, _ in evaluations(log)] == [0, 3]
    saved = maxrl.home / "runs/two/checkpoints/000003/model"
    assert (saved / "adapter_model.safetensors").is_file()
    assert (saved / "rng_state_1.pth").is_file()


def readme_block() -> str:
    [block] = re.findall(
        r"```python\n(.*?objective_reward.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    return str(block)


def test_the_ten_lines_of_the_readme_train_and_both_logs_agree(tmp_path: Path) -> None:
    lines = readme_block()
    assert len(lines.strip().splitlines()) <= 16
    script = tmp_path / "mine.py"
    here = lines.replace("Qwen/Qwen3-0.6B", str(MODEL)).replace("max_steps=100", "max_steps=4")
    assert here.count(str(MODEL)) == 1
    script.write_text(here.replace('GRPOConfig("out",', 'GRPOConfig("out", use_cpu=True,'))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = Parser().feed((tmp_path / "maxrl-run/trainer.log").read_bytes())
    records = [event for event in ours if isinstance(event, IterationRecord)]
    reader = load("trl").open(Past())
    theirs = [
        event
        for event in [*reader.feed(done.stdout.encode()), *reader.close()]
        if isinstance(event, IterationRecord)
    ]
    assert len(records) == len(theirs) == 4
    compared = "loss grad_norm learning_rate reward_mean reward_std entropy length_mean".split()
    for one, other in zip(records, theirs, strict=True):
        for figure in compared:
            # TRL prints four digits.
            assert getattr(other, figure) == pytest.approx(getattr(one, figure), rel=1e-3), figure


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learning_rate = 1", "learning_rate is maxrl-ops' to say"),
        ("warmup_step = 3", "GRPOConfig has no 'warmup_step' (did you mean warmup_steps?)"),
        ("[lora]\nrr = 3", "LoraConfig has no 'rr' (did you mean r?)"),
        ("lora = 3", "lora is a table: write [lora]"),
        ("a = ", "no TOML"),
    ],
)
def test_arguments_that_cannot_be_used_are_one_line(
    content: str, words: str, tmp_path: Path
) -> None:
    from trl import GRPOConfig  # type: ignore[attr-defined]  # noqa: PLC0415

    from trainer.engines.arguments import load_arguments  # noqa: PLC0415
    from trainer.errors import TrainerError  # noqa: PLC0415

    file = tmp_path / "trl.toml"
    file.write_text(content)

    def use() -> None:
        given = load_arguments(str(file))
        given.checked(GRPOConfig, {"learning_rate": 1})
        given.lora()

    with pytest.raises(TrainerError) as caught:
        use()
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
