"""The small tasks of the benchmarks: right is judged right, wrong wrong, and nothing does harm."""

import sys
from collections import Counter
from pathlib import Path
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.small_tasks.maze import task as maze
from benchmarks.small_tasks.rules import task as rules
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import RunDir
from trainer.config import load_config
from trainer.evaluate import evaluate
from trainer.loop import Trainer
from trainer.policy import choose_device, load_policy
from trainer.run_log import LONGEST_LOG, RunLog
from trainer.tasks import close_task
from trainer.tasks.base import Prompt

SMALL_TASKS = Path(rules.__file__).parent.parent
RULES, MAZE, KNOWN = rules.task(), maze.task(), maze.KnownMazeTask()

HOSTILE = [
    "", "=", "\x00", "\x1b[2J", "9" * 10_000, "U" * 10_000, "1\n", "U\n", "\uff11\uff12", "\u2163",
    "{}",
    "__import__('os')", "-1", "+123", "U D", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("c4172=", "4172"),
        ("m4172=", "7"),
        ("r4172=", "2714"),
        ("s4172=", "1247"),
        ("n4192=", "5203"),
        ("k4141=", "2"),
        ("i4172=", "4712"),
        ("i417=", "471"),
        ("e4172=", "1427"),
        ("e417=", "147"),
    ],
)
def test_each_rule_has_one_right_answer_whose_mutants_are_wrong(text: str, right: str) -> None:
    family = next(name for name in rules.RULES if name[0] == text[0])
    prompt = Prompt(text, family, text, (rules.RULES[family](text[1:-1]),))
    assert prompt.tests == (right,)
    assert rules.reward(prompt, right) == 23
    for at, digit in enumerate(right):
        mutant = right[:at] + str((int(digit) + 1) % 10) + right[at + 1 :]
        assert 8 <= rules.reward(prompt, mutant) < RULES.reference_threshold
    for mutant in (right[:-1], right + "0", right + "=", " " + right):
        assert rules.reward(prompt, mutant) <= 8


def test_a_maze_is_judged_by_where_the_moves_end() -> None:
    text = "S../##./G..="
    prompt = Prompt(text, "6 moves", text, ("6",))
    worth = {
        "RRDDLL": 27,
        "RLRRDDLL": 23,
        "RRDDLLRL": 23,
        "RRDDL": 16,
        "RRD": 12,
        "D": 8,
        "L": 8,
        "RRDDLLD": 8,
        "RRDDLLx": 0,
        "RRDDLLRLR": 0,
    }
    assert {moves: maze.reward(prompt, moves) for moves in worth} == worth


@given(st.randoms(use_true_random=False))
def test_shortest_ways_are_free_and_no_way_is_shorter(random: Random) -> None:
    [prompt] = MAZE.training_prompts(random, 1)
    free, at, goal = maze.cells_of(prompt.text)
    far = maze.distances(free, goal)
    way, start = "", at
    while at != goal:
        move = next(m for m, cell in maze.MOVES[at].items() if far.get(cell, 99) < far[at])
        at, way = maze.MOVES[at][move], way + move
    assert len(way) == int(prompt.tests[0])
    assert maze.walk(free, start, way) == goal
    assert maze.reward(prompt, way) == 27
    assert maze.reward(prompt, way[:-1]) == 16


def test_who_knows_the_ways_takes_shortest_ones_to_every_distance_alike() -> None:
    random = Random(0)
    documents = [KNOWN.draw_document(random) for _ in range(600)]
    lengths = Counter(len(moves) for _, moves in documents)
    assert set(lengths) == {2, 3, 4}
    assert min(lengths.values()) > 150
    for text, moves in documents:
        assert maze.reward(Prompt(text, "", text, (str(len(moves)),)), moves) == 27


@pytest.mark.parametrize("task", [RULES, MAZE], ids=lambda task: task.name)
def test_hostile_completions_are_worth_nothing(task: rules.RulesTask | maze.MazeTask) -> None:
    [prompt] = task.training_prompts(Random(0), 1)
    verdicts = task.verify([prompt] * len(HOSTILE), HOSTILE)
    assert [verdict.score for verdict in verdicts] == [0.0] * len(HOSTILE)


@pytest.mark.parametrize("task", [RULES, MAZE, KNOWN], ids=lambda task: type(task).__name__)
def test_what_is_held_out_is_neither_trained_on_nor_in_the_corpus(
    task: rules.RulesTask | maze.MazeTask,
) -> None:
    held_out = {prompt.id for prompt in task.held_out_prompts(sys.maxsize)}
    random = Random(1)
    trained = {prompt.id for prompt in task.training_prompts(random, 4000)}
    corpus = {task.draw_document(random)[0] for _ in range(4000)}
    assert len(held_out) > 64
    assert not held_out & (trained | corpus)
    assert len({p.family for p in task.held_out_prompts(8)}) == min(8, len({*families(task)}))


@pytest.mark.parametrize("threshold", [15, 20, 25])
def test_the_loss_falls_at_thresholds_below_the_highest_reward(
    threshold: int, tmp_path: Path
) -> None:
    config, task = load_config(
        {
            "MAXRL_TASK": f"{SMALL_TASKS / 'maze' / 'task.py'}:task",
            "MAXRL_RUN_DIR": str(tmp_path),
            "MAXRL_CORRECTNESS_THRESHOLD": str(threshold),
            "MAXRL_ITERATIONS": "40",
            "MAXRL_LEARNING_RATE": "5e-4",
            "MAXRL_EVALUATION_PROMPTS": "2",
            "MAXRL_EVALUATE_EVERY": "0",
        }
    )
    run = RunDir(tmp_path)
    for path in (run.control, run.checkpoints):
        path.mkdir()
    try:
        Trainer(config, task, RunLog(run, None, LONGEST_LOG), 1, lambda: False).train()
    finally:
        close_task(task)
    events = Parser().feed(run.log.read_bytes())
    losses = [e.loss for e in events if isinstance(e, IterationRecord) and e.loss is not None]
    assert len(losses) > 35
    assert fmean(losses[-15:]) < 0.85 * fmean(losses[:15])


def families(task: rules.RulesTask | maze.MazeTask) -> list[str]:
    return [prompt.family for prompt in task.held_out_prompts(sys.maxsize)]


@pytest.mark.parametrize("model", ["rules/model", "maze/model", "maze/known"])
def test_the_models_are_small_and_start_low_but_not_at_nothing(model: str) -> None:
    at = SMALL_TASKS / model
    spec = f"{at.parent / 'task.py'}:task"
    config, task = load_config({"MAXRL_TASK": spec, "MAXRL_CHECKPOINT": str(at)})
    try:
        assert (Path(config.checkpoint) / "model.safetensors").stat().st_size < 200_000
        policy = load_policy(config.checkpoint, choose_device("cpu")[0])
        found = evaluate(policy, task, config, 0)
    finally:
        close_task(task)
    assert 0.1 < found.pass_at_k[1] < 0.3
    assert found.pass_at_k[8] > 2 * found.pass_at_k[1]
