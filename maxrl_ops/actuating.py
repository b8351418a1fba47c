"""`--actuate restart`: controls for a trainer that cannot read them.

Its supervisor applies one by ending the trainer and starting it again with other env flags and
another command line. Like our trainer it first records an answer in applied.jsonl, then tells it in
the log, so that whoever waits for one need not know the difference.
"""

import errno
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from itertools import pairwise

from maxrl_ops.log_files import RenamingError, rotated
from maxrl_ops.wire.checkpoints import newest
from maxrl_ops.wire.control import (
    Applied,
    Control,
    TrainingState,
    append_applied,
    read,
    read_applied,
    read_newest,
)
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logwriter import render
from maxrl_ops.wire.record import Algorithm, Change, ControlApplied, ControlRejected, RunStarted
from maxrl_ops.wire.rundir import FILE_MODE, RunDir, open_regular
from maxrl_ops.wire.settings import SETTINGS, SettingError, Value, nearest, to_text

RESTART = "restart"
"""The one way there is, as `start --actuate` and run.json name it."""

CHECKPOINT = "checkpoint"
PLACEHOLDERS = (
    CHECKPOINT,
    "objective",
    "threshold",
    "weight_temperature",
    "n_samples",
    "learning_rate",
)
"""What may stand in braces in the command."""

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{([A-Za-z_]\w*)\}")
_WHY = re.compile(r"to start again, as revision ([0-9]{1,18}) asks")
_TOLD = re.compile(rb"^Control ([0-9]{1,18}) (?:applied at|rejected)", re.M)
# How far back a log is searched for what it tells, once in a supervisor's life.
_TAIL = 64 << 20
# A log that has not grown for so long is between two lines, and very likely two blocks.
_STILL_SECONDS = 1.0
_LONGEST_LINE = 4096


def initial_state(settings: Mapping[str, Value]) -> TrainingState:
    """What the first attempt trains with: nobody else knows a foreign trainer's defaults.

    Raises:
        SettingError: Something of it is not given.
    """
    given = dict(settings)
    if "objective" not in given and "use_maxrl" in given:
        from trainer.objectives import DEFAULT_OBJECTIVE  # noqa: PLC0415 - see _algorithm

        family = Algorithm.MAXRL if given["use_maxrl"] else Algorithm.GRPO
        given["objective"] = DEFAULT_OBJECTIVE[family]
    missing = [field.name for field in fields(TrainingState) if field.name not in given]
    if missing:
        flags = ", ".join("--" + key.replace("_", "-") for key in missing)
        raise SettingError(
            f"--actuate restart must know what the run begins with: give {flags} as well"
        )
    if given.get("schedule", "fixed") != "fixed":
        raise SettingError(
            f"--actuate restart cannot follow the schedule {given['schedule']}: give grpo or maxrl"
        )
    return TrainingState(
        objective=str(given["objective"]),
        correctness_threshold=float(given["correctness_threshold"]),
        weight_temperature=float(given["weight_temperature"]),
        n_samples=int(given["n_samples"]),
        learning_rate=float(given["learning_rate"]),
    )


def check_command(command: tuple[str, ...]) -> None:
    """Refuse a placeholder that there is not.

    Raises:
        SettingError: One is none of ours.
    """
    for word in command:
        for match in _PLACEHOLDER.finditer(word):
            name = match[2]
            if name is not None and name not in PLACEHOLDERS:
                raise SettingError(
                    f"there is no placeholder {{{name}}}{nearest(name, list(PLACEHOLDERS))}: give "
                    f"{', '.join(f'{{{each}}}' for each in PLACEHOLDERS)}, or {{{{{name}}}}} for "
                    f"the word itself"
                )


def filled(command: tuple[str, ...], state: TrainingState, checkpoint: str) -> tuple[str, ...]:
    """The command with its placeholders filled in.

    Without a checkpoint (an empty text) a word that stands for it is left out: `{checkpoint}` with
    the option that it is the value of, and `--resume={checkpoint}`.
    """
    values = {key: to_text(value) for key, value in asdict(state).items()}
    values |= {"threshold": values["correctness_threshold"], CHECKPOINT: checkpoint}
    words: list[str] = []
    for word in command:
        if not checkpoint and re.fullmatch(rf"(--?[^=]+=)?\{{{CHECKPOINT}\}}", word):
            if word.startswith("{") and len(words) > 1 and re.fullmatch(r"--?[^=]+", words[-1]):
                words.pop()
            continue
        words.append(
            _PLACEHOLDER.sub(lambda m: f"{{{m[1]}}}" if m[1] else values.get(m[2], m[0]), word)
        )
    return tuple(words)


def why_restarted(control: Control) -> str:
    """Why a trainer was ended, as state.json gives it; `Actuator.ended_for` reads it back."""
    where = "" if control.restart_from is None else f" from checkpoint {control.restart_from}"
    return f"to start again{where}, as revision {control.revision} asks"


class Actuator:
    """What control/ asks of a run that is actuated by restarts; of any other run, nothing.

    Attributes:
        wish: The control that the next attempt is to begin with; None where nothing is asked.
    """

    def __init__(self, run: RunDir, spec: RunSpec) -> None:
        """Nothing is read yet."""
        self._run, self._spec = run, spec
        self._is_actuated = spec.actuate == RESTART
        self.wish: Control | None = None
        # What applied.jsonl answers and the log does not tell yet, oldest first, each with what was
        # in force before.
        self._owed: list[tuple[Applied, TrainingState]] | None = None

    def ended_for(self, reason: str | None) -> Control | None:
        """The control that an earlier supervisor ended the trainer for, by state.json's reason."""
        match = _WHY.fullmatch(reason or "") if self._is_actuated else None
        return None if match is None else read(self._run.control, int(match[1]))

    def look(self) -> None:
        """Find the newest wish; answer at once what needs no other attempt, and tell it.

        Raises:
            OSError: Something cannot be read or written; it is tried again at the next look.
        """
        if not self._is_actuated:
            return
        answers = read_applied(self._run.applied)
        if not answers:
            # The first attempt records what it begins with.
            return
        found = read_newest(self._run.control, above=max(each.revision for each in answers))
        wish = found.newest
        if wish is not None and (why := _objection(wish)) is not None:
            self._answer(wish.revision, answers, rejected=why)
            wish = None
        elif wish is not None and wish.state == answers[-1].state and wish.lifecycle == "run":
            self._answer(wish.revision, answers)
            wish = None
        if wish is None:
            for revision, why in sorted(found.unreadable.items()):
                self._answer(revision, answers, rejected=f"unreadable, skipped: {why}")
        # A stop is the supervisor's; what else it asks for, nobody is left to do.
        self.wish = None if wish is not None and wish.lifecycle == "stop" else wish
        if self._to_tell() and _is_between_blocks(self._run):
            self._tell()

    def prepare(self, attempt: int) -> RunSpec:
        """Record and tell what that attempt begins with; its command and settings.

        Raises:
            OSError: It cannot be written; asked again, it goes on where it was.
        """
        if not self._is_actuated:
            return self._spec
        answers = read_applied(self._run.applied)
        if not answers:
            append_applied(self._run.applied, Applied(0, 1, initial_state(self._spec.settings)))
            answers = read_applied(self._run.applied)
        if self.wish is not None:
            self._answer(self.wish.revision, answers, state=self.wish.state)
            self.wish = None
        owed = self._to_tell()
        changed = next((before for applied, before in owed if applied.rejected is None), None)
        if changed is not None or not _size(self._run):
            # Rows beyond the checkpoint come again, and the control holds from the first on.
            found, state = newest(self._run), changed or answers[-1].state
            resumed_from = None if found is None else found.iteration
            self._tell(render(_header(self._spec, state, attempt, resumed_from)))
        elif owed:
            self._tell()
        return self._begun_with(read_applied(self._run.applied)[-1].state)

    def _begun_with(self, state: TrainingState) -> RunSpec:
        found = newest(self._run)
        checkpoint = "" if found is None else str(found.path)
        settings: dict[str, Value] = {
            **self._spec.settings,
            "use_maxrl": _algorithm(state.objective) is Algorithm.MAXRL,
            **asdict(state),
        }
        command = filled(self._spec.command, state, checkpoint)
        return replace(self._spec, command=command, settings=settings)

    def _answer(
        self,
        revision: int,
        answers: list[Applied],
        *,
        state: TrainingState | None = None,
        rejected: str | None = None,
    ) -> None:
        """Record an answer, which is owed to the log from then on."""
        self._to_tell()
        found = newest(self._run)
        first = 1 if found is None else found.iteration + 1
        before = answers[-1].state
        applied = Applied(revision, first, before if state is None else state, rejected)
        append_applied(self._run.applied, applied)
        self._to_tell().append((applied, before))
        answers.append(applied)

    def _to_tell(self) -> list[tuple[Applied, TrainingState]]:
        """What is owed; at first, what a supervisor that was cut off has left untold."""
        if self._owed is None:
            answers = read_applied(self._run.applied)
            told = _told(self._run) if len(answers) > 1 else frozenset()
            self._owed = [
                (applied, before.state)
                for before, applied in pairwise(answers)
                if applied.revision not in told
            ]
        return self._owed

    def _tell(self, header: str = "") -> None:
        owed = self._to_tell()
        _append(self._run, header + "".join(render(_event(*each)) for each in owed))
        owed.clear()


def _algorithm(objective: str) -> Algorithm:
    # A supervisor is light: most have no use for it.
    from trainer.objectives import OBJECTIVES  # noqa: PLC0415

    return OBJECTIVES[objective].algorithm


def _objection(control: Control) -> str | None:
    """Why no attempt can begin with that, or None."""
    if control.lifecycle not in {"run", "stop"}:
        return f"{control.lifecycle}: this trainer cannot be told while it runs, only restarted"
    for key, value in asdict(control.state).items():
        try:
            SETTINGS[key].parse(to_text(value), key)
        except SettingError as error:
            return str(error)
    return None


def _event(applied: Applied, before: TrainingState) -> ControlApplied | ControlRejected:
    if applied.rejected is not None:
        return ControlRejected(applied.revision, applied.rejected)
    old, new = asdict(before), asdict(applied.state)
    changes = (Change(key, str(new[key]), str(old[key])) for key in new if new[key] != old[key])
    return ControlApplied(applied.revision, applied.iteration, tuple(changes))


def _header(
    spec: RunSpec, state: TrainingState, attempt: int, resumed_from: int | None
) -> RunStarted:
    iterations = spec.settings.get("iterations")
    return RunStarted(
        _algorithm(state.objective),
        target_iterations=None if iterations is None else int(iterations),
        attempt=attempt,
        resumed_from=resumed_from,
        **asdict(state),
    )


def _size(run: RunDir) -> int:
    try:
        return run.log.stat().st_size
    except FileNotFoundError:
        return 0


def _told(run: RunDir) -> frozenset[int]:
    """The revisions that the end of the log answers, or of the one it has taken the place of.

    Raises:
        OSError: It cannot be read, or not now.
    """
    try:
        files = [each.path for each in rotated(run.log)[-1:]]
    except RenamingError:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(run.log)) from None
    told: set[int] = set()
    for path in [*files, run.log]:
        with suppress(FileNotFoundError), open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            told.update(int(number) for number in _TOLD.findall(file.read(_TAIL)))
    return frozenset(told)


def _is_between_blocks(run: RunDir) -> bool:
    """Whether a line put into the log now tears nothing that the trainer is writing."""
    with open_regular(run.log) as file:
        status = os.fstat(file.fileno())
        file.seek(max(0, status.st_size - _LONGEST_LINE))
        end = file.read(_LONGEST_LINE)
    if not end.endswith(b"\n"):
        return False
    last = end[:-1].rpartition(b"\n")[2]
    return last.startswith(b"  [") or time.time() - status.st_mtime >= _STILL_SECONDS


def _append(run: RunDir, text: str) -> None:
    """Add whole lines to the log.

    Raises:
        OSError: They could not be written whole.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    data = text.encode("utf-8", "replace")
    with os.fdopen(os.open(run.log, flags, FILE_MODE), "ab") as file:
        size = os.fstat(file.fileno()).st_size
        # Half a line of a trainer that was killed must not swallow this one.
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            data = b"\n" + data
        file.write(data)
