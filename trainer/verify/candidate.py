"""What is verified."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion together with its prompt, and what it should do.

    Attributes:
        source: The whole file: doc comment, `pub fn NAME(...) -> T {`, body, `}`.
        function: NAME.
        tests: Rust boolean expressions that call NAME unqualified: `"sum(&[1, 2]) == 3"`.
    """

    source: str
    function: str
    tests: tuple[str, ...]
