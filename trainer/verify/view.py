"""What `python -m trainer.verify` says: text for a person, or JSON.

Sources and file names are hostile: nothing of them reaches a terminal as a control sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.verdict import Verdict
from trainer.verify.files import FileVerdict

# Of one compiler message.
_LONGEST = 4000


@dataclass(frozen=True, slots=True)
class Line:
    """One file and everything found out about it; `reward` is None where it is unscored."""

    file: str
    found: FileVerdict
    reward: float | None
    components: dict[str, float]
    correct: bool


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One object a file, in order."""
    return [_object(line) for line in lines]


def _object(line: Line) -> dict[str, Any]:
    verdict = line.found.verdict
    return {
        "file": line.file,
        "parsed": verdict.parsed,
        "compiled": bool(verdict.compiled),
        "errors": verdict.errors,
        "warnings": verdict.warnings,
        "tests_passed": verdict.tests_passed,
        "tests_total": verdict.tests_total,
        "unscored": verdict.unscored,
        "reward": line.reward,
        "components": line.components,
        "correct": line.correct,
        "refused": verdict.refused,
        "trivial": verdict.trivial,
        "failed": list(line.found.failed),
        "messages": [message[:_LONGEST] for message in line.found.messages],
        "quality": verdict.quality,
        "seconds": verdict.seconds,
    }


def as_text(line: Line) -> str:
    """A few lines: what it earned, for what, and what the compiler says."""
    verdict = line.found.verdict
    reward = "unscored" if line.reward is None else f"reward {line.reward:.2f}"
    rows = [
        f"{_plain(line.file)}: {'correct' if line.correct else 'not correct'}, {reward}",
        f"  {_plain(_told(verdict))}",
    ]
    if line.components:
        earned = (f"{name} {value:+.2f}" for name, value in line.components.items())
        rows.append(f"  {', '.join(earned)}")
    rows += [f"  failed: {_plain(name)}" for name in line.found.failed]
    for message in line.found.messages:
        named = message[:_LONGEST].replace("--> c0.rs:", f"--> {line.file}:")
        rows += [f"  | {_plain(row)}" for row in named.split("\n")]
    return "\n".join(rows) + "\n"


def _told(verdict: Verdict) -> str:
    """The verdict in a sentence."""
    if verdict.unscored is not None:
        return f"no verdict: {verdict.unscored}"
    if verdict.refused is not None:
        return f"refused, and not compiled: {verdict.refused}"
    if not verdict.parsed:
        return "does not parse"
    if not verdict.compiled:
        return f"does not compile: {_count(verdict.errors, 'error')}"
    if verdict.tests_total:
        tests = f"passes {verdict.tests_passed} of {_count(verdict.tests_total, 'test')}"
    else:
        tests = "no tests" + (", and does nothing" if verdict.trivial else "")
    return f"compiles with {_count(verdict.warnings, 'warning')}; {tests}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _plain(text: str) -> str:
    """`text` on one line: what is not printable is spelt out by its number."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text.expandtabs(4))
