"""What one run is like now: everything `status` shows, from what its files say. Pure."""

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from maxrl_ops.core.attached import DETACHED, state_of_attached
from maxrl_ops.core.entry import Told, autopilot_sentence, decision_sentence
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.run_state import ENDED, REBOOTED, State
from maxrl_ops.core.sentence import describe
from maxrl_ops.wire.documents import Heartbeat, RunSpec, SupervisorState
from maxrl_ops.wire.record import Algorithm, Evaluated, IterationRecord
from maxrl_ops.wire.task_spec import TaskSpec
from trainer.objectives import OBJECTIVES

SUPERVISOR_GONE = "supervisor_gone"
# Its supervisor ended with a reboot, or was asked to, for the run to go on later.
INTERRUPTED = "interrupted"
SUSPENDED = "suspended"
DAMAGED = "damaged"
# Of runs that go on only when somebody supervises them again.
UNWATCHED = frozenset({SUPERVISOR_GONE, INTERRUPTED, SUSPENDED})

# A supervisor that has just been spawned needs a moment to write its state.
_STARTING_SECONDS = 30.0
_RECENT = 20


@dataclass(frozen=True, slots=True)
class Observed:
    """What only the machine can tell about a run.

    Attributes:
        now: The time, aware.
        supervisor_alive: The process in state.json lives.
        trainer_alive: Likewise the trainer's.
        is_cut_off: A reboot ended both.
        control_revision: The newest control in control/, None without one.
        log_age: Seconds since the log last grew, None without a log.
        told: What the journal tells of the run.
        refusal: Why its supervisor cannot write down that the trainer has ended; None where it
            can, as far as a look tells.
        is_detached: An attached run that a person has ended.
        dialect: The log's format, None while it is not known.
        mode: The autopilot's, where a person has changed it since the start.
    """

    now: datetime
    supervisor_alive: bool = False
    trainer_alive: bool = False
    is_cut_off: bool = False
    control_revision: int | None = None
    log_age: float | None = None
    told: Told = field(default_factory=Told)
    refusal: str | None = None
    is_detached: bool = False
    dialect: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out pass@1, newest and first, 0 to 1; None where nothing was evaluated."""

    pass_at_1: float | None = None
    se: float | None = None
    first_pass_at_1: float | None = None
    first_se: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One held-out evaluation, as JSON has it: what is missing is None."""

    iteration: int
    greedy: float | None
    pass_at_1: float | None
    se: float | None
    pass_at_k: dict[str, float]
    compile_ratio: float | None
    compiles_but_wrong: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """What the trainer is doing, and for how long."""

    name: str
    iteration: int
    age_seconds: float | None


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The object that `status --json` prints for a run; missing is None, never 0.

    Attributes:
        state: A state of core/run_state.py, one of UNWATCHED, or DAMAGED.
        mode: What the autopilot may do: act, suggest or observe; None where it is not known.
        eta_seconds: From the median duration of recent iterations.
        age_seconds: Since the newest iteration ended, else since the log last grew.
        last_decision: A rule's or an operator's, with its outcome; None before the first.
        autopilot: The last decision, else why there is none; None where no daemon has looked.
        compiles_but_wrong: Of the newest evaluation.
        rejection: Why the trainer rejected the newest control; None where it did not.
        log: Of an attached run, the log that somebody else's trainer writes.
        dialect: The log's format; None while it is not known.
        reward_mean: Of the newest iteration.
        restart_on_boot: It goes on by itself after a reboot.
        refusal: Why state.json cannot be written, though the trainer has ended: `state` is what
            held before.
    """

    name: str
    job_name: str | None = None
    state: str = DAMAGED
    attempt: int | None = None
    mode: str | None = None
    algorithm: str | None = None
    objective: str | None = None
    iteration: int | None = None
    target_iterations: int | None = None
    eta_seconds: float | None = None
    correctness: float | None = None
    reference_correctness: float | None = None
    threshold: float | None = None
    reference_threshold: float | None = None
    weight_temperature: float | None = None
    n_samples: int | None = None
    loss: float | None = None
    correct_reward_mean: float | None = None
    control_revision: int | None = None
    acknowledged_revision: int | None = None
    held_out: HeldOut = HeldOut()
    last_decision: str | None = None
    exit_reason: str | None = None
    sentence: str = ""
    age_seconds: float | None = None
    task: str | None = None
    model: str | None = None
    device: str | None = None
    created: str | None = None
    trainer_alive: bool = False
    phase: Phase | None = None
    restarts: int | None = None
    last_checkpoint: int | None = None
    compiles_but_wrong: float | None = None
    autopilot: str | None = None
    rejection: str | None = None
    log: str | None = None
    dialect: str | None = None
    reward_mean: float | None = None
    skipped_updates: int = 0
    restart_on_boot: bool = False
    evaluations: tuple[Evaluation, ...] = ()
    refusal: str | None = None

    @property
    def is_over(self) -> bool:
        """Nothing will happen to this run any more, unless somebody revives it."""
        gone = self.state in UNWATCHED and not self.trainer_alive
        if self.log is not None:
            # Whoever writes an attached log may begin again at any time.
            return self.state in (DETACHED, DAMAGED)
        return gone or self.state in ENDED or self.state == DAMAGED

    def to_json(self) -> dict[str, Any]:
        """As `status --json` prints it."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    """As JSON has it. `asdict` copies deeply, and takes a second for some thousands of runs."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, HeldOut | Phase | Evaluation):
        return {name: getattr(value, name) for name in value.__slots__}
    return value


def damaged(name: str, reason: str) -> RunSnapshot:
    """A run whose files cannot be read: shown with the reason, like any other."""
    return RunSnapshot(name, exit_reason=reason, sentence=f"This run cannot be read: {reason}")


def take(
    spec: RunSpec,
    supervisor: SupervisorState | None,
    heartbeat: Heartbeat | None,
    history: RunHistory,
    observed: Observed,
) -> RunSnapshot:
    """Say what a run is like."""
    if spec.is_attached:
        state = state_of_attached(history, observed.log_age, is_detached=observed.is_detached)
    else:
        state = state_of(
            spec.created,
            supervisor,
            heartbeat,
            observed.now,
            is_watched=observed.supervisor_alive,
            is_cut_off=observed.is_cut_off,
        )
    told = observed.told
    values = {
        **_asked_for(spec),
        **_from_header(history),
        **_from_history(history),
        **_from_evaluations(history),
    }
    target = values.get("target_iterations")
    running = state not in ENDED and state not in UNWATCHED and state != DETACHED
    snapshot = RunSnapshot(
        name=spec.name,
        job_name=spec.job_name,
        created=spec.created,
        trainer_alive=observed.trainer_alive,
        state=state,
        attempt=(supervisor.attempt or None) if supervisor else None,
        restarts=supervisor.restarts if supervisor else None,
        exit_reason=REBOOTED if state == INTERRUPTED else _exit_reason(supervisor, history),
        restart_on_boot=spec.restart_on_boot,
        control_revision=observed.control_revision,
        eta_seconds=_eta(history, target) if running else None,
        age_seconds=_age(history, observed),
        phase=_phase(heartbeat, observed.now) if running else None,
        mode=observed.mode or spec.mode,
        log=spec.log,
        dialect=observed.dialect,
        refusal=observed.refusal,
        last_decision=decision_sentence(told.last) if told.last else None,
        autopilot=autopilot_sentence(told, is_active=running),
        **values,
    )
    return replace(snapshot, sentence=describe(snapshot))


def state_of(
    created: str,
    supervisor: SupervisorState | None,
    heartbeat: Heartbeat | None,
    now: datetime,
    *,
    is_watched: bool,
    is_cut_off: bool = False,
) -> str:
    """A state of core/run_state.py, or one of UNWATCHED.

    Args:
        created: Of run.json, RFC 3339.
        supervisor: Of state.json: its writer's word, which may be dead.
        heartbeat: The trainer's.
        now: The time, aware.
        is_watched: The supervisor that wrote state.json lives.
        is_cut_off: A reboot ended it.
    """
    if supervisor is None:
        age = _seconds_since(created, now)
        return (
            str(State.STARTING) if age is not None and age < _STARTING_SECONDS else SUPERVISOR_GONE
        )
    if supervisor.state in ENDED or is_watched:
        is_pause = heartbeat is not None and heartbeat.phase == "pause"
        # The trainer itself waits, and says so; its supervisor sees one that lives.
        is_paused = supervisor.state == State.RUNNING and is_pause
        return str(State.PAUSED if is_paused else supervisor.state)
    if is_cut_off:
        return INTERRUPTED
    return SUSPENDED if supervisor.suspended else SUPERVISOR_GONE


def _asked_for(spec: RunSpec) -> dict[str, Any]:
    """What run.json already tells before the trainer has said anything."""
    given, is_foreign = spec.settings, bool(spec.command) or spec.is_attached
    objective = given.get("objective")
    if objective is None and "use_maxrl" in given:
        objective = "maxrl" if given["use_maxrl"] else "grpo"
    values = {
        "objective": objective,
        "algorithm": _algorithm_of(objective),
        "task": _task_name(given.get("task")) or (None if is_foreign else "rust"),
        "target_iterations": given.get("iterations"),
        "threshold": given.get("correctness_threshold"),
        "weight_temperature": given.get("weight_temperature"),
        "n_samples": given.get("n_samples"),
        "model": given.get("checkpoint"),
    }
    return _known(values)


def _task_name(given: object) -> str | None:
    """The name that goes with a value of `--task`; a run.json may hold anything."""
    try:
        return None if given is None else TaskSpec.parse(str(given)).stem
    except ValueError:
        return None


def _from_header(history: RunHistory) -> dict[str, Any]:
    header = history.started
    if header is None:
        return {}
    return _known(
        {
            "algorithm": header.algorithm.value,
            "task": header.task,
            "model": header.model,
            "device": header.device,
            "target_iterations": header.target_iterations,
            "reference_threshold": _finite(header.reference_threshold),
        }
    )


def _from_history(history: RunHistory) -> dict[str, Any]:
    in_force, newest = history.in_force, history.newest or IterationRecord(0)
    done = history.iteration
    return _known(
        {
            "objective": in_force.objective,
            "algorithm": _algorithm_of(in_force.objective),
            "threshold": _finite(in_force.correctness_threshold),
            "weight_temperature": _finite(in_force.weight_temperature),
            "n_samples": in_force.n_samples,
            "acknowledged_revision": history.acknowledged_revision,
            "iteration": done if history.started or done else None,
            "target_iterations": newest.target_iterations,
            "correctness": newest.correctness,
            "reference_correctness": newest.reference_correctness,
            "loss": _finite(newest.loss),
            "correct_reward_mean": _finite(newest.correct_reward_mean),
            "reward_mean": _finite(newest.reward_mean),
            "last_checkpoint": history.checkpoint,
            "skipped_updates": len(history.skipped_updates),
            "rejection": history.rejection and history.rejection.reason,
        }
    )


def _from_evaluations(history: RunHistory) -> dict[str, Any]:
    if not history.evaluations:
        return {}
    evaluations = tuple(_evaluation(event) for event in history.evaluations)
    first, last = evaluations[0], evaluations[-1]
    return {
        "evaluations": evaluations,
        "compiles_but_wrong": last.compiles_but_wrong,
        "held_out": HeldOut(last.pass_at_1, last.se, first.pass_at_1, first.se),
    }


def _evaluation(event: Evaluated) -> Evaluation:
    return Evaluation(
        iteration=event.iteration,
        greedy=_finite(event.greedy),
        pass_at_1=_finite(event.pass_at_k.get(1)),
        se=_finite(event.se),
        pass_at_k={str(k): v for k, v in event.pass_at_k.items() if math.isfinite(v)},
        compile_ratio=_finite(event.compile_ratio),
        compiles_but_wrong=_finite(event.wrong_ratio),
    )


def _algorithm_of(objective: object) -> str | None:
    known = OBJECTIVES.get(str(objective))
    return None if known is None else Algorithm(known.algorithm).value


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _finite(value: float | None) -> float | None:
    """NaN and inf have no JSON; a loss that is one is missing."""
    return value if value is not None and math.isfinite(value) else None


def _exit_reason(supervisor: SupervisorState | None, history: RunHistory) -> str | None:
    if supervisor is not None and supervisor.exit_reason is not None:
        return supervisor.exit_reason
    ended = history.ended
    return ended.detail if ended is not None and ended.outcome == "failed" else None


def _eta(history: RunHistory, target: int | None) -> float | None:
    """Seconds left, None when unknown."""
    durations = [r.duration for r in history.iterations[-_RECENT:] if _finite(r.duration)]
    if not durations:
        durations = _gaps(history.iterations[-_RECENT:])
    typical = median(d for d in durations if d is not None) if durations else None
    if typical is None or target is None:
        return None
    return _finite(max(0, target - history.iteration) * typical)


def _gaps(records: list[IterationRecord]) -> list[float | None]:
    """Seconds between the ends of neighbouring iterations, for a log without durations."""
    times = [_time(record.at) for record in records]
    pairs = pairwise(times)
    return [(b - a).total_seconds() for a, b in pairs if a is not None and b is not None]


def _age(history: RunHistory, observed: Observed) -> float | None:
    newest = history.newest
    since = _seconds_since(newest.at, observed.now) if newest else None
    return observed.log_age if since is None else since


def _phase(heartbeat: Heartbeat | None, now: datetime) -> Phase | None:
    if heartbeat is None:
        return None
    return Phase(heartbeat.phase, heartbeat.iteration, _seconds_since(heartbeat.since, now))


def _seconds_since(text: str | None, now: datetime) -> float | None:
    """Age of an RFC 3339 time; never negative, for clocks of hosts differ."""
    then = _time(text)
    return None if then is None else max(0.0, (now - then).total_seconds())


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
