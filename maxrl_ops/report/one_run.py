"""The report of one run: its plots with the decisions on them, its set-up, its samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maxrl_ops.core.entry import Entry, changes_of, decision_sentence
from maxrl_ops.core.expected import EXPECTED
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.report.chart import Band, Chart, Dots, Line, Mark, Point, share
from maxrl_ops.report.curves import WINDOW, Curves, Smooth
from maxrl_ops.report.page import charts, facts, listing, page, section, table, text
from maxrl_ops.wire.documents import Exit
from maxrl_ops.wire.logformat import number, percent


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion as samples.jsonl has it; `verdict` in a few words."""

    iteration: int
    prompt: str
    text: str
    verdict: str
    reward: float | None
    is_correct: bool


@dataclass(frozen=True, slots=True)
class Told:
    """All that a report is made of.

    Attributes:
        made_at: When, RFC 3339.
        header: The log's, by key, and what run.json adds.
    """

    run: RunSnapshot
    curves: Curves
    entries: Sequence[Entry]
    header: Mapping[str, object]
    exits: Sequence[Exit]
    samples: Sequence[Sample]
    made_at: str


def render(told: Told) -> str:
    """The whole page."""
    run = told.run
    where = f"{run.task or 'a task of its own'}, {run.model or 'model unknown'}"
    return page(
        f"{run.name}: maxrl-ops report",
        f"<header><h1>{text(run.name)}</h1>"
        f'<p class="soft">{text(where)} &middot; as of {text(told.made_at)}</p>'
        f'<p class="sentence">{text(run.sentence)}</p>{facts(_facts(run))}</header>',
        section("Learning", charts(_charts(told), told.curves.last)),
        section("Decisions", _decisions(told.entries)),
        section("Held-out evaluation", _evaluations(told.curves)),
        section("Samples", _samples(told.samples)),
        section("Attempts that ended", _exits(told.exits)),
        section("Set-up", table(("", ""), told.header.items())),
    )


def _facts(run: RunSnapshot) -> dict[str, object]:
    held = run.held_out
    spread = "" if held.se is None else f" ± {percent(held.se)}"
    of = "" if run.target_iterations is None else f" of {run.target_iterations}"
    return {
        "state": run.state,
        "algorithm": run.algorithm,
        "objective": run.objective,
        "iteration": None if run.iteration is None else f"{run.iteration}{of}",
        "held-out pass@1": None if held.pass_at_1 is None else f"{percent(held.pass_at_1)}{spread}",
        "it began with": None if held.first_pass_at_1 is None else percent(held.first_pass_at_1),
        "threshold": None if run.threshold is None else number(run.threshold),
        "reference threshold": run.reference_threshold and number(run.reference_threshold),
        "samples a prompt": run.n_samples,
        "restarts": run.restarts,
    }


# --- Charts ---------------------------------------------------------------------------------------


def _charts(told: Told) -> list[Chart]:
    curves, marks = told.curves, marks_of(told.entries, told.curves)
    return [
        _correctness(told.run, curves, marks),
        _held_out(curves, marks),
        Chart("Loss", [Line("", curves.curve("loss"))], marks=marks),
        _reward(curves, marks),
        _settings(curves, marks),
        _shares(
            "Groups", curves, {"all wrong": 4, "mixed": 0, "all correct": 2}, marks,
            note="Only mixed groups teach GRPO; MaxRL also learns where all are correct.",
        ),
        _shares("Effective samples", curves, {"effective_ratio": 0}, marks,
                note="Of the correct ones of a group: 100% weighs all alike."),
        Chart("Gradient norm", [Line("", curves.curve("grad_norm"))], marks=marks,
              is_logarithmic=True),
        Chart("Entropy", [Line("", curves.curve("entropy"))], marks=marks),
        Chart("KL divergence", [Line("", curves.curve("kl"))], marks=marks),
        _shares(
            "Verdicts", curves,
            {"compile_ratio": 0, "tests_pass_ratio": 2, "trivial_ratio": 4}, marks,
        ),
        Chart("Length of a completion, tokens", [Line("", curves.curve("length_mean"))],
              marks=marks),
        Chart("Seconds an iteration", [
            Line(name.removesuffix("_time"), curves.curve(name), colour)
            for colour, name in enumerate(("sample_time", "verify_time", "update_time"))
        ], marks=marks),
        Chart("Tokens a second", [Line("", curves.curve("tokens_per_second"))], marks=marks),
    ]  # fmt: skip


def marks_of(entries: Sequence[Entry], curves: Curves) -> list[Mark]:
    """The decisions that came into force; without a journal, none."""
    applied = [e for e in entries if e.outcome == "applied" and e.answered_at is not None]
    numbers = {id(entry): place for place, entry in enumerate(entries, 1)}
    return [
        Mark(float(e.answered_at or 0), numbers[id(e)], decision_sentence(e))
        for e in applied
        if (e.answered_at or 0) <= max(curves.last, 1)
    ]


def smoothed(label: str, smooth: Smooth, colour: int) -> tuple[Line, Band]:
    """A share and its interval."""
    ends = zip(smooth.low.whole(), smooth.high.whole(), strict=True)
    return (
        Line(label, smooth.middle.whole(), colour),
        Band("", [(x, low, high) for (x, low), (_, high) in ends], colour),
    )


def pass_at_1(label: str, curves: Curves, colour: int) -> Dots:
    """Held-out pass@1 with its standard error."""
    known = [e for e in curves.evaluations if 1 in e.pass_at_k]
    return Dots(
        label,
        [(e.iteration, e.pass_at_k[1], e.se if e.se == e.se else 0.0) for e in known],
        colour,
    )


def _correctness(run: RunSnapshot, curves: Curves, marks: Sequence[Mark]) -> Chart:
    live, live_band = smoothed("at the live threshold", curves.correctness, 1)
    reference, band = smoothed("at the reference threshold", curves.reference, 0)
    if not reference.points:
        reference, band = Line("", []), Band("", [])
    expected = [
        (float(x), low, high)
        for x, low, high in EXPECTED.get(run.algorithm or "", ())
        if x <= max(curves.last, 1)
    ]
    return Chart(
        "Correctness",
        lines=[
            Line("", curves.curve("reference_correct"), 0, is_faint=True),
            live,
            reference,
        ],
        bands=[live_band, band, Band("the guide expects", expected, 7)],
        dots=[pass_at_1("held-out pass@1", curves, 3)],
        marks=marks,
        form=share,
        bounds=(0.0, 1.0),
        note=f"Means of {WINDOW} iterations with 95% intervals on effective counts.",
    )


def _held_out(curves: Curves, marks: Sequence[Mark]) -> Chart:
    evaluations = curves.evaluations
    ks = sorted({k for each in evaluations for k in each.pass_at_k if k != 1})
    lines = [
        Line("greedy", [(e.iteration, e.greedy) for e in evaluations], 2),
        *(
            Line(f"pass@{k}", [(e.iteration, e.pass_at_k[k]) for e in evaluations
                               if k in e.pass_at_k], 5 + place)
            for place, k in enumerate(ks[:2])
        ),
    ]  # fmt: skip
    return Chart(
        "Held-out evaluation",
        lines=[Line("pass@1", [p[:2] for p in pass_at_1("", curves, 3).points], 3), *lines],
        dots=[pass_at_1("pass@1", curves, 3)],
        marks=marks,
        form=share,
        bounds=(0.0, 1.0),
    )


def _reward(curves: Curves, marks: Sequence[Mark]) -> Chart:
    mean, spread = curves.curve("reward_mean"), curves.curve("reward_std")
    pairs = zip(mean, spread, strict=False) if len(mean) == len(spread) else ()
    band = [(x, m - s, m + s) for (x, m), (_, s) in pairs]
    return Chart(
        "Reward",
        lines=[
            Line("all samples", mean, 0),
            Line("correct samples", curves.curve("correct_reward_mean"), 2),
        ],
        bands=[Band("one standard deviation", band, 0)],
        marks=marks,
    )


def _settings(curves: Curves, marks: Sequence[Mark]) -> Chart:
    steps: list[Point] = [(float(x), value) for x, value in curves.thresholds]
    if steps:
        steps.append((float(max(curves.last, steps[-1][0])), steps[-1][1]))
    said = ", then ".join(f"{name} from {at}" for at, name in curves.objectives)
    note = f"Objective: {said}." if said else ""
    return Chart(
        "Correctness threshold", [Line("", steps, 1, is_stepped=True)], marks=marks, note=note
    )


_WORDS = {
    "effective_ratio": "",
    "compile_ratio": "compile",
    "tests_pass_ratio": "pass their tests",
    "trivial_ratio": "trivial",
}


def _shares(
    title: str, curves: Curves, colours: Mapping[str, int], marks: Sequence[Mark], note: str = ""
) -> Chart:
    lines = [
        Line(_WORDS.get(name, name), curves.curve(name), colour) for name, colour in colours.items()
    ]
    return Chart(title, lines, marks=marks, form=share, bounds=(0.0, 1.0), note=note)


# --- Tables ---------------------------------------------------------------------------------------


def _decisions(entries: Sequence[Entry]) -> str:
    rows = (
        (place, e.iteration, e.by, changes_of(e), e.outcome, e.judged, e.because)
        for place, e in enumerate(entries, 1)
    )
    return table(("", "iteration", "by", "change", "outcome", "judged", "because"), rows)


def _evaluations(curves: Curves) -> str:
    ks = sorted({k for each in curves.evaluations for k in each.pass_at_k})
    head = ("iteration", "greedy", *(f"pass@{k}" for k in ks), "s.e. of pass@1", "compile", "wrong")

    def cell(value: float | None) -> str | None:
        return None if value is None or value != value else percent(value)  # noqa: PLR0124 - NaN

    rows = (
        (
            e.iteration,
            cell(e.greedy),
            *(cell(e.pass_at_k.get(k)) for k in ks),
            cell(e.se),
            cell(e.compile_ratio),
            cell(e.wrong_ratio),
        )
        for e in curves.evaluations
    )
    return table(head, rows, numbers=len(head))


def _exits(exits: Sequence[Exit]) -> str:
    return table(
        ("attempt", "when", "why"), ((each.attempt, each.at, each.reason) for each in exits)
    )


def _samples(samples: Sequence[Sample]) -> str:
    boxes = "".join(
        f'<div class="sample"><p>{text(each.verdict)}'
        f"{'' if each.reward is None else f', reward {text(number(each.reward))}'}</p>"
        f'<p class="soft">iteration {each.iteration}, {text(each.prompt)}</p>'
        f"{listing(each.text)}</div>"
        for each in samples
    )
    return f'<div class="samples">{boxes}</div>' if boxes else ""


def of_json(raw: Mapping[str, Any]) -> Sample:
    """A line of samples.jsonl.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    reward, verdict = raw["reward"], raw["verdict"]
    tests = verdict.get("tests_total") or 0
    return Sample(
        int(raw["iteration"]),
        str(raw["prompt"]),
        str(raw["text"]),
        _verdict(verdict),
        None if reward is None else float(reward),
        is_correct=bool(tests) and verdict.get("tests_passed") == tests,
    )


def _verdict(raw: Mapping[str, Any]) -> str:
    if raw.get("unscored"):
        return f"unscored: {raw['unscored']}"
    if raw.get("refused"):
        return f"refused: {raw['refused']}"
    total = raw.get("tests_total") or 0
    if raw.get("score") is not None or not total:
        return "graded" if raw.get("score") is not None else "not tested"
    if not raw.get("compiled"):
        return "does not compile" if raw.get("parsed") else "does not parse"
    trivial = ", trivial" if raw.get("trivial") else ""
    return f"{raw.get('tests_passed', 0)} of {total} tests passed{trivial}"
