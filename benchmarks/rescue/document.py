"""`docs/rescue.md` and its chart, from the results. Pure: rows in, texts out."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.rescue.kinds import ARMS, HEALTHY, KINDS, SICK, SUPERVISION
from benchmarks.rescue.outcome import (
    HARMED,
    RESCUED,
    Noise,
    Outcome,
    Outcomes,
    median_delay,
    noise_of,
    share_of,
)
from benchmarks.rescue.story import story

_ARM_NAMES = {"act": "autopilot", "observe": "observe", "naive": "naive controller"}


def document(results: Mapping[str, Any]) -> str:
    """The page, as markdown."""
    outcomes, noise = Outcomes(results["rows"]), noise_of(results["rows"])
    parts = (
        _HEAD,
        _summary(outcomes),
        _cost(results),
        "## By kind",
        _kinds(outcomes),
        "## Misses",
        _misses(outcomes),
        "## Healthy runs",
        _healthy(outcomes),
        _noise(noise),
        story(outcomes),
        "## How it is measured",
        _method(),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """# The rescue benchmark

Does the autopilot save runs that would have been lost? Real trainings are made sick on purpose, one
kind of sickness each, and others are left healthy. Each runs three times from the same seed: with
the autopilot (`--mode act`), with `--mode observe`, which decides and changes nothing, and with a
naive controller, the tuning guide's sentences at their word. The same supervisor stands under all
three. `python -m benchmarks.rescue --publish` makes the runs and writes this page."""


def _cost(results: Mapping[str, Any]) -> str:
    minutes = sum(row.get("cpu_seconds", 0) for row in results["rows"]) / 60
    return (
        f"{results['machine']}; {len(results['rows'])} runs, {minutes:.0f} CPU minutes of "
        "trainers, supervisors and daemons."
    )


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- The whole ------------------------------------------------------------------------------------


def _summary(outcomes: Outcomes) -> str:
    def rows() -> Iterator[list[str]]:
        for arm in ARMS:
            sick, healthy = outcomes.sick(arm), outcomes.healthy(arm)
            mendable = [o for o in sick if not KINDS[o.row["kind"]].hopeless]
            delay = median_delay(sick)
            yield [
                _ARM_NAMES[arm],
                _count([o.is_rescued for o in sick]),
                _count([o.is_rescued for o in mendable]),
                _count([o.is_harmed for o in healthy]) if arm != "observe" else "",
                f"{fmean(_actions(o) for o in sick):.1f}" if sick else "",
                f"{fmean(_actions(o) for o in healthy):.1f}" if healthy else "",
                "" if delay is None or arm == "naive" else f"{delay:.0f} iterations",
            ]

    head = (
        "controller",
        "sick runs rescued",
        "of those that a controller could save",
        "healthy runs harmed",
        "changes a sick run",
        "changes a healthy run",
        "noticed after, median",
    )
    return _table(head, rows())


def _count(flags: Sequence[bool]) -> str:
    return f"{sum(flags)} of {len(flags)} ({share_of(flags):.0%})" if flags else ""


def _actions(outcome: Outcome) -> int:
    row = outcome.row
    return int(row["actions"] if row["arm"] == "act" else row["by_hand"])


# --- By kind --------------------------------------------------------------------------------------


def _kinds(outcomes: Outcomes) -> str:
    def rows() -> Iterator[list[str]]:
        for name, kind in SICK.items():
            arms = {arm: outcomes.of([name], arm) for arm in ARMS}
            if not arms["act"]:
                continue
            yield [
                name,
                kind.title,
                *(_shares(arms[arm]) for arm in ARMS),
                _noticed(arms["act"]),
                _changes(arms["act"]),
                _changes(arms["naive"]),
            ]

    head = (
        "kind",
        "what is done to it",
        *(_ARM_NAMES[arm] for arm in ARMS),
        "noticed",
        "its changes",
        "the naive one's",
    )
    skipped = [f"- {kind}: not run here, {why}" for kind, why in outcomes.skipped()]
    told = (
        "Held-out pass@1 at the end over the healthy twin's; **bold** where rescued, at least 90%."
    )
    return "\n\n".join([told, _table(head, rows()), *skipped])


def _shares(found: Sequence[Outcome]) -> str:
    return ", ".join(f"**{o.share:.0%}**" if o.is_rescued else f"{o.share:.0%}" for o in found)


def _noticed(found: Sequence[Outcome]) -> str:
    told = [o.row["detected"] for o in found if o.row["detected"] is not None]
    if not told:
        return "not needed" if found and not KINDS[found[0].row["kind"]].signs else "no"
    delays = ", ".join(f"{o.delay}" for o in found if o.delay is not None)
    return f"{', '.join(dict.fromkeys(rule for _, rule in told))} after {delays}"


def _changes(found: Sequence[Outcome]) -> str:
    return ", ".join(str(_actions(outcome)) for outcome in found)


# --- What went wrong ------------------------------------------------------------------------------


def _misses(outcomes: Outcomes) -> str:
    lines = []
    for name, kind in SICK.items():
        found = outcomes.of([name], "act")
        missed = [o for o in found if not o.is_rescued]
        if not missed:
            continue
        why = f"no controller could: {kind.hopeless}" if kind.hopeless else kind.if_missed
        seeds = ", ".join(str(o.row["seed"]) for o in missed)
        lines.append(
            f"- **{name}** ({_shares(missed)}; seed {seeds}): {why or 'not understood yet'}."
        )
    return "\n".join(lines) or "None."


def _healthy(outcomes: Outcomes) -> str:
    def rows() -> Iterator[list[str]]:
        for name in HEALTHY:
            arms = {arm: outcomes.of([name], arm) for arm in ARMS}
            if not arms["observe"]:
                continue
            alone = ", ".join(f"{o.row['pass_at_1']:.1%}" for o in arms["observe"])
            told = [_against_observe(arms[arm]) for arm in ("act", "naive")]
            yield [name, alone, *told, _changes(arms["act"]), _changes(arms["naive"])]

    head = (
        "run",
        "pass@1 when left alone",
        "autopilot, over that",
        "naive controller, over that",
        "autopilot's changes",
        "the naive one's",
    )
    told = f"**Bold** where harmed: below {HARMED:.0%}."
    return "\n\n".join([told, _table(head, rows())])


def _against_observe(found: Sequence[Outcome]) -> str:
    return ", ".join(f"**{o.share:.0%}**" if o.is_harmed else f"{o.share:.0%}" for o in found)


def _noise(noise: Noise | None) -> str:
    same = (
        "A run is exactly repeatable: with the same seed and no change made, both end with the "
        "same model. So a run that the autopilot leaves alone cannot differ from `observe`'s at "
        "all; chance is in it only once something was changed, or done again."
    )
    if noise is None:
        return same
    return (
        f"{same} How much: {noise.runs} untouched healthy runs, alike but for their seeds, spread "
        f"by {noise.spread:.1%} in pass@1, so of two equal ones a given one lies below "
        f"{HARMED:.0%} of the other in {noise.chance(HARMED):.0%} of cases, and below "
        f"{RESCUED:.0%} in {noise.chance(RESCUED):.1%}."
    )


def _method() -> str:
    env = ", ".join(f"`{key}={value}`" for key, value in SUPERVISION.items())
    return f"""- **The runs** are the installed command's, each in a home of its own with a daemon
  of its own, policy `guide` as it is shipped. The small tasks' models have 83,000 parameters,
  an iteration of 64 samples takes some 50 ms, a run 200 of them (arithmetic 100). Held-out
  evaluations every 20 iterations, checkpoints every 10.
- **Outcome**: pass@1 of the newest checkpoint that can be read, once as many samples were drawn as
  the healthy twin draws in all, those of iterations that are done again among them. It is measured
  apart, on every held-out prompt of the healthy task (some 250), 8 samples each, whatever the run's
  own reward says.
- **Rescued**: at least {RESCUED:.0%} of the twin's: same seed, same task, nothing done to it.
  **Harmed**: a healthy run below {HARMED:.0%} of what it reaches under `observe`.
- **Noticed**: the first decision, alert or restart that tells of this sickness (each kind names its
  signs), in iterations since it began.
- **Time is short here**: {env}, `--reward-timeout 2`; the minute of a full disk is 6 s, and 20 s
  between two kills of the daemon are 2 s. A command of the naive controller takes half a second,
  some ten iterations.
- **Seeds**: 0, 1 and 2 (`--quick`: 0). Rules were improved on seeds from 100 on."""
