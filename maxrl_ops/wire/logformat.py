"""The guide's log format: the one place that renders it and the one that reads it.

    Iteration 50/1000
      Correctness: 12/16 (75.0%)
      Avg correct reward: 27.5
      Loss: 4.2
      [Good - on track]

Lines that start with "| " are what a reward or a library printed: never ours, never parsed.
The parser is pushed bytes and returns events; however the bytes are cut, the events are the same.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from maxrl_ops.wire.lines import LineSplitter
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

FOREIGN_PREFIX = "| "

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
_NUM = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+|nan|inf)"
_PCT = rf"{_NUM}%"
# As many digits as a 64-bit integer holds; the first ones of a longer number are not it.
_INT = r"\d{1,18}(?!\d)"


def _read_float(text: str) -> float:
    """A captured number; percents become ratios, and what a float cannot hold, inf."""
    if text.endswith("%"):
        # Rounded, or 96.9% would be 0.9690000000000001.
        return round(float(text[:-1]) / 100, 12)
    return float(text)


# --- The lines of a block and of a header -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """One `Key: value`: how it reads, and how it is written; None where there is nothing to say."""

    key: str
    pattern: re.Pattern[str]
    write: Callable[[Any], str | None]
    read: Callable[[re.Match[str]], dict[str, Any]]


def _named_groups(ints: frozenset[str]) -> Callable[[re.Match[str]], dict[str, Any]]:
    def read(match: re.Match[str]) -> dict[str, Any]:
        return {
            name: int(text) if name in ints else _read_float(text)
            for name, text in match.groupdict().items()
            if text is not None
        }

    return read


_INT_FIELDS = frozenset(
    field.name
    for owner in (IterationRecord, RunStarted)
    for field in fields(owner)
    if field.type in ("int", "int | None", int, int | None)
)


def _numbers(key: str, pattern: str, write: Callable[[Any], str | None]) -> _Line:
    return _Line(key, re.compile(pattern), write, _named_groups(_INT_FIELDS))


def _single(key: str, name: str, form: Callable[[Any], str], pattern: str) -> _Line:
    def write(event: Any) -> str | None:
        value = getattr(event, name)
        return None if value is None else form(value)

    return _numbers(key, rf"(?P<{name}>{pattern})", write)


def _word(key: str, name: str) -> _Line:
    def write(event: Any) -> str | None:
        value = getattr(event, name)
        return None if value is None else _one_line(str(value))

    return _Line(key, re.compile(r"(.*)"), write, lambda match: {name: match[1]})


def _one_line(text: str) -> str:
    """Text that cannot end its line or pose as another: control characters become spaces."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def _counted(key: str, part: str, whole: str) -> _Line:
    def write(event: Any) -> str | None:
        count, total = getattr(event, part), getattr(event, whole)
        if count is None or not total:
            return None
        return f"{count}/{total} ({percent(count / total)})"

    return _numbers(key, rf"(?P<{part}>{_INT})/(?P<{whole}>{_INT})(?: \({_PCT}\))?", write)


def _write_rewards_above(r: IterationRecord) -> str | None:
    if not r.rewards_above:
        return None
    levels = " ".join(f"{number(level)}:{count}" for level, count in r.rewards_above.items())
    return f"{levels} of {r.rewards_of}"


def _read_rewards_above(match: re.Match[str]) -> dict[str, Any]:
    pairs = (pair.split(":") for pair in match[1].split())
    return {
        "rewards_above": {float(level): int(count) for level, count in pairs},
        "rewards_of": int(match[2]),
    }


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
_BLOCK: tuple[tuple[_Line, ...], ...] = (
    (_counted("Correctness", "n_correct", "n_total"),),
    (_single("Avg correct reward", "correct_reward_mean", number, _NUM),),
    (_single("Loss", "loss", number, _NUM),),
    (_word("Objective", "objective"),),
    (_counted("Reference correctness", "reference_correct", "reference_total"),),
    (
        _Line(
            "Rewards above",
            re.compile(rf"((?:{_NUM}:{_INT} )+)of ({_INT})"),
            _write_rewards_above,
            _read_rewards_above,
        ),
    ),
    (
        _numbers(
            "Groups",
            rf"(?P<groups_all_wrong>{_INT}) all wrong, (?P<groups_all_correct>{_INT}) all correct, "
            rf"(?P<groups_mixed>{_INT}) mixed",
            _write_groups,
        ),
    ),
    (
        _numbers(
            "Effective samples",
            rf"(?P<effective_samples>{_NUM}) of (?P<effective_of>{_NUM})"
            rf"(?: \(T/2 (?P<effective_half>{_NUM}), 2T (?P<effective_double>{_NUM})\))?",
            _write_effective,
        ),
    ),
    (_numbers("Reward", rf"(?P<reward_mean>{_NUM}) \+- (?P<reward_std>{_NUM})", _write_reward),),
    (
        _single("Compile", "compile_ratio", percent, _PCT),
        _single("Tests", "tests_pass_ratio", percent, _PCT),
        _single("Trivial", "trivial_ratio", percent, _PCT),
        _numbers("Unique", rf"(?P<unique>{_INT})/(?P<unique_of>{_INT})", _write_unique),
        _single("Unscored", "unscored", str, _INT),
    ),
    (_single("Length", "length_mean", lambda x: f"{x:.1f} tokens", rf"{_NUM}(?= tokens)"),),
    (
        _single("Grad norm", "grad_norm", number, _NUM),
        _single("Entropy", "entropy", number, _NUM),
        _single("KL", "kl", number, _NUM),
        _single("LR", "learning_rate", number, _NUM),
    ),
    (
        _numbers(
            "Time",
            rf"(?P<duration>{_NUM})s(?: \((?:sample (?P<sample_time>{_NUM})s)?"
            rf"(?:(?:, )?verify (?P<verify_time>{_NUM})s)?"
            rf"(?:(?:, )?update (?P<update_time>{_NUM})s)?\))?",
            _write_time,
        ),
        _single("Tokens", "tokens", str, _INT),
    ),
    (_numbers("Control", rf"revision (?P<control_revision>{_INT})", _write_revision),),
    (_word("At", "at"),),
)

_HEADER: tuple[_Line, ...] = (
    _Line(
        "RL Method",
        re.compile("|".join(Algorithm)),
        lambda event: event.algorithm.value,
        lambda match: {"algorithm": Algorithm(match[0])},
    ),
    _word("Objective", "objective"),
    _word("Task", "task"),
    _word("Model", "model"),
    _word("Device", "device"),
    _word("Reward profile", "reward"),
    _single("Seed", "seed", str, _INT),
    _single("Iterations", "target_iterations", str, _INT),
    _single("Prompts per iteration", "prompts_per_iteration", str, _INT),
    _single("Samples per prompt", "n_samples", str, _INT),
    _single("Correctness threshold", "correctness_threshold", exact, _NUM),
    _single("Weight temperature", "weight_temperature", exact, _NUM),
    _single("Learning rate", "learning_rate", exact, _NUM),
    _single("Reference threshold", "reference_threshold", number, _NUM),
    _Line(
        "Bounds",
        re.compile(rf"({_NUM})-({_NUM})"),
        lambda e: None if e.bounds is None else f"{number(e.bounds[0])}-{number(e.bounds[1])}",
        lambda match: {"bounds": (float(match[1]), float(match[2]))},
    ),
    _word("Prompt sampling", "prompt_sampling"),
    _word("Schedule", "schedule"),
    _word("Hand over to", "hand_over_to"),
    _single("Hand over after", "hand_over_after", str, _INT),
    _single("Attempt", "attempt", str, _INT),
    _single("Resumed from", "resumed_from", str, _INT),
)

_BLOCK_KEYS: Mapping[str, _Line] = {line.key: line for row in _BLOCK for line in row}
_HEADER_KEYS: Mapping[str, _Line] = {line.key: line for line in _HEADER}


# --- Single lines between blocks ----------------------------------------------------------------

_PASS_AT = re.compile(r"pass@(\d{1,6})")
_EVALUATION = re.compile(rf"Evaluation at ({_INT}): (.*)")
_CHECKPOINT = re.compile(rf"Checkpoint ({_INT}): saved in ({_NUM})s")
_APPLIED = re.compile(rf"Control ({_INT}) applied at ({_INT}): (.*)")
_CHANGE = re.compile(r"(\w{1,64}) (\S{1,64}) \(was (\S{1,64})\)")
_REJECTED = re.compile(rf"Control ({_INT}) rejected: (.*)")
_SKIPPED = re.compile(rf"Update ({_INT}) skipped: (.*)")
_ENDED = re.compile(r"Run (finished|stopped|failed): (.*)")


def _read_evaluation(match: re.Match[str]) -> Evaluated | None:
    values: dict[str, float] = {}
    se = math.nan
    for part in match[2].split(", "):
        cell = re.fullmatch(rf"([a-z@0-9 ]+?) ({_PCT})(?: \+- ({_PCT}))?", part)
        if cell is None:
            return None
        values[cell[1]] = _read_float(cell[2])
        if cell[1] == "pass@1" and cell[3]:
            se = _read_float(cell[3])
    if "greedy" not in values or "pass@1" not in values:
        return None
    return Evaluated(
        iteration=int(match[1]),
        greedy=values["greedy"],
        pass_at_k={
            int(found[1]): value
            for name, value in values.items()
            if (found := _PASS_AT.fullmatch(name))
        },
        se=se,
        compile_ratio=values.get("compile"),
        wrong_ratio=values.get("compiles but wrong"),
    )


def _read_applied(match: re.Match[str]) -> ControlApplied:
    # Part by part: a search would begin at each letter of a long line, and go on to its end.
    found = (_CHANGE.fullmatch(part) for part in match[3].split(", "))
    changes = tuple(Change(*each.groups()) for each in found if each)
    return ControlApplied(int(match[1]), int(match[2]), changes)


_SINGLES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Event | None]], ...] = (
    (_EVALUATION, _read_evaluation),
    (_CHECKPOINT, lambda m: CheckpointSaved(int(m[1]), float(m[2]))),
    (_APPLIED, _read_applied),
    (_REJECTED, lambda m: ControlRejected(int(m[1]), m[2])),
    (_SKIPPED, lambda m: UpdateSkipped(int(m[1]), m[2])),
    (_ENDED, lambda m: RunEnded(m[1], m[2])),
)


def _is_single(line: str) -> bool:
    return any(pattern.fullmatch(line) for pattern, _ in _SINGLES)


# --- Writing ------------------------------------------------------------------------------------


def _render_header(event: RunStarted) -> str:
    cells = ((line.key, line.write(event)) for line in _HEADER)
    known = [f"{key}: {value}" for key, value in cells if value is not None]
    extra = [f"{key}: {_one_line(value)}" for key, value in event.extra.items()]
    # The blank line closes the header, so that a reader need not wait for the first block.
    return "\n".join([*known, *extra]) + "\n\n"


def _render_block(event: IterationRecord) -> str:
    target = "" if event.target_iterations is None else f"/{event.target_iterations}"
    lines = [f"Iteration {event.iteration}{target}"]
    for row in _BLOCK:
        cells = ((line.key, line.write(event)) for line in row)
        known = [f"{key}: {value}" for key, value in cells if value is not None]
        if known:
            lines.append("  " + "   ".join(known))
    lines += [f"  {key}: {_one_line(value)}" for key, value in event.extra.items()]
    if event.verdict is not None:
        lines.append(f"  [{_one_line(event.verdict)}]")
    return "\n".join(lines) + "\n"


def _render_evaluation(event: Evaluated) -> str:
    cells = [f"greedy {percent(event.greedy)}"]
    for k, value in sorted(event.pass_at_k.items()):
        se = f" +- {percent(event.se)}" if k == 1 and not math.isnan(event.se) else ""
        cells.append(f"pass@{k} {percent(value)}{se}")
    if event.compile_ratio is not None:
        cells.append(f"compile {percent(event.compile_ratio)}")
    if event.wrong_ratio is not None:
        cells.append(f"compiles but wrong {percent(event.wrong_ratio)}")
    return f"Evaluation at {event.iteration}: {', '.join(cells)}\n"


def render(event: Event) -> str:  # noqa: PLR0911 - one case a kind of event
    """An event as the text the trainer appends to its log, newline included."""
    match event:
        case RunStarted():
            return _render_header(event)
        case IterationRecord():
            return _render_block(event)
        case Evaluated():
            return _render_evaluation(event)
        case CheckpointSaved(iteration, seconds):
            return f"Checkpoint {iteration}: saved in {seconds:.2f}s\n"
        case ControlApplied(revision, iteration, changes):
            said = ", ".join(f"{c.key} {c.value} (was {c.was})" for c in changes) or "no change"
            return f"Control {revision} applied at {iteration}: {said}\n"
        case ControlRejected(revision, reason):
            return f"Control {revision} rejected: {_one_line(reason)}\n"
        case UpdateSkipped(iteration, reason):
            return f"Update {iteration} skipped: {_one_line(reason)}\n"
        case RunEnded(outcome, detail):
            return f"Run {outcome}: {_one_line(detail)}\n"
        case Unparsed(line):
            return foreign(line)


def foreign(text: str) -> str:
    """What somebody else printed, each line prefixed so that none can pose as ours."""
    return "".join(f"{FOREIGN_PREFIX}{_one_line(line)}\n" for line in text.splitlines())


# --- Reading ------------------------------------------------------------------------------------

_ITERATION = re.compile(rf"Iteration ({_INT})(?:/({_INT}))?")
_KEY_VALUE = re.compile(r"([A-Z][A-Za-z0-9_@/ .-]{0,60}): *(.*)")


class Parser:
    """Push parser of the guide's format: bytes in, events out.

    A block closes at its `[...]` line or at the next line that is not indented, never by time; a
    header at the first line that is not `Key: value`.

    Attributes:
        lines: Complete lines that are done with: those of `pending` are not among them.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._splitter = LineSplitter()
        self._open: dict[str, Any] | None = None
        self._open_size = self._open_lines = 0
        self._is_header = False

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet.

        Whoever goes on later, with another parser, has to begin with these.
        """
        return self._open_size + self._splitter.pending

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for raw in self._splitter.feed(data):
            line = raw.text
            if line.startswith(FOREIGN_PREFIX) or line == FOREIGN_PREFIX.rstrip():
                pass
            elif raw.is_cut:
                events += [*self._close(), Unparsed(line[:200], "too long")]
            else:
                events += self._line(line)
            # A block is open from its first line on.
            self._open_size += raw.size
            self._open_lines += 1
            if self._open is None:
                self._be_done()
        return events

    def close(self) -> list[Event]:
        """The event that the end of the log completes; an unterminated line is none."""
        return self._close()

    def _close(self) -> list[Event]:
        values, self._open = self._open, None
        self._be_done()
        if values is None:
            return []
        return [RunStarted(**values) if self._is_header else IterationRecord(**values)]

    def _be_done(self) -> None:
        """With every line so far."""
        self.lines += self._open_lines
        self._open_size = self._open_lines = 0

    def _line(self, line: str) -> list[Event]:
        if self._open is not None and self._continues(line):
            closes = not self._is_header and line.startswith("  [")
            return self._close() if closes else []
        return self._close() + self._opening(line)

    def _continues(self, line: str) -> bool:
        """Take `line` into the open block or header, if it belongs there."""
        assert self._open is not None  # noqa: S101 - the caller looked
        if self._is_header:
            pair = _KEY_VALUE.fullmatch(line)
            if pair is None or pair[1] == "RL Method" or _is_single(line):
                return False
            _store(self._open, _HEADER_KEYS, pair[1], pair[2])
            return True
        if not line.startswith("  "):
            return False
        body = line[2:]
        if body.startswith("[") and body.endswith("]"):
            self._open["verdict"] = body[1:-1]
            return True
        for cell in re.split(r" {3,}", body):
            pair = _KEY_VALUE.fullmatch(cell.strip())
            if pair is not None:
                _store(self._open, _BLOCK_KEYS, pair[1], pair[2])
        return True

    def _opening(self, line: str) -> list[Event]:
        if not line:
            return []
        if match := _ITERATION.fullmatch(line):
            self._is_header = False
            self._open = {"iteration": int(match[1]), "extra": {}}
            if match[2]:
                self._open["target_iterations"] = int(match[2])
            return []
        pair = _KEY_VALUE.fullmatch(line)
        if pair and pair[1] == "RL Method" and pair[2] in set(Algorithm):
            self._is_header = True
            self._open = {"algorithm": Algorithm(pair[2]), "extra": {}}
            return []
        for pattern, read in _SINGLES:
            if (found := pattern.fullmatch(line)) and (event := read(found)):
                return [event]
        return [Unparsed(line[:200], "unknown line")]


def _store(values: dict[str, Any], table: Mapping[str, _Line], key: str, text: str) -> None:
    line = table.get(key)
    # Not matched whole: a newer trainer may add words behind a value.
    match = line.pattern.match(text) if line else None
    if line is None or match is None:
        values["extra"][key] = text
        return
    values.update(line.read(match))
