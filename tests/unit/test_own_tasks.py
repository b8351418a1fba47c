"""Tasks of one's own: from docs/tasks.md to a trained run, and what a reward may do."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from commands import Place, clean_environment
from waiting import wait_until

import trainer
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import IterationRecord, RunStarted
from trainer.errors import TrainerError
from trainer.evaluate import summarise
from trainer.reward import PROFILES
from trainer.seeds import seed_everything
from trainer.tasks import close_task, load_task
from trainer.tasks.base import Prompt, Task
from trainer.tasks.own import OwnTask
from trainer.verdict import Verdict

ROOT = Path(trainer.__file__).parent.parent
MODEL = ROOT / "trainer" / "tasks" / "arithmetic" / "model"
SMALL = {
    "MAXRL_CHECKPOINT": str(MODEL),
    "MAXRL_ITERATIONS": "2",
    "MAXRL_PROMPTS_PER_ITERATION": "2",
    "MAXRL_N_SAMPLES": "2",
    "MAXRL_MAX_NEW_TOKENS": "4",
    "MAXRL_EVALUATION_PROMPTS": "2",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


@pytest.fixture
def load(here: Path) -> Iterator[Callable[..., Task]]:
    """Write a file of code, and load the task that its `make` returns."""
    loaded: list[Task] = []

    def from_code(code: str, seconds: float = 60.0) -> Task:
        (here / "mine.py").write_text(code)
        task = load_task("mine.py:make", None, seconds)
        loaded.append(task)
        task.prepare()
        return task

    yield from_code
    for task in loaded:
        close_task(task)


def train(directory: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the trainer by itself, in `directory`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "trainer"],
        env={**clean_environment(), **SMALL, "PYTHONPATH": str(ROOT), **env},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def events(run: Path) -> list[Any]:
    parser = Parser()
    return [*parser.feed((run / "trainer.log").read_bytes()), *parser.close()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def samples(run: Path) -> list[dict[str, Any]]:
    lines = (run / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def examples(language: str) -> list[str]:
    """The blocks of docs/tasks.md in a language."""
    text = (ROOT / "docs" / "tasks.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


# --- As documented ------------------------------------------------------------------------------


def test_the_documented_task_trains(here: Path) -> None:
    (here / "sums.py").write_text(examples("python")[0])
    home = here / "home"
    place = Place(home, {**clean_environment(), "MAXRL_OPS_HOME": str(home), **SMALL})
    done = place.command("start", "--task", "sums.py:task", "--follow")
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "sums-1"
    told = events(run)
    status = place.told("sums-1")
    assert (status["state"], status["job_name"]) == ("finished", "sums")
    [header] = [event for event in told if isinstance(event, RunStarted)]
    assert (header.task, header.reward, header.reference_threshold) == ("sums", "own", 0.5)
    assert (header.bounds, header.correctness_threshold) == ((0.0, 1.0), 0.5)
    blocks = [event for event in told if isinstance(event, IterationRecord)]
    assert [(b.iteration, b.n_total, b.unscored) for b in blocks] == [(1, 4, 0), (2, 4, 0)]
    # Nothing stands there of what a score says nothing about.
    assert {(b.tests_pass_ratio, b.trivial_ratio, b.compile_ratio) for b in blocks} == {
        (None, None, None)
    }
    assert {tuple(s["components"]) for s in samples(run)} == {("own",)}


def test_the_documented_file_and_command_train(here: Path) -> None:
    (here / "grade.py").write_text(examples("python")[1] + "print('seen', file=sys.stderr)\n")
    (here / "prompts.jsonl").write_text(examples("json")[0])
    command = f"{sys.executable} grade.py"
    done = train(here, MAXRL_TASK="prompts.jsonl", MAXRL_REWARD_COMMAND=command)
    assert done.returncode == 0, done.stderr
    run = here / "maxrl-run"
    assert "\n| seen\n" in (run / "trainer.log").read_text()
    for sample in samples(run):
        assert sample["verdict"]["unscored"] is None
        assert sample["reward"] in {0.0, 1.0}


def test_a_broken_task_ends_the_trainer_in_one_line(here: Path) -> None:
    (here / "sums.py").write_text("def task():\n    return 1 / 0\n")
    done = train(here, MAXRL_TASK="sums.py:task")
    assert done.returncode == 2
    assert done.stderr == (
        "trainer: --task sums.py:task: task() raises ZeroDivisionError: division by zero "
        "(sums.py:2)\n"
    )


# --- What a reward may do -----------------------------------------------------------------------

HEAD = """
import os, time
from trainer.tasks.own import OwnTask
def make():
    return OwnTask([(f"{i}=", str(i)) for i in range(64)], reward)
"""


def judged(task: Task, *completions: str) -> list[tuple[float | None, str | None]]:
    prompts = task.training_prompts(Random(0), len(completions))
    return [(v.score, v.unscored) for v in task.verify(prompts, completions)]


def test_only_the_samples_that_a_reward_raises_for_are_unscored(load: Callable[..., Task]) -> None:
    task = load(
        HEAD
        + """
def reward(prompt, completion):
    print("not an answer")
    return {"a": 1, "nan": float("nan"), "text": "1", "none": None, "yes": True}[completion]
"""
    )
    assert judged(task, "a", "b", "nan", "text", "none", "yes") == [
        (1.0, None),
        (None, "KeyError: 'b' (mine.py:9)"),
        (None, "the reward is nan, not a finite number"),
        (None, "the reward is '1', not a number"),
        (None, "the reward is None, not a number"),
        (1.0, None),
    ]


def test_a_reward_that_draws_is_the_same_in_a_resumed_run(load: Callable[..., Task]) -> None:
    code = (
        HEAD
        + """
import random
import numpy
import torch
def reward(prompt, completion):
    return random.random() + numpy.random.rand() + float(torch.rand(()))
"""
    )

    def rewards(task: Task, iteration: int) -> list[float | None]:
        seed_everything(3, iteration, "sample")
        return [score for score, _ in judged(task, "a", "b")]

    first, resumed = load(code), load(code)
    told = {iteration: rewards(first, iteration) for iteration in (1, 2, 3)}
    assert len({score for scores in told.values() for score in scores}) == 6
    assert rewards(resumed, 2) == told[2]


def test_a_reward_that_hangs_or_dies_costs_what_it_had_not_judged(
    load: Callable[..., Task], here: Path
) -> None:
    task = load(
        HEAD
        + """
def reward(prompt, completion):
    if completion == "hang":
        if os.fork() == 0:
            open("child", "w").write(str(os.getpid()))
        while True:
            time.sleep(1)
    if completion == "die":
        os._exit(7)
    return 0.5
""",
        1.0,
    )
    began = time.monotonic()
    late = "no verdict within 1 s"
    assert judged(task, "x", "hang", "x") == [(0.5, None), (None, late), (None, late)]
    assert time.monotonic() - began < 20
    grandchild = int((here / "child").read_text())
    wait_until(lambda: not is_alive(grandchild), 20, "its child dies too")
    dead = "it ended with exit code 7"
    assert judged(task, "x", "die", "x") == [(0.5, None), (None, dead), (None, dead)]
    assert judged(task, "x") == [(0.5, None)]


PROTOCOL = """
from pathlib import Path
from trainer.tasks.base import Prompt
from trainer.verdict import Verdict
from trainer.verify.errors import VerifierUnavailable
class Mine:
    name = ""
    reference_threshold = 0.5
    reward_grid = (0.5,)
    threshold_bounds = (0, 1)
    reward_profiles = ("own",)
    model_dir = None
    is_chat = False
    profile = {}
    def prepare(self): pass
    def training_prompts(self, rng, count): return self.held_out_prompts(count)
    def held_out_prompts(self, count): return [Prompt(str(i), "all", "x", ()) for i in range(count)]
    def answer_end(self, prompt, completion): return None
    def verify(self, prompts, completions):
        return [Verdict(parsed=True, score=float(c)) for c in completions]
make = Mine
"""


def test_difficulty_asks_for_no_more_prompts_than_an_iteration_takes(here: Path) -> None:
    few = """
class Few(Mine):
    def training_prompts(self, rng, count):
        return [[Prompt(i, "all", i, ()) for i in "1234"][:count], None][count > 4]
    def verify(self, prompts, completions):
        return [Verdict(parsed=True, score=rng.random()) for _ in completions]
import random as rng
make = Few
"""
    (here / "few.py").write_text(PROTOCOL + few)
    settings = {"MAXRL_PROMPTS_PER_ITERATION": "4", "MAXRL_PROMPT_SAMPLING": "difficulty"}
    done = train(here, MAXRL_TASK="few.py:make", **settings)
    assert done.returncode == 0, done.stderr
    run = here / "maxrl-run"
    drawn = [sample["prompt"] for sample in samples(run)]
    assert [sorted(drawn[i : i + 8]) for i in (0, 8)] == [sorted("11223344")] * 2
    kept = json.loads((run / "checkpoints" / "000002" / "difficulty.json").read_text())
    assert sorted(kept["prompts"]) == list("1234")


def test_correct_answers_are_remembered_and_learned_from_again(here: Path) -> None:
    """Two families: one never right; one right for its second sample, and not for its first."""
    half_right = """
class HalfRight(Mine):
    def training_prompts(self, rng, count):
        families = ("ab" * count)[:count]
        return [Prompt(f"{each}{rng.random()}", each, "1+1=", ()) for each in families]
    def verify(self, prompts, completions):
        return [
            Verdict(parsed=True, score=float(p.family == "b" and i % 2))
            for i, p in enumerate(prompts)
        ]
make = HalfRight
"""
    (here / "half.py").write_text(PROTOCOL + half_right)
    settings = {"MAXRL_PROMPTS_PER_ITERATION": "8", "MAXRL_REPLAY": "3"}
    done = train(here, MAXRL_TASK="half.py:make", **settings)
    assert done.returncode == 0, done.stderr
    run = here / "maxrl-run"
    [header] = [event for event in events(run) if isinstance(event, RunStarted)]
    assert header.replay == 3
    drawn = samples(run)
    records = [event for event in events(run) if isinstance(event, IterationRecord)]
    # Four prompts are solved each time, and all of them are remembered.
    right = {s["prompt"] for s in drawn if s["iteration"] == 1 and s["reward"] == 1.0}
    assert [record.replayed for record in records] == [0, min(3, len(right))]
    kept = json.loads((run / "checkpoints" / "000002" / "replay.json").read_text())
    assert right < set(kept)
    for record in records:
        # What is learned from again is no sample of the iteration.
        assert record.n_total == 16
        assert (record.groups_mixed, record.groups_all_wrong) == (4, 4)


def test_a_batch_that_raises_is_asked_sample_by_sample(load: Callable[..., Task]) -> None:
    task = load(PROTOCOL)
    assert task.name == "mine"
    assert judged(task, "1", "2") == [(1.0, None), (2.0, None)]
    [first, (score, reason), last] = judged(task, "1", "x\ny", "3")
    assert (first, score, last) == ((1.0, None), None, (3.0, None))
    assert reason is not None
    assert reason.startswith("ValueError: could not convert string to float: 'x\\ny'")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 3", "verify returns a int, not a list of Verdict"),
        ("return []", "verify returns 0 verdicts for 2 completions"),
        ("return [1.0, 0.0]", "verify returns 1.0, which is no Verdict"),
    ],
)
def test_what_is_no_verdict_ends_the_run(body: str, words: str, load: Callable[..., Task]) -> None:
    task = load(PROTOCOL + f"Mine.verify = lambda self, p, c: {body.removeprefix('return ')}\n")
    with pytest.raises(TrainerError, match=words):
        judged(task, "1", "2")


@pytest.mark.parametrize(
    ("line", "ask", "words"),
    [
        ("Mine.held_out_prompts = lambda s, n: []", "held_out", "returns 0 prompts, not at least"),
        ("Mine.held_out_prompts = lambda s, n: n / 0", "held_out", "raises ZeroDivisionError"),
        ("Mine.training_prompts = lambda s, r, n: ['x']", "training", "'x', which is no Prompt"),
        ("Mine.answer_end = lambda s, p, c: 99", "end", "answer_end returns 99"),
    ],
)
def test_a_task_that_gives_something_else_ends_the_run(
    line: str, ask: str, words: str, load: Callable[..., Task]
) -> None:
    task = load(PROTOCOL + line + "\n")
    calls: Mapping[str, Callable[[], object]] = {
        "held_out": lambda: task.held_out_prompts(2),
        "training": lambda: task.training_prompts(Random(0), 1),
        "end": lambda: task.answer_end(Prompt("a", "a", "a", ()), "abc"),
    }
    with pytest.raises(TrainerError, match=words):
        calls[ask]()


GRADERS = {
    "numbers": ("for line in sys.stdin: print(0.5)", [0.5, 0.5, 0.5], None),
    "early": ("print(1); print(2); print(3)", [1.0, 2.0, 3.0], None),
    "objects": ("for _ in sys.stdin: print('{\"reward\": 2}')", [2.0, 2.0, 2.0], None),
    "not finite": ("print('NaN'); print('true'); print('[]')", [None] * 3, "is no finite number"),
    "too few": ("print(1)", [1.0, None, None], "it wrote too few lines"),
    "too many": ("print('hello'); print('1\\n' * 3)", [None] * 3, "it wrote more than 3 lines"),
    "fails": ("print('1\\n1\\n1'); sys.exit(3)", [None] * 3, "it ended with exit code 3"),
    "hangs": ("print(1, flush=True); time.sleep(600)", [1.0, None, None], "within 2 s"),
    "floods": ("while True: print('1' * 65536)", [None] * 3, "it wrote more than 16 MiB"),
}


@pytest.mark.parametrize("kind", GRADERS)
def test_what_a_reward_command_may_write(kind: str, here: Path) -> None:
    code, scores, reason = GRADERS[kind]
    (here / "grade.py").write_text(f"import sys, time\n{code}\n")
    (here / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    seconds = 2.0 if kind == "hangs" else 60.0
    task = load_task("p.jsonl", f"{sys.executable} grade.py", seconds)
    # More than a pipe holds: writing and reading must not wait for each other.
    told = judged(task, "x" * 100_000, "y", "z")
    assert [score for score, _ in told] == scores
    if reason is not None:
        assert reason in (told[-1][1] or "")


def test_what_judges_dies_with_the_trainer() -> None:
    code = (
        "from trainer.tasks.child import Child\n"
        "child = Child(['sh', '-c', 'echo $$; exec sleep 600'])\n"
        "print(child.talk(b'', 60, 99, lambda _: True).lines[0].decode(), flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.kill()
    wait_until(lambda: not is_alive(pid), 20, "the child dies too")


# --- Thresholds, evaluation, and the split ------------------------------------------------------


def test_a_score_is_the_reward_and_decides_what_passes() -> None:
    good, bad = Verdict(parsed=True, score=0.75), Verdict(parsed=True, score=0.5)
    assert PROFILES["own"](good).total == 0.75
    found = summarise(1, [good, bad], [good], 0.5)
    assert (found.greedy, found.pass_at_k[1], found.compile_ratio) == (1.0, 0.5, None)
    with pytest.raises(TrainerError, match=r"set Verdict\.score"):
        PROFILES["own"](Verdict(parsed=True))


@pytest.mark.parametrize("count", [2, 3, 8, 500])
def test_a_share_is_held_out_the_same_everywhere(count: int) -> None:
    texts = [f"{i}=" for i in range(count)]

    def make(order: list[str]) -> OwnTask:
        return OwnTask([Prompt(t, "odd" if i % 2 else "even", t, ()) for i, t in enumerate(order)],
                       lambda prompt, completion: 0.0)  # fmt: skip

    held_out = [p.id for p in make(texts).held_out_prompts(count)]
    trained = {p.id for p in make(texts).training_prompts(Random(0), 20 * count)}
    assert trained | set(held_out) == set(texts)
    assert trained.isdisjoint(held_out)
    assert 1 <= len(held_out) <= max(1, count // 5)
    code = (
        "from trainer.tasks.own import OwnTask; from trainer.tasks.base import Prompt;"
        f"t = OwnTask([Prompt(f'{{i}}=', ('even', 'odd')[i % 2], f'{{i}}=', ())"
        f" for i in range({count})], print);"
        f"print(*[p.id for p in t.held_out_prompts({count})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == held_out


def test_stop_ends_an_answer() -> None:
    task = OwnTask(["a", "b"], lambda prompt, completion: 0.0, stop="\n")
    prompt = task.training_prompts(Random(0), 1)[0]
    assert task.answer_end(prompt, "12\n3") == 3
    assert task.answer_end(prompt, "12") is None
