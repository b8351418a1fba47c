"""A run that is told to go back: the real trainer under the real supervisor."""

from supervised import Make
from waiting import wait_until

from maxrl_ops.core import autopilot
from maxrl_ops.core.policy import Policy
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.control import Control, TrainingState, publish, read_applied
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import ControlApplied, Evaluated, IterationRecord, RunEnded, RunStarted


def test_a_run_goes_back_to_a_checkpoint_and_trains_on_more_carefully(make: Make) -> None:
    running = make(
        "",
        command=(),
        task="arithmetic",
        iterations=24,
        prompts_per_iteration=2,
        checkpoint_every=5,
        evaluate_every=0,
        evaluation_prompts=4,
        learning_rate=1e-3,
    )
    run = running.run
    running.supervise(OMP_NUM_THREADS="1")
    wait_until(lambda: "Iteration 11/" in running.log(), 60, "iteration 11")
    # On top of what was wished by then.
    state = TrainingState("maxrl", 20.0, 1.0, 6, 1e-3)
    publish(run.control, Control(1, 0, state, "uid:7", "more samples", "now"))
    wait_until(lambda: "Control 1 applied" in running.log(), 60, "the answer to revision 1")
    state = TrainingState("maxrl", 20.0, 1.0, 6, 3e-4)
    publish(
        run.control,
        Control(2, 1, state, "rule:COLLAPSE", "it fell", "now", "restart_from", restart_from=10),
    )
    wait_until(lambda: "Run finished" in running.log(), 120, "the run's end")
    ended = running.ended(0)
    assert (ended.state, ended.attempt) == ("finished", 2)

    events = list(Parser().feed(run.log.read_bytes()))
    first, second = (e for e in events if isinstance(e, RunStarted))
    assert (first.resumed_from, second.attempt, second.resumed_from) == (None, 2, 10)
    # What led to the checkpoint is in force until the restart is applied, before anything else.
    assert (second.learning_rate, second.n_samples) == (1e-3, first.n_samples)
    begun = events.index(second)
    assert isinstance(events[begun - 1], RunEnded)
    answer, *after = events[begun + 1 :]
    assert isinstance(answer, ControlApplied)
    assert (answer.revision, answer.iteration) == (2, 11)
    assert {(c.key, c.value) for c in answer.changes} == {
        ("learning_rate", "0.0003"),
        ("n_samples", "6"),
        ("lifecycle", "restart_from"),
    }
    rows = [e for e in after if isinstance(e, IterationRecord)]
    assert [row.iteration for row in rows] == list(range(11, 25))
    assert {(row.learning_rate, row.n_total) for row in rows} == {(3e-4, 12)}
    # Not evaluated anew before training: it is no fresh run.
    assert [e.iteration for e in after if isinstance(e, Evaluated)] == [24]
    assert [(a.revision, a.iteration) for a in read_applied(run.applied)] == [(2, 11)]
    assert [each.iteration for each in checkpoints.complete(run)] == [20, 24]

    folded = autopilot.State()
    for event in events:
        folded, _ = autopilot.reduce(folded, event, Policy())
    assert (folded.iteration, folded.revision, folded.attempt) == (24, 2, 2)
    assert folded.rates == [(1, 1e-3), (11, 3e-4)]
