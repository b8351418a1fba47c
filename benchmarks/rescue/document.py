"""`docs/rescue.md` and its chart, from the results. Pure: rows in, texts out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.rescue.kinds import ARMS, HEALTHY, KINDS, SICK, SUPERVISION
from benchmarks.rescue.outcome import HARMED, RESCUED, Noise, Outcome, Outcomes, noise_of
from benchmarks.rescue.story import story
from benchmarks.rescue.summary import summary
from benchmarks.rescue.tables import ARM_NAMES, actions, table

# Where chance alone makes so many equal runs look lost, one run tells little.
_TOSSED = 0.10


def document(results: Mapping[str, Any]) -> str:
    """The page, as markdown."""
    outcomes, noise = Outcomes(results["rows"]), noise_of(results["rows"])
    parts = (
        _HEAD,
        summary(outcomes),
        _cost(results),
        "## By kind",
        _kinds(outcomes),
        "## Misses",
        _misses(outcomes),
        _again(outcomes),
        "## Healthy runs",
        _healthy(outcomes),
        _noise(noise),
        story(outcomes),
        "## How it is measured",
        _method(results, outcomes),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """# The rescue benchmark

Does the autopilot save runs that would have been lost? Real trainings are made sick on purpose, one
kind of sickness each, and others are left healthy. Each runs three times from the same seed: with
the autopilot (`--mode act`), with `--mode observe`, which decides and changes nothing, and with a
naive controller, the tuning guide's sentences at their word. The same supervisor stands under all
three. `python -m benchmarks.rescue --publish` makes the runs and writes this page."""


def _cost(results: Mapping[str, Any]) -> str:
    rows = results["rows"]
    minutes = sum(row.get("cpu_seconds", 0) for row in rows) / 60
    longest = max(sum(r["seconds"] for r in rows if r["seed"] == seed) for seed in _seeds(rows))
    return (
        f"{results['machine']}; {len(rows)} runs, {minutes:.0f} CPU minutes of trainers, "
        f"supervisors and daemons. Two runs at a time, a seed took {longest / 120:.0f} minutes at "
        "most, beside whatever else the machine had to do: so long does `--quick` take."
    )


def _seeds(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["seed"] for row in rows})


# --- By kind --------------------------------------------------------------------------------------


_KINDS_TOLD = f"""Held-out pass@1 at the end over the healthy twin's, a figure a seed;
**bold** where rescued, at least {RESCUED:.0%}. Noticed: by the autopilot, in iterations since the
sickness began."""


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
        *(ARM_NAMES[arm] for arm in ARMS),
        "noticed",
        "its changes",
        "the naive one's",
    )
    skipped = [f"- {kind}: not run here, {why}" for kind, why in outcomes.skipped()]
    return "\n\n".join([_KINDS_TOLD, table(head, rows()), *skipped])


def _shares(found: Sequence[Outcome]) -> str:
    return ", ".join(f"**{o.share:.0%}**" if o.is_rescued else f"{o.share:.0%}" for o in found)


def _noticed(found: Sequence[Outcome]) -> str:
    if not KINDS[found[0].row["kind"]].signs:
        return "no rule tells"
    rules = dict.fromkeys(o.row["detected"][1] for o in found if o.row["detected"])
    if not rules:
        return "no"
    delays = ", ".join("never" if o.delay is None else f"{o.delay}" for o in found)
    return f"{', '.join(rules)} after {delays}"


def _changes(found: Sequence[Outcome]) -> str:
    return ", ".join(str(actions(outcome)) for outcome in found)


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
        highest = ", ".join(f"{_highest(outcomes, o):.0%}" for o in missed)
        lines.append(
            f"- **{name}** ({_shares(missed)}; seed {seeds}): {why or 'not understood yet'}. Its "
            f"best held-out evaluation on the way: {highest} of the twin's."
        )
    return "\n".join(lines) or "None."


def _again(outcomes: Outcomes) -> str:
    """What was made once more, and why; both are told."""
    pairs = outcomes.again()
    if not pairs:
        return ""

    def rows(why: str) -> Iterator[list[str]]:
        for was, now in pairs:
            if now.row["again"] == why:
                name, seed = now.row["kind"], str(now.row["seed"])
                yield [name, seed, ARM_NAMES[now.row["arm"]], _ending(was), _ending(now)]

    sick = outcomes.before().sick("act")
    head = ("kind", "seed", "controller", "before", "after")
    told = (
        "All other tables show the later runs. With the earlier ones in their place the autopilot "
        f"rescued {sum(o.is_rescued for o in sick)} of {len(sick)} sick runs. Shares are of the "
        "twin's pass@1, or of what a healthy run reaches under `observe`."
    )
    parts = ["## Made again", told]
    for why in dict.fromkeys(now.row["again"] for _, now in pairs):
        parts += [f"{why}:", table(head, rows(why))]
    return "\n\n".join(parts)


def _ending(outcome: Outcome) -> str:
    detected = outcome.row["detected"]
    if outcome.row["kind"] in HEALTHY:
        return f"{outcome.share:.0%}"
    sign = "not noticed" if detected is None else f"{detected[1]} after {outcome.delay}"
    return f"{_shares([outcome])}, {sign}"


def _highest(outcomes: Outcomes, outcome: Outcome) -> float:
    """Of all evaluations that the run made, over the best that its twin made."""
    return _best(outcome.row) / _best(outcomes.twin(outcome.row) or {})


def _best(row: Mapping[str, Any]) -> float:
    return max((pass_at_1 for _, pass_at_1, _ in row.get("evaluations", [])), default=math.nan)


def _healthy(outcomes: Outcomes) -> str:
    def rows() -> Iterator[list[str]]:
        for name in HEALTHY:
            arms = {arm: outcomes.of([name], arm) for arm in ARMS}
            if not arms["observe"]:
                continue
            alone = ", ".join(f"{o.row['pass_at_1']:.1%}" for o in arms["observe"])
            told = [_against_observe(arms[arm]) for arm in ("act", "naive")]
            changes = [_changes(arms[arm]) for arm in ("act", "naive")]
            yield [name, alone, *told, *changes, _alerts(arms["act"])]

    head = (
        "run",
        "pass@1 when left alone",
        "autopilot, over that",
        "naive controller, over that",
        "autopilot's changes",
        "the naive one's",
        "the autopilot told of",
    )
    told = f"A figure a seed, **bold** where harmed: below {HARMED:.0%}."
    return "\n\n".join([told, table(head, rows())])


def _alerts(found: Sequence[Outcome]) -> str:
    told = [
        ", ".join(dict.fromkeys(f"{rule} at {at}" for at, rule in o.row["noticed"])) for o in found
    ]
    return "; ".join(each or "nothing" for each in told) if any(told) else ""


def _against_observe(found: Sequence[Outcome]) -> str:
    return ", ".join(f"**{o.share:.0%}**" if o.is_harmed else f"{o.share:.0%}" for o in found)


def _noise(noise: Mapping[str, Noise]) -> str:
    same = (
        "A run is exactly repeatable: with the same seed and no change made, both end with the "
        "same model. So a run that the autopilot leaves alone cannot differ from `observe`'s at "
        "all; chance is in it only once something was changed, or done again."
    )
    if not noise:
        return same
    head = (
        "task",
        "untouched healthy runs",
        "spread of pass@1 between seeds",
        f"below {HARMED:.0%} of an equal run by chance",
        f"below {RESCUED:.0%}",
    )
    rows = (
        [
            task,
            str(of.runs),
            f"{of.spread:.1%}",
            *(f"{of.chance(s):.1%}" for s in (HARMED, RESCUED)),
        ]
        for task, of in noise.items()
    )
    noisy = {task for task, of in noise.items() if of.chance(RESCUED) > _TOSSED}
    tossed = [name for name, kind in SICK.items() if kind.task in noisy]
    caution = f"So the shares of {', '.join(tossed)} tell little." if tossed else ""
    return f"{same} How much, by task:\n\n{table(head, rows)}\n\n{caution}".rstrip()


def _method(results: Mapping[str, Any], outcomes: Outcomes) -> str:
    env = ", ".join(f"`{key}={value}`" for key, value in SUPERVISION.items())
    seeds = ", ".join(str(seed) for seed in _seeds(results["rows"]))
    return f"""- **The runs** are the installed command's, each in a home of its own with a daemon
  of its own, policy `guide` as it is shipped. The models have some 83,000 parameters (arithmetic
  357,000), an iteration of 64 samples takes some 50 ms, a run 200 of them (arithmetic 100).
  Held-out evaluations every 20 iterations, checkpoints every 10.
- **Outcome**: pass@1 of the newest checkpoint that can be read, once as many samples were drawn as
  the healthy twin draws in all, those of iterations that are done again among them. It is measured
  apart, on every held-out prompt of the healthy task (rules 244, maze 97, arithmetic 258),
  8 samples each, whatever the run's own reward says. The twin: same seed, same task, nothing done
  to it, under `observe`. A run whose samples are spent is stopped by `maxrl-ops stop`, so a little
  late: {_excess(outcomes)}.
- **Noticed**: the first decision, alert or restart that tells of this sickness (each kind names its
  signs), in iterations since it began.
- **Time is short here**: {env}, `--reward-timeout 2`; the minute of a full disk is 6 s, and 20 s
  between two kills of the daemon are 2 s. A command of the naive controller takes half a second,
  some ten iterations.
- **Seeds**: {seeds} (`--quick`: 0). Rules were improved on seeds from 100 on, never on these."""


def _excess(outcomes: Outcomes) -> str:
    """By how much each controller's runs were longer than their twins."""
    told = []
    for arm in ARMS:
        found = [o.excess for o in (*outcomes.sick(arm), *outcomes.healthy(arm))]
        if found:
            told.append(f"{ARM_NAMES[arm]} {max(found):.0%} more samples at most")
    return "; ".join(told)
