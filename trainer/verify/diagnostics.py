"""Whose fault a compiler diagnostic is: rustc's JSON, by the file its spans lie in."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# `c{i}.rs` is candidate i's own file, `t{i}.rs` its tests.
_FILE = re.compile(r"[ct](\d+)\.rs")
_SUMMARY = re.compile(r"aborting due to |\d+ warnings? emitted")
# Errors at which the compiler stops for the whole crate, before it has found what it would find in
# other modules: missing lifetimes (up to rustc 1.65), a trait solver that gave up, and a bound that
# names no trait.
_STOPPING = frozenset({"E0106", "E0261", "E0262", "E0263", "E0275", "E0404", "E0405"})


@dataclass(frozen=True, slots=True)
class Blame:
    """Errors and warnings by candidate index; what nobody can be blamed for is left out.

    Attributes:
        errors: How many.
        warnings: How many.
        stopping: Whose errors may have hidden other candidates' errors.
    """

    errors: Counter[int] = field(default_factory=Counter)
    warnings: Counter[int] = field(default_factory=Counter)
    stopping: set[int] = field(default_factory=set)


def blame(output: bytes) -> Blame:
    """Count the diagnostics in `--error-format=json` output; other lines are skipped."""
    found = Blame()
    for line in output.split(b"\n"):
        if not line.startswith(b"{"):
            continue
        try:
            diagnostic = json.loads(line)
        except (ValueError, RecursionError):  # the last line of an output cut short
            continue
        level = diagnostic.get("level", "")
        if _SUMMARY.match(diagnostic.get("message", "")):
            continue
        owner = _owner(diagnostic)
        if owner is None:
            continue
        if level.startswith("error"):  # or "error: internal compiler error"
            found.errors[owner] += 1
            if (diagnostic.get("code") or {}).get("code") in _STOPPING:
                found.stopping.add(owner)
        elif level == "warning":
            found.warnings[owner] += 1
    return found


def rendered(output: bytes) -> Iterator[str]:
    """What the compiler says to a person, one text a diagnostic; other lines as they are."""
    for line in output.split(b"\n"):
        text = line.decode("utf-8", "replace")
        try:
            diagnostic = json.loads(text) if text.startswith("{") else None
        except (ValueError, RecursionError):
            diagnostic = None
        if diagnostic is not None and _SUMMARY.match(diagnostic.get("message", "")):
            continue
        if text:
            yield text if diagnostic is None else (diagnostic.get("rendered") or "").rstrip()


def _owner(diagnostic: dict[str, Any]) -> int | None:
    """The candidate of the primary span, else of any span, else of a span in a note.

    Errors found while a standard library function is instantiated have their primary span there,
    and only a note leads back to the caller.
    """
    spans = diagnostic.get("spans", [])
    spans = sorted(spans, key=lambda span: not span.get("is_primary"))
    spans += [span for child in diagnostic.get("children", []) for span in child.get("spans", [])]
    for span in spans:
        for name in _files(span):
            match = _FILE.fullmatch(name)
            if match is not None:
                return int(match[1])
    return None


def _files(span: dict[str, Any]) -> Iterator[str]:
    """The span's file, then the files of the macro calls it was expanded from."""
    current: dict[str, Any] | None = span
    while current is not None:
        yield current.get("file_name", "")
        expansion = current.get("expansion")
        current = None if expansion is None else expansion.get("span")
