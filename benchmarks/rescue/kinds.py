"""The table: how runs are made sick, one small entry each, and which healthy runs there are."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.rescue import outside, sick_tasks
from benchmarks.rescue.outside import Strike
from benchmarks.rescue.small_task import TASKS, SmallTask

ARMS = ("act", "observe", "naive")
# Shorter than the product's, as the runs are: told in the document.
SUPERVISION = {
    "MAXRL_OPS_STALL_SECONDS": "4",
    "MAXRL_OPS_STALL_GRACE_SECONDS": "1",
    "MAXRL_OPS_BACKOFF_SCALE": "0.2",
    "MAXRL_OPS_STOP_GRACE_SECONDS": "20",
}
_RESTARTED = ("restart",)
_BAD_RATE = ("COLLAPSE", "UNSTABLE", "NONFINITE", "NO LEARNING")

_RATE = 1e-3


@dataclass(frozen=True)
class Kind:
    """A way to be sick, or to be well.

    Attributes:
        title: What is done to the run, as the table says it.
        task: What it trains on, one of TASKS.
        flags: Of `start`, after the task's own.
        sick: The function of sick_tasks that makes its task; None for the healthy one.
        strike: What is done to it from outside.
        signs: What tells that something is wrong: rules, or what the supervisor counts.
        onset: The iteration from which on it is sick.
        twin: The healthy kind of the same seed that it is judged against; None for a healthy one.
        hopeless: Why no controller could save it; empty where one may.
        if_missed: Why the autopilot does not save it, where one has looked.
        on_small_disk: Its home has a disk of its own.
    """

    title: str
    task: str = "rules"
    flags: tuple[str, ...] = ()
    sick: str | None = None
    strike: Strike = outside.Nothing
    signs: tuple[str, ...] = ()
    onset: int = 0
    twin: str | None = "rules, MaxRL"
    hopeless: str = ""
    if_missed: str = ""
    on_small_disk: bool = False

    @property
    def small(self) -> SmallTask:
        """The healthy task."""
        return TASKS[self.task]

    @property
    def spec(self) -> str:
        """What `--task` gets."""
        return f"benchmarks.rescue.sick_tasks:{self.sick}" if self.sick else self.small.spec


def _too_fast(times: int, if_missed: str = "") -> Kind:
    rate = f"{times * _RATE:g}"
    title = f"learning rate {rate} instead of {_RATE:g}"
    flags = ("--learning-rate", rate)
    return Kind(title, flags=flags, signs=_BAD_RATE, if_missed=if_missed)


_STILL_FAST = (
    "COLLAPSE goes back at iteration 45 to the model that the run began with, at 0.02 of the rate; "
    "that is still twice the healthy one, at which pass@1 wavers from evaluation to evaluation. On "
    "the development seeds 103, 104 and 105 such runs end at 98%, 94% and 91%; were COLLAPSE to "
    "fire on the first evaluation that fell, at 25, at 98%, 93% and 92%. So the rule stays as it is"
)
_PAID = "the reward pays for something else, and no control changes what is paid for"

SICK: Mapping[str, Kind] = {
    "threshold too high": Kind(
        "threshold 30, above every reward",
        flags=("--correctness-threshold", "30"),
        signs=("LOW", "NO LEARNING", "DEAD GROUPS"),
    ),
    "threshold too low": Kind(
        "threshold -1: every sample is correct",
        flags=("--correctness-threshold", "-1"),
        signs=("LOW", "DEAD GROUPS"),
    ),
    "learning rate x 30": _too_fast(30),
    "learning rate x 100": _too_fast(100, _STILL_FAST),
    "weight temperature": Kind(
        "weight temperature 0.001 on rewards that are never equal: of each group one sample counts",
        task="maze",
        flags=("--weight-temperature", "0.001"),
        sick="never_equal",
        signs=("FEW EFFECTIVE SAMPLES", "UNSTABLE"),
        twin="maze, MaxRL",
    ),
    "few samples": Kind(
        "2 samples a prompt, of 32 hard prompts instead of 8",
        flags=("--n-samples", "2", "--prompts-per-iteration", "32"),
        sick="hard",
        signs=("LOW", "DEAD GROUPS"),
        twin="rules, hard prompts",
    ),
    "GRPO stuck": Kind(
        "GRPO, 4 samples of 16 hard prompts, and nothing is paid for what is nearly right",
        flags=("--use-grpo", "--n-samples", "4", "--prompts-per-iteration", "16"),
        sick="hard_and_bare",
        signs=("LOW", "DEAD GROUPS", "NO LEARNING"),
        twin="rules, hard prompts",
    ),
    "loss not finite": Kind(
        f"from iteration {sick_tasks.POISONED_AT} on no gradient of this process is finite",
        sick="poisoned",
        signs=("NONFINITE", "COLLAPSE", "NO LEARNING"),
        onset=sick_tasks.POISONED_AT,
    ),
    "reward hangs": Kind(
        f"the reward hangs in every {sick_tasks.HANGS_EVERY}th iteration",
        flags=("--reward-timeout", "2"),
        sick="hanging",
        signs=_RESTARTED,
    ),
    "reward raises": Kind(
        f"the reward raises for {sick_tasks.RAISES_FOR:.0%} of the samples", sick="raising"
    ),
    "reward hacked by length": Kind(
        f"{sick_tasks.PAID_LENGTH} characters are paid like a right answer",
        flags=("--reward", "guide"),
        sick="paid_by_length",
        signs=("REWARD HACKING", "COLLAPSE"),
        hopeless=_PAID,
    ),
    "reward hacked by a constant": Kind(
        f"an answer that ends in {sick_tasks.PAID_END} is paid like a right one",
        flags=("--reward", "guide"),
        sick="paid_by_end",
        signs=("REWARD HACKING", "COLLAPSE"),
        hopeless=_PAID,
    ),
    "verifier down": Kind(
        f"the verifier is down for {sick_tasks.DOWN_SECONDS:g} s from iteration "
        f"{sick_tasks.DOWN_FROM} on",
        sick="down",
        onset=sick_tasks.DOWN_FROM,
    ),
    "trainer crashes": Kind(
        f"SIGSEGV after every {sick_tasks.CRASHES_AFTER} iterations",
        sick="crashing",
        signs=_RESTARTED,
        onset=sick_tasks.CRASHES_AFTER,
    ),
    "trainer deadlocks": Kind(
        f"a lock is taken twice after every {sick_tasks.DEADLOCKS_AFTER} iterations",
        sick="deadlocking",
        signs=_RESTARTED,
        onset=sick_tasks.DEADLOCKS_AFTER,
    ),
    "trainer leaks": Kind(
        f"{sick_tasks.LEAKS_MEGABYTES} MB leak in each iteration; beyond {outside.MOST_MEGABYTES} "
        "MB it is killed",
        sick="leaking",
        strike=outside.KillsForMemory,
        signs=_RESTARTED,
    ),
    "checkpoint corrupted": Kind(
        f"the newest checkpoint loses a block at iteration {outside.CORRUPTED_AT}, and the trainer "
        "dies",
        strike=outside.CorruptsCheckpoint,
        signs=_RESTARTED,
        onset=outside.CORRUPTED_AT,
    ),
    "disk full": Kind(
        f"the disk is full for {outside.FULL_SECONDS:g} s from iteration {outside.FULL_AT} on",
        strike=outside.FillsDisk,
        signs=_RESTARTED,
        onset=outside.FULL_AT,
        on_small_disk=True,
    ),
    "daemon killed": Kind(
        f"threshold 30, and the daemon is killed every {outside.KILLED_EVERY_SECONDS:g} s",
        flags=("--correctness-threshold", "30"),
        strike=outside.KillsDaemon,
        signs=("LOW", "NO LEARNING", "DEAD GROUPS"),
    ),
    "log rotated": Kind(
        f"threshold 30, and the log is rotated every {outside.ROTATED_EVERY} iterations",
        flags=("--correctness-threshold", "30"),
        strike=outside.RotatesLog,
        signs=("LOW", "NO LEARNING", "DEAD GROUPS"),
    ),
}


def _healthy() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    objectives = {"MaxRL": "maxrl", "GRPO": "grpo", "RLOO": "rloo"}
    for task in ("rules", "maze", "arithmetic"):
        for name, objective in objectives.items():
            title = f"{task}, {name}"
            found[title] = Kind(title, task, ("--objective", objective), twin=None)
    title = "rules, hard prompts"
    found[title] = Kind(title, sick="hard", twin=None)
    return found


HEALTHY: Mapping[str, Kind] = _healthy()
KINDS: Mapping[str, Kind] = {**SICK, **HEALTHY}
