"""Which rules fire at an iteration, and what those say that do not."""

from collections.abc import Callable

from maxrl_ops.core.decision import Hold, Output
from maxrl_ops.core.policy import Policy
from maxrl_ops.core.rules import ALERTS, RULES, Rule, is_adapting
from maxrl_ops.core.state import State
from maxrl_ops.core.window import WindowStats
from maxrl_ops.wire.logformat import number

# What a person reads changes slowly: a twentieth of the work.
_ALERT_EVERY = 20
# The one said last is what a run's sentence ends with: of an adaptive run what it waits for.
_TOLD_LAST = ("HIGH", "LOW", "ADAPT")
_IN_ORDER = [
    (rule, rule.name)
    for rule in sorted(
        RULES, key=lambda rule: _TOLD_LAST.index(rule.name) if rule.name in _TOLD_LAST else -1
    )
]
_NOT_FIRED = "not fired"


def say(state: State, rule: str, key: str, words: Callable[[], str], outputs: list[Output]) -> None:
    """Why a rule changes nothing, where that has changed."""
    if state.said.get(rule) != key:
        state.said[rule] = key
        outputs.append(Hold(rule, key, state.iteration, words()))


def take(state: State, stats: WindowStats | None, policy: Policy, outputs: list[Output]) -> None:
    """Bring `firing` up to this iteration."""
    streaks, firing = state.streaks, state.firing
    # Most of the time no rule's condition holds, nor did it a moment ago.
    has_begun = bool(streaks or firing)
    for rule, name, holds in _CHECKED:
        if holds(state, stats, policy):
            streaks[name] += 1
            if streaks[name] >= rule.dwell(policy):
                firing.add(name)
        elif (
            has_begun
            and (streaks.pop(name, 0) or name in firing)
            and rule.clears(state, stats, policy)
        ):
            firing.discard(name)
    state.judged += 1
    _tell(state, stats, policy, outputs)
    if state.iteration % _ALERT_EVERY == 0:
        _alert(state, policy, outputs)


# Looked up once, not for every rule of every iteration.
_ADAPT = next(rule for rule in RULES if rule.name == "ADAPT")
_CHECKED = tuple((rule, rule.name, rule.holds) for rule in RULES)


def _tell(state: State, stats: WindowStats | None, policy: Policy, outputs: list[Output]) -> None:
    """What the rules say that do not fire; before the first window there is nothing to say."""
    if stats is None:
        say(state, "all", "window", lambda: _no_verdict(state, policy), outputs)
        return
    said, firing = state.said, state.firing
    said.pop("all", None)
    for rule, name in _IN_ORDER:
        if said.get(name) != _NOT_FIRED and name not in firing:
            if rule is _ADAPT and not is_adapting(state, policy):
                continue
            _say_quiet(state, rule, stats, policy, outputs)


def _say_quiet(
    state: State, rule: Rule, stats: WindowStats | None, policy: Policy, outputs: list[Output]
) -> None:
    def words() -> str:
        return f"{rule.name} not fired: {rule.figure(state, stats, policy)}"

    say(state, rule.name, _NOT_FIRED, words, outputs)


def _no_verdict(state: State, policy: Policy) -> str:
    if not state.rows.count and state.has_reference:
        return "this iteration tells no reference correctness"
    on = f" on revision {state.revision}" if state.revision else ""
    return (
        f"a verdict{on} needs at least {policy.window.sizes[0]} iterations "
        f"and {number(policy.window.least_effective)} independent samples"
    )


def _alert(state: State, policy: Policy, outputs: list[Output]) -> None:
    for alert in ALERTS:
        told = alert.told(state, policy)
        if told is not None:
            state.firing.add(alert.name)
            say(state, alert.name, "alert", lambda words=told: words, outputs)  # type: ignore[misc]
        elif alert.name in state.firing:
            state.firing.discard(alert.name)
            over = f"{alert.name} is over"
            say(state, alert.name, _NOT_FIRED, lambda words=over: words, outputs)  # type: ignore[misc]
