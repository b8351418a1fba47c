"""What the runs of a sweep came to, as means over seeds with intervals. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from maxrl_ops.core.run_state import State
from maxrl_ops.core.student import Estimate, estimate
from maxrl_ops.core.sweep import Point, Sweep, label
from maxrl_ops.report.curves import Curves, reached
from maxrl_ops.report.several import LEVELS
from maxrl_ops.wire.logformat import percent

MEASURES: Mapping[str, str] = {
    "iterations": "iterations",
    "samples": "samples",
    "seconds": "wall seconds",
}
"""What reaching a level is counted in, and how people are told."""

# Over, with all that it was asked for behind it, or given up: what it did not reach, it never will.
_COUNTED = frozenset({State.FINISHED, State.FAILED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a sweep, as far as it came.

    Attributes:
        state: As `status` has it; None where it has not begun.
        reason: Why it failed or was stopped.
        iterations, samples, seconds: Of all that it did.
        pass_at: The last evaluation's pass@k by k, 0 to 1.
        reached: For each of LEVELS by what measure it had been reached; None: it was not.
    """

    name: str
    point: Point
    seed: int
    state: str | None = None
    reason: str | None = None
    iterations: int | None = None
    samples: int | None = None
    seconds: float | None = None
    pass_at: Mapping[int, float] = field(default_factory=dict)
    reached: Mapping[float, Mapping[str, float] | None] = field(default_factory=dict)
    curves: Curves | None = None

    @property
    def is_counted(self) -> bool:
        """It is a result: finished, or failed by itself; not one that a person stopped."""
        return self.state in _COUNTED

    def to_json(self) -> dict[str, Any]:
        """As `sweep --json` has it."""
        return {
            "name": self.name,
            "point": dict(self.point),
            "seed": self.seed,
            "state": self.state,
            "reason": self.reason,
            "iterations": self.iterations,
            "samples": self.samples,
            "seconds": self.seconds,
            "pass_at": {str(k): value for k, value in sorted(self.pass_at.items())},
            "reached": {
                percent(level): None if at is None else dict(at)
                for level, at in self.reached.items()
            },
        }


def reached_of(curves: Curves) -> dict[float, Mapping[str, float] | None]:
    """When held-out pass@1 had each level at two evaluations in a row, in each measure known."""
    found: dict[float, Mapping[str, float] | None] = {}
    for level in LEVELS:
        at = reached(curves.evaluations, level)
        found[level] = None if at is None else measured(curves, at)
    return found


def measured(curves: Curves, iteration: int) -> dict[str, float]:
    """An iteration in each measure that the log tells."""
    told = {
        "iterations": iteration,
        "samples": curves.samples_at(iteration),
        "seconds": curves.seconds_at(iteration),
    }
    return {measure: value for measure, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Reached:
    """How often a level was reached, and at what cost where it was.

    Attributes:
        count: By how many runs.
        of: Among how many that count.
        costs: By measure, over those that reached it: where not all did, the others would have
            needed more.
    """

    count: int
    of: int
    costs: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """As `sweep --json` has it."""
        costs = {measure: _estimate_json(cost) for measure, cost in self.costs.items()}
        return {"reached": self.count, "of": self.of, **costs}


@dataclass(frozen=True, slots=True)
class Row:
    """One point of a sweep over its seeds.

    Attributes:
        runs: How many were asked for.
        finished, failed: Of these, those that are results; others go on, or somebody stopped them.
        pass_at: At the end of finished runs, by k.
        reached: By level, over finished and failed ones.
        gain: By how much pass@1 at the end is above the first point's, seed by seed; None for the
            first, and where no seed has finished at both. What a seed does to both is not in it.
    """

    point: Point
    runs: int
    finished: int
    failed: int
    pass_at: Mapping[int, Estimate]
    reached: Mapping[float, Reached]
    gain: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """As `sweep --json` has it."""
        return {
            "point": dict(self.point),
            "runs": self.runs,
            "finished": self.finished,
            "failed": self.failed,
            "pass_at": {str(k): _estimate_json(e) for k, e in self.pass_at.items()},
            "gain": None if self.gain is None else _estimate_json(self.gain),
            "reached": {percent(level): each.to_json() for level, each in self.reached.items()},
        }


def rows(points: Sequence[Point], outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each point, from those of its runs that are results."""
    first = _at_end(points[0], outcomes)
    found = []
    for point in points:
        row = _row(point, [each for each in outcomes if each.point == point])
        if point != points[0]:
            at_end = _at_end(point, outcomes)
            gains = [at_end[seed] - first[seed] for seed in first if seed in at_end]
            row = replace(row, gain=estimate(gains))
        found.append(row)
    return found


def _at_end(point: Point, outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Pass@1 of a point's finished runs, by seed."""
    return {
        each.seed: each.pass_at[1]
        for each in outcomes
        if each.point == point and each.state == State.FINISHED and 1 in each.pass_at
    }


def _row(point: Point, mine: Sequence[Outcome]) -> Row:
    counted = [each for each in mine if each.is_counted]
    finished = [each for each in counted if each.state == State.FINISHED]
    ks = sorted({k for each in finished for k in each.pass_at})
    at_end = {k: estimate([e.pass_at[k] for e in finished if k in e.pass_at]) for k in ks}
    return Row(
        point=point,
        runs=len(mine),
        finished=len(finished),
        failed=len(counted) - len(finished),
        pass_at={k: found for k, found in at_end.items() if found is not None},
        reached={level: _reached(level, counted) for level in LEVELS},
    )


def _reached(level: float, counted: Sequence[Outcome]) -> Reached:
    found = [at for each in counted if (at := each.reached.get(level)) is not None]
    costs = {m: estimate([at[m] for at in found if m in at]) for m in MEASURES}
    known = {measure: cost for measure, cost in costs.items() if cost is not None}
    return Reached(len(found), len(counted), known)


def to_json(sweep: Sweep, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The whole result as `sweep --json` prints it."""
    return {
        "sweep": sweep.name,
        "job_name": sweep.job_name,
        "created": sweep.created,
        "axes": {axis.key: list(axis.values) for axis in sweep.axes},
        "seeds": list(sweep.seeds),
        "settings": dict(sweep.settings),
        "mode": sweep.mode,
        "points": [row.to_json() for row in rows(sweep.points(), outcomes)],
        "runs": [each.to_json() for each in outcomes],
    }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}


# --- Words, for a terminal and for a page ---------------------------------------------------------


def count_of(row: Row) -> str:
    """`3`, `2 of 3` where not all are results yet, `3, 1 failed`."""
    done = row.finished + row.failed
    said = str(done) if done == row.runs else f"{done} of {row.runs}"
    return f"{said}, {row.failed} failed" if row.failed else said


def share_cell(found: Estimate | None) -> str | None:
    """`91.2% ± 3.1%`; None where nothing is known."""
    if found is None:
        return None
    return percent(found.mean) + ("" if found.half is None else f" ± {percent(found.half)}")


def gain_cell(found: Estimate | None) -> str | None:
    """`+1.2% ± 3.4%`; None where nothing is known."""
    cell = share_cell(found)
    return cell if cell is None or cell.startswith("-") else f"+{cell}"


def cost_cell(found: Reached, measure: str) -> str | None:
    """`32 ± 6`; `2 of 3: 41` where not all reached it; `never`; None where nothing is known."""
    if not found.of:
        return None
    if not found.count:
        return "never"
    cost = found.costs.get(measure)
    if cost is None:
        return None if found.count == found.of else f"{found.count} of {found.of}"
    if found.count < found.of:
        return f"{found.count} of {found.of}: {_count(cost.mean)}"
    return _count(cost.mean) + ("" if cost.half is None else f" ± {_count(cost.half)}")


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


class Table(NamedTuple):
    """What a table shows; a cell that is None is not known."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | None]]


def tables(found: Sequence[Row]) -> list[Table]:
    """What came of each point: at the end, and in each measure when it reached each level."""
    ks = sorted({k for row in found for k in row.pass_at})
    at_end = [
        (
            label(r.point),
            count_of(r),
            *(share_cell(r.pass_at.get(k)) for k in ks),
            gain_cell(r.gain),
        )
        for r in found
    ]
    head = ("", "runs", *(f"pass@{k}" for k in ks), "pass@1 above first")
    levels = [percent(level).replace(".0%", "%") for level in LEVELS]
    return [
        Table("Held-out at the end", head, at_end),
        *(
            Table(
                f"{words.capitalize()} to held-out pass@1 of",
                ("", *levels),
                [
                    (label(r.point), *(cost_cell(each, measure) for each in r.reached.values()))
                    for r in found
                ],
            )
            for measure, words in MEASURES.items()
        ),
    ]


HOW_TO_READ = (
    "Means over seeds; ± is half the width of Student's 95% interval. Above first: the mean "
    "difference to the first row's runs, each with its seed's. A level is reached at the "
    "second of two evaluations in a row that have it. Where only some runs reached it, the mean is "
    "theirs, and the others would have needed more. Wall seconds are those of iterations, without "
    "loading and evaluating: of runs that shared a machine they tell what it was busy with, too."
)
"""Said under the tables."""
