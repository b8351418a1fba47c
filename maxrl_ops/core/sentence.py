"""One sentence for a person about one run: what it is, how it goes, and what comes next."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxrl_ops.core.snapshot import Evaluation, RunSnapshot

# Reward hacking: half of the guide's plain reward is for compiling, so a model may learn to
# compile instead of to be right. Below these figures it is noise of a small evaluation.
_LEAST_COMPILE_GAIN = 0.05
_LEAST_WRONG = 0.25


def describe(run: "RunSnapshot") -> str:
    """The run in one sentence."""
    sentence = _WORDS.get(run.state, _unknown)(run) if run.refusal is None else _refused(run)
    hacking = _reward_hacking(run)
    if hacking is not None:
        sentence = f"{hacking}; {sentence}"
    parts = [sentence, run.autopilot]
    if run.log is not None and run.dialect is None and run.state != "waiting":
        parts.append(
            "No line so far tells its log's format: if that stays so, detach it and attach it "
            "again with --dialect."
        )
    # Without a daemon the journal does not tell of it.
    if run.rejection is not None and run.last_decision is None:
        parts.append(f"The trainer rejected control {run.acknowledged_revision}: {run.rejection}.")
    return " ".join(part for part in parts if part)


def looking_after(states: Mapping[str, int], problem: str | None) -> str:
    """What a daemon does, in one sentence, such as `Looking after 1 run: 1 running`."""
    count = sum(states.values())
    told = ", ".join(f"{states[state]} {state.replace('_', ' ')}" for state in sorted(states))
    runs = f"{count} run{'' if count == 1 else 's'}: {told}" if count else "no run"
    return f"Looking after {runs}{f'; {problem}' if problem else ''}."


def duration(seconds: float) -> str:
    """A length of time as one says it: `about 3 minutes`."""
    if seconds < 50:
        return "less than a minute"
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = round(seconds / length)
        # Up to 90 minutes are told as minutes: "about 2 hours" for 91 would be a third off.
        if count >= 1 and (unit == "minute" or seconds >= 1.5 * length):
            return f"about {count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def _who(run: "RunSnapshot") -> str:
    return run.algorithm or "It"


def _where(run: "RunSnapshot") -> str:
    """`iteration 23 of 40`."""
    of = "" if run.target_iterations is None else f" of {run.target_iterations}"
    return f"iteration {run.iteration or 0}{of}"


def _held_out(run: "RunSnapshot") -> str | None:
    """`held-out pass@1 0.38 -> 0.86 (+- 0.02)`."""
    held = run.held_out
    if held.pass_at_1 is None:
        return None
    if len(run.evaluations) < 2 or held.first_pass_at_1 is None:
        first = run.evaluations[0].iteration == 0
        return f"held-out pass@1 {held.pass_at_1:.2f}{' at the start' if first else ''}"
    se = "" if held.se is None else f" (+- {held.se:.2f})"
    return f"held-out pass@1 {held.first_pass_at_1:.2f} -> {held.pass_at_1:.2f}{se}"


def _because(run: "RunSnapshot") -> str:
    return f": {run.exit_reason.rstrip('.')}" if run.exit_reason else ""


def _progress(run: "RunSnapshot") -> str:
    """`MaxRL at iteration 23 of 40: correctness 81%, held-out ...`, without the full stop.

    A log that tells no correctness may tell a reward.
    """
    figure = None
    if run.correctness is not None:
        figure = f"correctness {run.correctness:.0%}"
    elif run.reward_mean is not None:
        figure = f"mean reward {run.reward_mean:.4g}"
    facts = ", ".join(fact for fact in (figure, _held_out(run)) if fact)
    return _of_whom(run, f"at {_where(run)}") + (f": {facts}" if facts else "")


def _of_whom(run: "RunSnapshot", words: str) -> str:
    """`words` behind the algorithm, where the log tells it."""
    return f"{run.algorithm} {words}" if run.algorithm else words


def _begun(words: str) -> str:
    return words[:1].upper() + words[1:]


def _running(run: "RunSnapshot") -> str:
    if not run.iteration:
        doing = "" if run.phase is None else f": {_PHASES.get(run.phase.name, run.phase.name)}"
        of = "" if run.target_iterations is None else f" of {run.target_iterations}"
        return _begun(_of_whom(run, f"before its first iteration{of}{doing}."))
    left = "" if run.eta_seconds is None else f"; {duration(run.eta_seconds)} left"
    return _begun(f"{_progress(run)}{left}.")


_PHASES = {"load": "loading the model", "evaluate": "evaluating", "checkpoint": "saving"}


def _finished(run: "RunSnapshot") -> str:
    held_out = _held_out(run)
    done = "" if run.iteration is None else f" {run.iteration} iterations"
    return f"{_who(run)} finished{done}" + (f": {held_out}." if held_out else ".")


def _stopped(run: "RunSnapshot") -> str:
    held_out = _held_out(run)
    return f"{_who(run)} was stopped at {_where(run)}" + (f": {held_out}." if held_out else ".")


def _failed(run: "RunSnapshot") -> str:
    where = f"at {_where(run)}" if run.iteration else "before its first iteration"
    return f"{_who(run)} failed {where}{_because(run)}."


def _backing_off(run: "RunSnapshot") -> str:
    return f"{_who(run)} crashed at {_where(run)} and will be started again{_because(run)}."


def _starting(run: "RunSnapshot") -> str:
    return f"{_who(run)} is starting."


def _paused(run: "RunSnapshot") -> str:
    return f"Paused; {_progress(run)}."


def _stopping(run: "RunSnapshot") -> str:
    return f"Stopping after the current iteration; {_progress(run)}."


def _stalled(run: "RunSnapshot") -> str:
    doing = "" if run.phase is None else f" in phase {run.phase.name}"
    return f"{_who(run)} stalled at {_where(run)}{doing}: it will be started again{_because(run)}."


def _orphaned(run: "RunSnapshot") -> str:
    """The supervisor is gone; what that means depends on the trainer."""
    if run.trainer_alive:
        return (
            f"The supervisor of this run is gone, its trainer goes on unwatched; {_progress(run)}."
        )
    return (
        f"The supervisor of this run is gone, and nothing trains; it was at {_where(run)}"
        f"{_because(run)}: {_resume(run)}."
    )


def _resume(run: "RunSnapshot") -> str:
    return f"maxrl-ops resume {run.name} goes on{_from(run)}"


def _from(run: "RunSnapshot") -> str:
    return "" if run.last_checkpoint is None else f" from checkpoint {run.last_checkpoint}"


def _interrupted(run: "RunSnapshot") -> str:
    how = _resume(run)
    if run.restart_on_boot:
        how = f"the daemon starts it again{_from(run)}, and maxrl-ops resume {run.name} does"
    return f"Interrupted by a reboot at {_where(run)}: {how}."


def _suspended(run: "RunSnapshot") -> str:
    return f"Suspended at {_where(run)}: {_resume(run)}."


def _waiting(run: "RunSnapshot") -> str:
    return f"Waiting for {run.log}, which is not there."


def _silent(run: "RunSnapshot") -> str:
    age = "" if run.age_seconds is None else f" for {duration(run.age_seconds)}"
    return f"Its log has told nothing{age}; {_progress(run)}."


def _detached(run: "RunSnapshot") -> str:
    return f"Detached; {_progress(run)}."


def _refused(run: "RunSnapshot") -> str:
    return (
        f"Its trainer has ended at {_where(run)}, and its supervisor waits: state.json cannot be "
        f"written, {run.refusal}. Once it can, the run goes on{_from(run)}."
    )


def _unknown(run: "RunSnapshot") -> str:
    return _begun(f"{_progress(run)} ({run.state.replace('_', ' ')}).")


_WORDS = {
    "starting": _starting,
    "running": _running,
    "paused": _paused,
    "backing_off": _backing_off,
    "stalled": _stalled,
    "stopping": _stopping,
    "finished": _finished,
    "failed": _failed,
    "stopped": _stopped,
    "supervisor_gone": _orphaned,
    "interrupted": _interrupted,
    "suspended": _suspended,
    "waiting": _waiting,
    "silent": _silent,
    "detached": _detached,
}


def _reward_hacking(run: "RunSnapshot") -> str | None:
    """`42% of held-out samples compile but are wrong: ...` where training bought just that."""
    if len(run.evaluations) < 2:
        return None
    first, last = run.evaluations[0], run.evaluations[-1]
    gains = _gains(first, last)
    if gains is None or last.compiles_but_wrong is None:
        return None
    compile_gain, pass_gain = gains
    hacked = compile_gain >= max(_LEAST_COMPILE_GAIN, 2 * pass_gain)
    if not hacked or last.compiles_but_wrong < _LEAST_WRONG:
        return None
    return (
        f"{last.compiles_but_wrong:.0%} of held-out samples compile but are wrong: "
        f"compiling went from {first.compile_ratio:.0%} to {last.compile_ratio:.0%}, "
        f"pass@1 only from {first.pass_at_1:.2f} to {last.pass_at_1:.2f}"
    )


def _gains(first: "Evaluation", last: "Evaluation") -> tuple[float, float] | None:
    if first.compile_ratio is None or last.compile_ratio is None:
        return None
    if first.pass_at_1 is None or last.pass_at_1 is None:
        return None
    return last.compile_ratio - first.compile_ratio, last.pass_at_1 - first.pass_at_1
