"""The trainer's parts that need no model: rewards, groups, evaluation figures, configuration."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from maxrl_ops.wire.control import TrainingState
from maxrl_ops.wire.record import IterationRecord
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import SettingError
from trainer.advice import Advice
from trainer.batch import Sample, correct_answers, describe, judge, terms_of
from trainer.config import load_config
from trainer.evaluate import pass_at_k, summarise
from trainer.replay import Answer
from trainer.reward import PROFILES
from trainer.sampler import Completion
from trainer.samples_file import append_samples
from trainer.tasks.arithmetic.task import ArithmeticTask
from trainer.tasks.base import Prompt
from trainer.verdict import Verdict

STATE = TrainingState("maxrl", 20.0, 1.0, 4, 3e-4)
TASK = ArithmeticTask()

UNPARSED = Verdict(parsed=False, compiled=False, errors=1, tests_total=6)
BROKEN = Verdict(parsed=True, compiled=False, errors=3, tests_total=6)
WRONG = Verdict(parsed=True, compiled=True, tests_passed=5, tests_total=6)
WARNED = Verdict(parsed=True, compiled=True, warnings=2, tests_passed=6, tests_total=6)
RIGHT = Verdict(parsed=True, compiled=True, tests_passed=6, tests_total=6)
TRIVIAL = Verdict(parsed=True, compiled=True, trivial=True)
LOST = Verdict(parsed=True, compiled=True, unscored="deadline", tests_total=6)


@pytest.mark.parametrize(
    ("verdict", "gated", "plain"),
    [
        (UNPARSED, 0, -2),
        (BROKEN, 8, 8 - 6),
        (WRONG, 8, 24),
        (WARNED, 18, 22),
        (RIGHT, 23, 24),
        (TRIVIAL, 8, 24),
    ],
)
def test_rewards(verdict: Verdict, gated: float, plain: float) -> None:
    assert PROFILES["tested"](verdict).total == gated
    assert PROFILES["guide"](verdict).total == plain


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [(10, 3, 5, 0.916667), (32, 2, 8, 0.443548), (8, 1, 4, 0.5), (4, 2, 3, 1.0), (8, 0, 8, 0.0)],
)
def test_pass_at_k(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-6)


def test_evaluation_figures() -> None:
    told = summarise(7, [RIGHT, WRONG, BROKEN, LOST], [RIGHT, UNPARSED], threshold=20.0)
    # Two prompts with two samples each: 1/2 and 0/2; se = stdev(.5, 0) / sqrt(2) = .25
    assert (told.greedy, told.pass_at_k) == (0.5, {1: 0.25, 2: 0.5})
    assert told.se == pytest.approx(0.25)
    assert (told.compile_ratio, told.wrong_ratio) == (0.75, 0.25)


def group(*verdicts: Verdict, profile: str = "tested") -> list[Sample]:
    prompt = Prompt("p", "f", "1+1=", ("2",))
    return [
        Sample(
            Completion(prompt, (1,), (2, 3), str(i)),
            verdict,
            None if verdict.unscored else PROFILES[profile](verdict),
        )
        for i, verdict in enumerate(verdicts)
    ]


def test_only_groups_with_signal_count_and_only_scored_samples() -> None:
    groups = [group(RIGHT, RIGHT, WRONG, LOST), group(WRONG, BROKEN, UNPARSED, UNPARSED)]
    terms = terms_of(groups, STATE)
    assert [t.coefficient for t in terms] == [0.5, 0.5]
    told = describe(groups, STATE, TASK)
    assert (told["n_correct"], told["n_total"], told["unscored"]) == (2, 7, 1)
    assert (told["groups_all_wrong"], told["groups_all_correct"], told["groups_mixed"]) == (1, 0, 1)
    assert told["rewards_above"] == {15.0: 2, 20.0: 2, 25.0: 0, 30.0: 0}
    assert told["effective_samples"] == pytest.approx(2.0)
    assert told["compile_ratio"] == pytest.approx(4 / 7)


@pytest.mark.parametrize("objective", ["maxrl", "grpo"])
def test_remembered_answers_are_one_more_group_all_of_it_correct(objective: str) -> None:
    state = replace(STATE, objective=objective)
    groups = [group(RIGHT, WRONG), group(WRONG, WRONG)]
    alone = terms_of(groups, state)
    answers = [Answer((1,), (2, 3), 23.0), Answer((1,), (4,), 23.0)]
    terms = terms_of(groups, state, [answers])
    # One group of samples carries signal, and there is one of answers: each weighs half.
    assert [t.coefficient for t in terms] == [t.coefficient / 2 for t in alone] + [0.25, 0.25]
    assert [t.completion for t in terms[-2:]] == answers
    assert [t.coefficient for t in terms_of([], state, [answers])] == [0.5, 0.5]


def test_correct_samples_are_remembered_with_their_reward() -> None:
    [(prompt, answer)] = correct_answers([group(RIGHT, WRONG, LOST), group(WRONG)], STATE)
    assert (prompt, answer) == ("p", Answer((1,), (2, 3), 23.0))


def test_grpo_pushes_wrong_samples_down() -> None:
    state = TrainingState("grpo", 20.0, 1.0, 4, 3e-4)
    terms = terms_of([group(RIGHT, WRONG, WRONG, WRONG), group(RIGHT, RIGHT)], state)
    signs = [math.copysign(1, t.coefficient) for t in terms]
    assert signs == [1, -1, -1, -1]
    assert "effective_samples" not in describe([group(RIGHT, WRONG)], state, TASK)


def test_correct_needs_a_compiler_that_agrees() -> None:
    refused = group(Verdict(parsed=True, compiled=False, errors=0), profile="guide")[0]
    assert not refused.is_correct(-100.0)


def test_all_unscored_says_so_and_nothing_else() -> None:
    told = describe([group(LOST, LOST)], STATE, TASK)
    assert (told["n_total"], told["unscored"]) == (0, 2)
    assert not {"reward_mean", "verdict", "compile_ratio", "correct_reward_mean"} & set(told)
    assert terms_of([group(LOST, LOST)], STATE) == []


def test_an_answer_of_no_tokens_is_not_trained_on() -> None:
    state = TrainingState("grpo", 20.0, 1.0, 4, 3e-4)
    empty = [
        replace(s, completion=replace(s.completion, ids=(), text="")) for s in group(RIGHT, WRONG)
    ]
    assert terms_of([empty], state) == []
    some = [empty[0], *group(RIGHT, WRONG, WRONG)]
    # The group's own mean and count stay those of all four; only one group carries signal.
    assert [t.coefficient for t in terms_of([some, empty], state)] == [
        pytest.approx(c) for c in (0.25, -0.25, -0.25)
    ]
    assert describe([empty], state, TASK)["length_mean"] == 0


def test_samples_tell_their_attempt(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for attempt in (1, 2):
        append_samples(run, attempt, 7, [group(RIGHT, LOST)])
    lines = [json.loads(line) for line in run.samples.read_text().splitlines()]
    told = [(line["attempt"], line["iteration"], line["reward"]) for line in lines]
    assert told == [(1, 7, 23), (1, 7, None), (2, 7, 23), (2, 7, None)]


def test_judge_keeps_groups_together() -> None:
    prompts = [Prompt("a", "add", "1+1=", ("2",)), Prompt("b", "add", "1+2=", ("3",))]
    drawn = [[Completion(p, (1,), (2,), text) for text in ("2", "3", "x")] for p in prompts]
    groups = judge(drawn, TASK, PROFILES["tested"])
    rewards = [[s.reward.total for s in group if s.reward] for group in groups]
    assert rewards == [[23, 8, 0], [8, 23, 0]]


# --- Advice ---------------------------------------------------------------------------------------


def test_weights_of_a_few_are_said_once() -> None:
    # Rewards 24, 22, 22: at T = 0.1 the best has all the weight, one in three.
    groups = [group(RIGHT, WARNED, WARNED, profile="guide")]

    def said(advice: Advice, iteration: int, **changes: object) -> list[str]:
        state = replace(STATE, **changes)  # type: ignore[arg-type]
        fields = describe(groups, state, TASK)
        return advice.new(IterationRecord(iteration, target_iterations=9, **fields), state)

    assert said(Advice(), 1, weight_temperature=5.0) == []
    assert said(Advice(), 1, weight_temperature=0.1, objective="grpo") == []
    advice = Advice()
    [line] = said(advice, 3, weight_temperature=0.1)
    assert line.startswith("iteration 3: of 3.0 correct samples in a group only 1.0 count")
    assert said(advice, 4, weight_temperature=0.1) == []


def test_few_samples_of_maxrl_mean_are_said_when_it_begins() -> None:
    advice = Advice()
    record = IterationRecord(iteration=1, target_iterations=9)
    mean = replace(STATE, objective="maxrl_mean")
    assert advice.new(record, mean) == []
    [line] = advice.new(record, replace(mean, n_samples=3))
    assert "n_samples 3" in line
    assert advice.new(record, replace(mean, n_samples=2)) == []


# --- Configuration ------------------------------------------------------------------------------


def test_precedence_of_settings() -> None:
    shipped, _ = load_config({})
    assert (shipped.task, shipped.iterations, shipped.initial.n_samples) == ("rust", 40, 8)
    assert shipped.initial.objective == "maxrl"
    own, _ = load_config({"MAXRL_CHECKPOINT": "some/model"})
    assert (own.iterations, own.initial.learning_rate, own.initial.n_samples) == (1000, 1e-5, 8)
    grpo, _ = load_config({"MAXRL_CHECKPOINT": "some/model", "USE_MAXRL": "false"})
    assert (grpo.initial.objective, grpo.initial.n_samples) == ("grpo", 4)
    flag, _ = load_config({"MAXRL_N_SAMPLES": "3", "USE_MAXRL": "no"})
    assert flag.initial.n_samples == 3


def test_a_schedule_begins_with_grpo_and_tells_its_end() -> None:
    config, _ = load_config({"MAXRL_SCHEDULE": "hybrid", "MAXRL_OBJECTIVE": "maxrl_mean"})
    assert (config.initial.objective, config.hand_over_to) == ("grpo", "maxrl_mean")
    assert (config.hand_over_after, config.initial.n_samples) == (15, 8)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"USE_MAXRL": "false", "MAXRL_OBJECTIVE": "maxrl"}, "contradict"),
        ({"MAXRL_TASK": "arithmetic", "MAXRL_REWARD": "guide"}, "does not fit the task"),
        ({"USE_MAXRL": "false", "MAXRL_SCHEDULE": "hybrid"}, "hands over to MaxRL"),
        ({"MAXRL_SCHEDULE": "hybrid", "MAXRL_ITERATIONS": "15"}, "would never hand over in 15"),
    ],
)
def test_settings_that_do_not_fit_together(env: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load_config(env)
