"""The keys of a block and of a header in the guide's log: how each value is written and read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from maxrl_ops.wire.record import Algorithm, IterationRecord, RunStarted

_VERDICTS = (
    (0.90, "Outstanding - near perfect"),
    (0.85, "Excellent - ahead of schedule"),
    (0.75, "Good - on track"),
    (0.50, "Fair - keep watching"),
)
_LOW = "Low - see the tuning guide"


def verdict_of(correctness: float) -> str:
    """The guide's words for a correctness of 0 to 1."""
    return next((words for least, words in _VERDICTS if correctness >= least), _LOW)


# --- Values -----------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number as the log spells it: six significant digits, no trailing zeros."""
    return f"{value:.6g}"


def exact(value: float) -> str:
    """A number that reads back as the same one, without `.0`: what a control starts from."""
    return repr(float(value)).removesuffix(".0")


def percent(ratio: float) -> str:
    """0.75 -> `75.0%`."""
    return f"{100 * ratio:.1f}%"


# No digit may be read in two ways: a line of 64 KB of them, which nothing follows that fits, would
# be tried in all combinations.
# Rust prints NaN, Python nan.
NUM = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+|(?i:nan|inf))"
PCT = rf"{NUM}%"
# As many digits as a 64-bit integer holds; the first ones of a longer number are not it.
INT = r"\d{1,18}(?!\d)"


def read_float(text: str) -> float:
    """A captured number; percents become ratios, and what a float cannot hold, inf."""
    if text.endswith("%"):
        # Rounded, or 96.9% would be 0.9690000000000001.
        return round(float(text[:-1]) / 100, 12)
    return float(text)


# --- The lines of a block and of a header -------------------------------------------------------


def one_line(text: str) -> str:
    """Text that cannot end its line or pose as another: control characters become spaces."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def read_levels(text: str) -> dict[float, int]:
    """`15:13 20:12 ` -> {15.0: 13, 20.0: 12}."""
    pairs = (pair.split(":") for pair in text.split())
    return {float(level): int(count) for level, count in pairs}


def _read_bounds(text: str) -> tuple[float, float]:
    match = re.fullmatch(rf"({NUM})-({NUM})", text)
    assert match is not None  # noqa: S101 - its line's pattern found it
    return float(match[1]), float(match[2])


def _plain_type(field: Field[Any]) -> str:
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    return kind.removesuffix(" | None")


_OWN_READERS: Mapping[str, Callable[[str], Any]] = {
    "algorithm": Algorithm,
    "bounds": _read_bounds,
    "rewards_above": read_levels,
}
_BY_TYPE: Mapping[str, Callable[[str], Any]] = {"int": int, "float": read_float, "str": str}
READERS: Mapping[str, Callable[[str], Any]] = {
    field.name: _OWN_READERS.get(field.name) or _BY_TYPE[_plain_type(field)]
    for owner in (IterationRecord, RunStarted)
    for field in fields(owner)
    if field.name != "extra"
}
"""How the text of each field is read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One `Key: value`: how it reads, and how it is written; None where there is nothing to say.

    The pattern's groups are named as fields, but for one that says again what others tell: `_...`.
    """

    key: str
    pattern: re.Pattern[str]
    write: Callable[[Any], str | None]

    def read(self, match: re.Match[str]) -> dict[str, Any]:
        """The fields that a match of the pattern tells."""
        return {
            name: READERS[name](text)
            for name, text in match.groupdict().items()
            if text is not None and name in READERS
        }


def _line(key: str, pattern: str, write: Callable[[Any], str | None]) -> Line:
    return Line(key, re.compile(pattern), write)


def _single(key: str, name: str, form: Callable[[Any], str], pattern: str, unit: str = "") -> Line:
    def write(event: Any) -> str | None:
        value = getattr(event, name)
        return None if value is None else form(value) + unit

    return _line(key, rf"(?P<{name}>{pattern}){unit}", write)


def _word(key: str, name: str) -> Line:
    def write(event: Any) -> str | None:
        value = getattr(event, name)
        return None if value is None else one_line(str(value))

    return _line(key, rf"(?P<{name}>.*)", write)


def _counted(key: str, part: str, whole: str) -> Line:
    def write(event: Any) -> str | None:
        count, total = getattr(event, part), getattr(event, whole)
        if count is None or not total:
            return None
        return f"{count}/{total} ({percent(count / total)})"

    return _line(key, rf"(?P<{part}>{INT})/(?P<{whole}>{INT})(?: \((?P<_share>{PCT})\))?", write)


def _write_rewards_above(r: IterationRecord) -> str | None:
    if not r.rewards_above:
        return None
    levels = " ".join(f"{number(level)}:{count}" for level, count in r.rewards_above.items())
    return f"{levels} of {r.rewards_of}"


def _write_groups(r: IterationRecord) -> str | None:
    if r.groups_mixed is None:
        return None
    return (
        f"{r.groups_all_wrong} all wrong, {r.groups_all_correct} all correct, "
        f"{r.groups_mixed} mixed"
    )


def _write_effective(r: IterationRecord) -> str | None:
    if r.effective_samples is None or r.effective_of is None:
        return None
    text = f"{r.effective_samples:.1f} of {r.effective_of:.1f}"
    if r.effective_half is None or r.effective_double is None:
        return text
    return f"{text} (T/2 {r.effective_half:.1f}, 2T {r.effective_double:.1f})"


def _write_reward(r: IterationRecord) -> str | None:
    if r.reward_mean is None or r.reward_std is None:
        return None
    return f"{number(r.reward_mean)} +- {number(r.reward_std)}"


def _write_unique(r: IterationRecord) -> str | None:
    return None if r.unique is None else f"{r.unique}/{r.unique_of}"


def _write_time(r: IterationRecord) -> str | None:
    if r.duration is None:
        return None
    parts = (("sample", r.sample_time), ("verify", r.verify_time), ("update", r.update_time))
    known = ", ".join(f"{name} {value:.2f}s" for name, value in parts if value is not None)
    return f"{r.duration:.2f}s" + (f" ({known})" if known else "")


def _write_revision(r: IterationRecord) -> str | None:
    return None if r.control_revision is None else f"revision {r.control_revision}"


# A row of the block is one line of the log; its cells stand three spaces apart.
BLOCK: tuple[tuple[Line, ...], ...] = (
    (_counted("Correctness", "n_correct", "n_total"),),
    (_single("Avg correct reward", "correct_reward_mean", number, NUM),),
    (_single("Loss", "loss", number, NUM),),
    (_word("Objective", "objective"),),
    (_counted("Reference correctness", "reference_correct", "reference_total"),),
    (
        _line(
            "Rewards above",
            rf"(?P<rewards_above>(?:{NUM}:{INT} )+)of (?P<rewards_of>{INT})",
            _write_rewards_above,
        ),
    ),
    (
        _line(
            "Groups",
            rf"(?P<groups_all_wrong>{INT}) all wrong, (?P<groups_all_correct>{INT}) all correct, "
            rf"(?P<groups_mixed>{INT}) mixed",
            _write_groups,
        ),
    ),
    (_single("Replayed", "replayed", str, INT, " prompts"),),
    (
        _line(
            "Effective samples",
            rf"(?P<effective_samples>{NUM}) of (?P<effective_of>{NUM})"
            rf"(?: \(T/2 (?P<effective_half>{NUM}), 2T (?P<effective_double>{NUM})\))?",
            _write_effective,
        ),
    ),
    (_line("Reward", rf"(?P<reward_mean>{NUM}) \+- (?P<reward_std>{NUM})", _write_reward),),
    (
        _single("Compile", "compile_ratio", percent, PCT),
        _single("Tests", "tests_pass_ratio", percent, PCT),
        _single("Trivial", "trivial_ratio", percent, PCT),
        _line("Unique", rf"(?P<unique>{INT})/(?P<unique_of>{INT})", _write_unique),
        _single("Unscored", "unscored", str, INT),
    ),
    (_single("Length", "length_mean", lambda x: f"{x:.1f}", NUM, " tokens"),),
    (
        _single("Grad norm", "grad_norm", number, NUM),
        _single("Entropy", "entropy", number, NUM),
        _single("KL", "kl", number, NUM),
        _single("LR", "learning_rate", number, NUM),
    ),
    (
        _line(
            "Time",
            rf"(?P<duration>{NUM})s(?: \((?:sample (?P<sample_time>{NUM})s)?"
            rf"(?:(?:, )?verify (?P<verify_time>{NUM})s)?"
            rf"(?:(?:, )?update (?P<update_time>{NUM})s)?\))?",
            _write_time,
        ),
        _single("Tokens", "tokens", str, INT),
    ),
    (_line("Control", rf"revision (?P<control_revision>{INT})", _write_revision),),
    (_word("At", "at"),),
)

HEADER: tuple[Line, ...] = (
    _line("RL Method", f"(?P<algorithm>{'|'.join(Algorithm)})", lambda e: e.algorithm.value),
    _word("Objective", "objective"),
    _word("Task", "task"),
    _word("Model", "model"),
    _word("Device", "device"),
    _word("Reward profile", "reward"),
    _single("Seed", "seed", str, INT),
    _single("Iterations", "target_iterations", str, INT),
    _single("Prompts per iteration", "prompts_per_iteration", str, INT),
    _single("Samples per prompt", "n_samples", str, INT),
    _single("Correctness threshold", "correctness_threshold", exact, NUM),
    _single("Weight temperature", "weight_temperature", exact, NUM),
    _single("Learning rate", "learning_rate", exact, NUM),
    _single("Reference threshold", "reference_threshold", number, NUM),
    _line(
        "Bounds",
        rf"(?P<bounds>{NUM}-{NUM})",
        lambda e: None if e.bounds is None else f"{number(e.bounds[0])}-{number(e.bounds[1])}",
    ),
    _word("Prompt sampling", "prompt_sampling"),
    _single("Replay", "replay", str, INT),
    _word("Schedule", "schedule"),
    _word("Hand over to", "hand_over_to"),
    _single("Hand over after", "hand_over_after", str, INT),
    _single("Attempt", "attempt", str, INT),
    _single("Resumed from", "resumed_from", str, INT),
)

BLOCK_KEYS: Mapping[str, Line] = {line.key: line for row in BLOCK for line in row}
HEADER_KEYS: Mapping[str, Line] = {line.key: line for line in HEADER}
