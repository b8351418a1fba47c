"""run.json, state.json and heartbeat.json as types."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Self, cast

from maxrl_ops.wire.rundir import DocumentError, RunDir, read_json, replace_json
from maxrl_ops.wire.settings import SettingError, Value, from_table


def utc_now() -> str:
    """The time as documents and logs carry it: RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid.

    Attributes:
        pid: Its id.
        start_time: Clock ticks from boot to its start (field 22 of /proc/PID/stat).
        boot_id: /proc/sys/kernel/random/boot_id, since ticks start again at each boot.
    """

    pid: int
    start_time: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """run.json: what was asked for, and where from. Written once, by `start`.

    Attributes:
        name: The run's name, unique in its home.
        job_name: The group a person put it in; `job_name` label.
        settings: The settings given by flag, environment or file; defaults are the trainer's.
        command: A command of the user's own instead of our trainer, or empty.
        created: RFC 3339 in UTC.
        provenance: Versions, git revision, host: what the run came from.
        mode: What the autopilot may do: act, suggest, observe or off.
        log: The log that somebody else's trainer writes, where the run is attached; else None, and
            the log is the run's own.
        dialect: Its format, where a person has said so.
        actuate: `restart`, where the supervisor applies controls by starting the command again;
            None where the trainer reads them itself, or nobody does.
        restart_on_boot: It goes on by itself after a reboot.
        environment_file: Where the trainer's secrets stand, which no file of ours holds.
    """

    name: str
    job_name: str
    settings: Mapping[str, Value]
    command: tuple[str, ...]
    created: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    mode: str = "act"
    log: str | None = None
    dialect: str | None = None
    actuate: str | None = None
    restart_on_boot: bool = False
    environment_file: str | None = None

    @property
    def is_attached(self) -> bool:
        """Nobody of ours trains it: only its log is looked at."""
        return self.log is not None

    def save(self, run: RunDir) -> None:
        """Write run.json."""
        replace_json(run.spec, asdict(self) | {"settings": dict(self.settings)})

    @classmethod
    def load(cls, run: RunDir) -> Self:
        """Read run.json.

        Raises:
            FileNotFoundError: There is none.
            DocumentError: It is damaged, or another run's.
        """
        raw = read_json(run.spec)
        try:
            spec = cls(
                name=str(raw["name"]),
                job_name=str(raw["job_name"]),
                settings=from_table(cast("Mapping[str, object]", raw["settings"]), str(run.spec)),
                command=tuple(str(word) for word in cast("list[object]", raw["command"])),
                created=str(raw["created"]),
                provenance=_texts(raw.get("provenance", {})),
                mode=str(raw.get("mode", "act")),
                log=_text(raw.get("log")),
                dialect=_text(raw.get("dialect")),
                actuate=_text(raw.get("actuate")),
                restart_on_boot=bool(raw.get("restart_on_boot", False)),
                environment_file=_text(raw.get("environment_file")),
            )
        except SettingError as error:
            raise DocumentError(str(error)) from None
        except (KeyError, TypeError, AttributeError) as error:
            raise DocumentError(f"{run.spec}: {error!r} is missing or of a wrong kind") from None
        # By its name a run is known in the history and the metrics: a copy of it is none.
        if spec.name != run.name:
            raise DocumentError(
                f"{run.spec}: is of the run {spec.name[:80]!r}, not of {run.name!r}: rename the "
                "directory back, or keep a copy of a run elsewhere"
            )
        return spec


def _text(raw: object) -> str | None:
    return None if raw is None else str(raw)


def _texts(raw: object) -> Mapping[str, str]:
    items = cast("Mapping[object, object]", raw).items()
    return {str(key): str(value) for key, value in items}


@dataclass(frozen=True, slots=True)
class Detached:
    """detached.json: an attached run is over, since its log is not looked at any more.

    Attributes:
        since: RFC 3339 in UTC.
        inode: The log's then; 0 where there was none.
        size: How long it was then: what is beyond that is not the run's.
    """

    since: str
    inode: int = 0
    size: int = 0

    def save(self, run: RunDir) -> None:
        """Write it."""
        replace_json(run.detached, asdict(self))

    @classmethod
    def load(cls, run: RunDir) -> Self:
        """Read it.

        Raises:
            FileNotFoundError: The run is none, or not detached.
            DocumentError: It is damaged.
        """
        raw = read_json(run.detached)
        inode, size = raw.get("inode", 0), raw.get("size", 0)
        if not isinstance(inode, int) or not isinstance(size, int):
            raise DocumentError(f"{run.detached}: inode and size must be numbers")
        return cls(str(raw.get("since", "")), inode, size)


@dataclass(frozen=True, slots=True)
class Exit:
    """How one attempt of the trainer ended.

    Attributes:
        attempt: Which.
        at: RFC 3339 in UTC.
        code: Exit code, or None when a signal ended it or nobody could see (an adopted trainer).
        signal: The signal's name (`SIGKILL`), or None.
        reason: One line for a person.
        lines: The log's last, newest last; of the newest exit only. What a model wrote may be among
            them: escape them where they are shown.
    """

    attempt: int
    at: str
    code: int | None
    signal: str | None
    reason: str
    lines: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, entry: object) -> Self:
        """One of state.json's; KeyError, TypeError or ValueError where it is none."""
        raw = cast("Mapping[str, object]", entry)
        code = raw["code"]
        return cls(
            attempt=int(cast("int", raw["attempt"])),
            at=str(raw["at"]),
            code=None if code is None else int(cast("int", code)),
            signal=_text_or_none(raw["signal"]),
            reason=str(raw["reason"]),
            lines=tuple(str(line) for line in cast("list[object]", raw.get("lines", []))),
        )


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """state.json: the supervisor's view of its run.

    Attributes:
        state: A state of core/run_state.py.
        since: When it was entered, RFC 3339 in UTC.
        supervisor: The process that writes this.
        trainer: The living trainer, or None.
        attempt: Number of the current or last attempt, from 1; 0 before the first.
        restarts: How often the trainer was started again after a crash or a stall.
        stalls: How many of these followed a stall.
        exits: The last attempts' ends, oldest first, bounded.
        exit_reason: Why the run is over, or backing off, or its trainer being ended; None while all
            is well.
        failures: In a row without a new checkpoint, as of the last exit.
        progress: The newest checkpoint then, -1 for none; None before the first exit.
        tuning: The supervisor's settings by name, as the first was given them; a revived one has
            another environment.
        host: The machine that it supervises on; None of an earlier version.
        suspended: Its trainer was ended to go on later, and its supervisor ended with it.
        longest: Seconds that an iteration, or a phase, of this attempt has taken at most; None
            before a whole one was seen. Of whoever adopts the trainer.
    """

    state: str
    since: str
    supervisor: ProcessIdentity | None = None
    trainer: ProcessIdentity | None = None
    attempt: int = 0
    restarts: int = 0
    exits: tuple[Exit, ...] = ()
    exit_reason: str | None = None
    stalls: int = 0
    failures: int = 0
    progress: int | None = None
    tuning: Mapping[str, float] = field(default_factory=dict)
    host: str | None = None
    suspended: bool = False
    longest: float | None = None

    def save(self, run: RunDir, *, durable: bool = True) -> None:
        """Write state.json; not `durable`: for every process at once, but for no power cut."""
        replace_json(run.state, asdict(self), durable=durable)

    @classmethod
    def load(cls, run: RunDir) -> Self:
        """Read state.json.

        Raises:
            FileNotFoundError: No supervisor has written one yet.
            DocumentError: It is damaged.
        """
        raw = read_json(run.state)
        try:
            return cls(
                state=str(raw["state"]),
                since=str(raw["since"]),
                supervisor=_identity(raw["supervisor"]),
                trainer=_identity(raw["trainer"]),
                attempt=int(cast("int", raw["attempt"])),
                restarts=int(cast("int", raw["restarts"])),
                exits=tuple(Exit.from_json(entry) for entry in cast("list[object]", raw["exits"])),
                exit_reason=_text_or_none(raw["exit_reason"]),
                # A supervisor of an earlier version counted none.
                stalls=int(cast("int", raw.get("stalls", 0))),
                failures=int(cast("int", raw.get("failures", 0))),
                progress=_whole_or_none(raw.get("progress")),
                tuning=_numbers(raw.get("tuning", {})),
                host=_text_or_none(raw.get("host")),
                suspended=bool(raw.get("suspended", False)),
                longest=_seconds_or_none(raw.get("longest")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DocumentError(f"{run.state}: {error!r} is missing or of a wrong kind") from None


def _numbers(raw: object) -> Mapping[str, float]:
    items = cast("Mapping[str, float]", raw).items()
    return {str(key): float(value) for key, value in items}


def _whole_or_none(raw: object) -> int | None:
    return None if raw is None else int(cast("int", raw))


def _seconds_or_none(raw: object) -> float | None:
    return None if raw is None else float(cast("float", raw))


def _text_or_none(raw: object) -> str | None:
    return None if raw is None else str(raw)


def _identity(entry: object) -> ProcessIdentity | None:
    if entry is None:
        return None
    raw = cast("Mapping[str, object]", entry)
    pid, start_time = int(cast("int", raw["pid"])), int(cast("int", raw["start_time"]))
    return ProcessIdentity(pid, start_time, str(raw["boot_id"]))


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """heartbeat.json: what the trainer is doing.

    Attributes:
        phase: load, sample, verify, update, evaluate or checkpoint.
        iteration: The iteration it belongs to; 0 before the first.
        since: When the phase began, RFC 3339 in UTC.
    """

    phase: str
    iteration: int
    since: str

    def save(self, run: RunDir) -> None:
        """Write heartbeat.json; cheap, for it happens several times an iteration."""
        replace_json(run.heartbeat, asdict(self), durable=False)

    @classmethod
    def load(cls, run: RunDir) -> Self:
        """Read heartbeat.json; FileNotFoundError or DocumentError where there is none."""
        raw = read_json(run.heartbeat)
        try:
            return cls(str(raw["phase"]), int(cast("int", raw["iteration"])), str(raw["since"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DocumentError(f"{run.heartbeat}: {error!r} is missing or wrong") from None
