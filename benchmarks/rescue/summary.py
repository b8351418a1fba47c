"""The first table of `docs/rescue.md`: the controllers side by side. Pure: rows in, texts out."""

from collections.abc import Callable, Sequence
from statistics import fmean

from benchmarks.rescue.kinds import ARMS, KINDS, SICK
from benchmarks.rescue.outcome import (
    BETTER,
    HARMED,
    RESCUED,
    Outcome,
    Outcomes,
    median_delay,
    share_of,
)
from benchmarks.rescue.tables import ARM_NAMES, actions, table
from maxrl_ops.core.stats import wilson

_Z = 1.96


def summary(outcomes: Outcomes) -> str:
    """The table, and what its words mean."""
    shown = [(name, [of(outcomes, arm) for arm in ARMS]) for name, of in _FIGURES.items()]
    rows = ([name, *cells] for name, cells in shown if any(cells))
    return "\n\n".join([table(["", *ARM_NAMES.values()], rows), _words(outcomes)])


def _words(outcomes: Outcomes) -> str:
    rescued = [o for o in outcomes.sick("observe") if o.is_rescued]
    restarted = sum(o.row["restarts"] > 0 for o in rescued)
    unaided = len(rescued) - restarted
    return f"""**Rescued** is a sick run that ends with at least {RESCUED:.0%} of its healthy twin's
held-out pass@1, whoever brought that about. Supervision is the same under all three: a trainer that
dies or stands still is restarted, a reward that hangs or raises is borne. `observe` shows what that
alone is worth: of its {len(rescued)} rescued runs {restarted} were restarted, and {unaided} needed
nobody, since their sickness, once borne, costs less than {1 - RESCUED:.0%}. What a controller's own
decisions are worth is told by the rows on what ends sick, and well, under `observe`. **Harmed** is
a healthy run that ends below {HARMED:.0%} of what it reaches under `observe`.

Ranges are Wilson's 95% intervals, as if runs were drawn one by one: the seeds of a kind end alike,
so they are too narrow. Kinds were chosen, not met: how often runs fall sick is not told here."""


# --- Figures --------------------------------------------------------------------------------------


def _count(flags: Sequence[bool]) -> str:
    return f"{sum(flags)} of {len(flags)} ({share_of(flags):.0%})" if flags else ""


def _count_and_range(flags: Sequence[bool]) -> str:
    if not flags:
        return ""
    low, high = wilson(share_of(flags), len(flags), _Z)
    return f"{_count(flags)[:-1]}; {low:.0%} to {high:.0%})"


def _rescued(outcomes: Outcomes, arm: str) -> str:
    return _count_and_range([o.is_rescued for o in outcomes.sick(arm)])


def _mendable(outcomes: Outcomes, arm: str) -> str:
    found = [o for o in outcomes.sick(arm) if not KINDS[o.row["kind"]].hopeless]
    return _count_and_range([o.is_rescued for o in found])


def _whole_kinds(outcomes: Outcomes, arm: str) -> str:
    by_kind = [outcomes.of([kind], arm) for kind in SICK]
    return _count([all(o.is_rescued for o in found) for found in by_kind if found])


def _saved(outcomes: Outcomes, arm: str) -> str:
    return "" if arm == "observe" else _count([o.is_rescued for o in outcomes.parted(arm)[0]])


def _broken(outcomes: Outcomes, arm: str) -> str:
    return "" if arm == "observe" else _count([not o.is_rescued for o in outcomes.parted(arm)[1]])


def _harmed(outcomes: Outcomes, arm: str) -> str:
    if arm == "observe":
        return ""
    return _count_and_range([o.is_harmed for o in outcomes.healthy(arm)])


def _better(outcomes: Outcomes, arm: str) -> str:
    return "" if arm == "observe" else _count([o.is_better for o in outcomes.healthy(arm)])


def _mean_actions(found: Sequence[Outcome]) -> str:
    return f"{fmean(actions(o) for o in found):.1f}" if found else ""


def _noticed(outcomes: Outcomes, arm: str) -> str:
    # Beside the naive controller the autopilot watches, too: what it notices there is not naive.
    found = [o for o in outcomes.sick(arm) if KINDS[o.row["kind"]].signs and arm != "naive"]
    return _count([o.delay is not None for o in found])


def _delay(outcomes: Outcomes, arm: str) -> str:
    delay = median_delay(outcomes.sick(arm))
    return "" if delay is None or arm == "naive" else f"{delay:.0f} iterations"


_FIGURES: dict[str, Callable[[Outcomes, str], str]] = {
    "**sick runs rescued**": _rescued,
    "without those that no controller could save": _mendable,
    "kinds rescued on every seed": _whole_kinds,
    "of the runs that end sick under `observe`: rescued": _saved,
    "of the runs that end well under `observe`: lost": _broken,
    "**healthy runs harmed**": _harmed,
    f"healthy runs above {BETTER:.0%} of what they reach alone": _better,
    "changes a sick run": lambda outcomes, arm: _mean_actions(outcomes.sick(arm)),
    "changes a healthy run": lambda outcomes, arm: _mean_actions(outcomes.healthy(arm)),
    "sick runs noticed, of those with something to notice": _noticed,
    "noticed after, median": _delay,
}
