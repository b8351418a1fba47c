"""What an attached run is called, as far as its log tells."""

from maxrl_ops.core.attached import silence, state_of_attached
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.wire.record import IterationRecord, RunEnded


def history(*seconds: float, ended: str | None = None) -> RunHistory:
    records = [IterationRecord(n, duration=length) for n, length in enumerate(seconds, start=1)]
    last = [] if ended is None else [RunEnded(ended, "so it says")]
    return RunHistory.of([*records, *last])


def test_the_state_of_an_attached_run() -> None:
    def state(told: RunHistory, age: float | None, *, gone: bool = False) -> str:
        return state_of_attached(told, age, is_detached=gone)

    assert state(history(), None) == "waiting"
    assert state(history(1.0), 5.0) == "running"
    assert state(history(1.0), 601.0) == "silent"
    assert state(history(200.0, 100.0), 601.0) == "running"
    assert state(history(200.0, 100.0), 1001.0) == "silent"
    assert state(history(1.0, ended="finished"), 9999.0) == "finished"
    assert state(history(1.0, ended="failed"), 1.0) == "failed"
    assert state(history(1.0, ended="finished"), 1.0, gone=True) == "detached"


def test_iterations_without_durations_are_told_by_their_ends() -> None:
    times = ["2026-11-25T00:00:00Z", "2026-11-25T00:05:00Z", "2026-11-25T00:10:00Z", "yesterday"]
    records = [IterationRecord(n, at=at) for n, at in enumerate(times)]
    assert silence(RunHistory.of(records)) == 1500.0
    # A night in between is no iteration.
    records.append(IterationRecord(9, at="2026-11-26T08:00:00Z"))
    assert silence(RunHistory.of(records)) == 1500.0
