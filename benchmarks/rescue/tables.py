"""What the tables of `docs/rescue.md` have in common. Pure."""

from collections.abc import Iterable, Sequence

from benchmarks.rescue.outcome import Outcome

ARM_NAMES = {"act": "autopilot", "observe": "observe", "naive": "naive controller"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def actions(outcome: Outcome) -> int:
    """Changes that this run's controller made."""
    row = outcome.row
    return int(row["actions"] if row["arm"] == "act" else row["by_hand"])
