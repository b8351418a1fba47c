"""What a verifier found out about one completion."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdict:
    """One completion's verdict, before any reward is computed from it.

    Attributes:
        parsed: The completion, together with its prompt, is syntactically well formed.
        compiled: It compiles without an error; None for a task that compiles nothing.
        errors: Errors of the code itself (a compiler's summary lines do not count).
        warnings: Warnings of the code itself, known only once it compiles.
        tests_passed: Test cases that passed.
        tests_total: Test cases there are; 0 for a task without tests.
        trivial: The body ignores its parameters or only panics, loops or says `todo!`.
        refused: The construct for which the code was not compiled at all, for example `env!`.
        unscored: Why no verdict could be reached (a deadline, a dead compiler). The sample is then
            left out of its group, and nothing else here means anything.
        score: The task's own reward, where it grades by itself; None where it does not.
        quality: What trainer.verify.quality measured of code that may be compiled, else None.
        seconds: Wall seconds: `compile`, its share of the compilations it took part in, and
            `tests`, its own. None where the verdict was remembered. No part of what is compared.
    """

    parsed: bool
    compiled: bool | None = None
    errors: int = 0
    warnings: int = 0
    tests_passed: int = 0
    tests_total: int = 0
    trivial: bool = False
    refused: str | None = None
    unscored: str | None = None
    score: float | None = None
    quality: Mapping[str, float] | None = field(default=None, hash=False)
    seconds: Mapping[str, float] | None = field(default=None, compare=False)

    @property
    def is_score_only(self) -> bool:
        """A score and nothing else: no compiler and no tests stood behind it."""
        return self.score is not None and self.compiled is None and not self.tests_total

    @property
    def passed(self) -> bool:
        """Parses, compiles, and passes every test; where a task has none, is not trivial."""
        if self.unscored is not None or not self.parsed or self.compiled is False:
            return False
        if self.tests_total:
            return self.tests_passed == self.tests_total
        return not self.trivial

    @property
    def clean(self) -> bool:
        """Passed without a warning."""
        return self.passed and self.errors == 0 and self.warnings == 0
