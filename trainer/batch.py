"""One iteration's samples as groups, and everything the log says about them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

from maxrl_ops.wire.control import TrainingState
from maxrl_ops.wire.logformat import verdict_of
from maxrl_ops.wire.record import Algorithm
from trainer.objectives import OBJECTIVES, effective_samples, maxrl_weights
from trainer.replay import Answer
from trainer.reward import Profile, Reward, is_correct
from trainer.sampler import Completion
from trainer.tasks.base import Prompt, Scale, Task
from trainer.update import Term
from trainer.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with its verdict; `reward` is None where it is unscored."""

    completion: Completion
    verdict: Verdict
    reward: Reward | None

    def is_correct(self, threshold: float) -> bool:
        """Above the threshold, and not refused by the compiler whatever its reward."""
        return is_correct(self.verdict, self.reward, threshold)


Group = Sequence[Sample]


def judge(groups: Sequence[Sequence[Completion]], task: Task, profile: Profile) -> list[Group]:
    """Verdict and reward of every completion, in one call of the task's verifier."""
    flat = [completion for group in groups for completion in group]
    verdicts = iter(verdicts_of(flat, task))
    return [[_sample(c, next(verdicts), profile) for c in group] for group in groups]


def verdicts_of(completions: Sequence[Completion], task: Task) -> list[Verdict]:
    """Those of the task's verifier, which is not bothered with nothing."""
    if not completions:
        return []
    return task.verify([c.prompt for c in completions], [c.text for c in completions])


def _sample(completion: Completion, verdict: Verdict, profile: Profile) -> Sample:
    reward = None if verdict.unscored is not None else profile(verdict)
    return Sample(completion, verdict, reward)


def scored(group: Group) -> list[tuple[Sample, float]]:
    """The samples that have a reward, with it; the others are left out of their group."""
    return [(sample, sample.reward.total) for sample in group if sample.reward is not None]


def terms_of(
    groups: Sequence[Group], state: TrainingState, remembered: Sequence[Sequence[Answer]] = ()
) -> list[Term]:
    """The loss of the batch: its groups' losses, averaged over the groups that carry signal.

    A group without signal (all wrong under MaxRL, all equal under GRPO) gives no term, and a
    sample whose coefficient is 0 costs no compute. Nor does an answer of no tokens, whose
    log-prob is 0 whatever the model is. The remembered answers to a prompt are one more group,
    under MaxRL, all of it correct.
    """
    signal: list[list[Term]] = []
    for group in groups:
        members = scored(group)
        coefficients = coefficients_of(members, state, state.weight_temperature)
        if coefficients is None:
            continue
        terms = [
            Term(sample.completion, coefficient)
            for (sample, _), coefficient in zip(members, coefficients, strict=True)
            if coefficient and sample.completion.ids
        ]
        if terms:
            signal.append(terms)
    for answers in remembered:
        rewards = [answer.reward for answer in answers]
        weights = maxrl_weights(rewards, [True] * len(rewards), state.weight_temperature)
        signal.append([Term(*pair) for pair in zip(answers, weights or (), strict=True)])
    return [
        replace(term, coefficient=term.coefficient / len(signal))
        for terms in signal
        for term in terms
    ]


def correct_answers(groups: Sequence[Group], state: TrainingState) -> list[tuple[str, Answer]]:
    """The correct samples, each with its prompt's id, as they are remembered."""
    return [
        (
            sample.completion.prompt.id,
            Answer(sample.completion.prompt_ids, sample.completion.ids, r),
        )
        for group in groups
        for sample, r in scored(group)
        if sample.is_correct(state.correctness_threshold) and sample.completion.ids
    ]


def solved(groups: Sequence[Group], state: TrainingState) -> list[tuple[Prompt, int, int]]:
    """Of each group: its prompt, how many samples are correct, how many have a reward."""
    threshold = state.correctness_threshold
    found = []
    for group in groups:
        members = scored(group)
        correct = sum(sample.is_correct(threshold) for sample, _ in members)
        found.append((group[0].completion.prompt, correct, len(members)))
    return found


def describe(groups: Sequence[Group], state: TrainingState, scale: Scale) -> dict[str, Any]:
    """The fields of an IterationRecord that the samples alone decide."""
    samples = [sample for group in groups for sample in group]
    rewards = [reward for group in groups for _, reward in scored(group)]
    threshold = state.correctness_threshold
    correct = [s.reward.total for s in samples if s.reward and s.is_correct(threshold)]
    per_group = [
        (sum(s.is_correct(threshold) for s, _ in scored(g)), len(scored(g))) for g in groups
    ]
    fields: dict[str, Any] = {
        "n_correct": len(correct),
        "n_total": len(rewards),
        "objective": state.objective,
        "reference_correct": sum(s.is_correct(scale.reference_threshold) for s in samples),
        "reference_total": len(rewards),
        "rewards_above": {
            level: sum(reward > level for reward in rewards) for level in scale.reward_grid
        },
        "rewards_of": len(rewards),
        "groups_all_wrong": sum(k == 0 for k, _ in per_group),
        "groups_all_correct": sum(0 < n == k for k, n in per_group),
        "groups_mixed": sum(0 < k < n for k, n in per_group),
        "unique": len({s.completion.text for s in samples}),
        "unique_of": len(samples),
        "unscored": len(samples) - len(rewards),
        "length_mean": fmean(len(s.completion.ids) for s in samples),
        "tokens": sum(len(s.completion.ids) for s in samples),
    }
    if correct:
        fields["correct_reward_mean"] = fmean(correct)
    if rewards:
        fields["reward_mean"], fields["reward_std"] = fmean(rewards), pstdev(rewards)
        fields["verdict"] = verdict_of(len(correct) / len(rewards))
    verdicts = [sample.verdict for sample in samples if sample.reward is not None]
    return {**fields, **_verdict_ratios(verdicts), **_effective(groups, state)}


def _verdict_ratios(verdicts: Sequence[Verdict]) -> Mapping[str, float]:
    # A score alone says nothing about tests or bodies: missing is absent.
    verdicts = [verdict for verdict in verdicts if not verdict.is_score_only]
    if not verdicts:
        return {}
    ratios = {
        "tests_pass_ratio": fmean(v.passed for v in verdicts),
        "trivial_ratio": fmean(v.trivial for v in verdicts),
    }
    if verdicts[0].compiled is not None:
        ratios["compile_ratio"] = fmean(bool(v.compiled) for v in verdicts)
    return ratios


def _effective(groups: Sequence[Group], state: TrainingState) -> Mapping[str, float]:
    """Effective sample size of the MaxRL weights, at the temperature and at half and double it."""
    objective = OBJECTIVES[state.objective]
    if objective.algorithm is not Algorithm.MAXRL:
        return {}

    def weights(temperature: float) -> list[Sequence[float]]:
        found = (coefficients_of(scored(group), state, temperature) for group in groups)
        return [coefficients for coefficients in found if coefficients]

    def mean_effective(temperature: float) -> float:
        return fmean(effective_samples(each) for each in weights(temperature))

    temperature = state.weight_temperature
    with_signal = weights(temperature)
    if not with_signal:
        return {}
    return {
        "effective_samples": mean_effective(temperature),
        "effective_of": fmean(sum(c > 0 for c in each) for each in with_signal),
        "effective_half": mean_effective(temperature / 2),
        "effective_double": mean_effective(temperature * 2),
    }


def coefficients_of(
    members: Sequence[tuple[Sample, float]], state: TrainingState, temperature: float
) -> Sequence[float] | None:
    """The objective's coefficients of one group's scored samples; None without signal."""
    if not members:
        return None
    return OBJECTIVES[state.objective].coefficients(
        [reward for _, reward in members],
        [sample.is_correct(state.correctness_threshold) for sample, _ in members],
        temperature,
    )
