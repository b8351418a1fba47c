"""A trainer that ends because a control sends it back: no failure, and nothing done twice."""

import os
import signal

from supervised import PREAMBLE, Make, Running
from waiting import wait_until

from maxrl_ops.wire.control import Applied, Control, TrainingState, append_applied, publish

STATE = TrainingState("maxrl", 20.0, 1.0, 4, 3e-5)
BEGIN = (
    PREAMBLE
    + """
from maxrl_ops.wire import control as c
def beat(phase):
    aside = run / "aside"
    aside.write_text('{"phase": "%s", "iteration": 1, "since": "2026-11-22T13:30:05Z"}' % phase)
    aside.replace(run / "heartbeat.json")
def answer(rejected=None):
    newest = c.read_newest(run / "control").newest
    applied = c.Applied(newest.revision, 3, newest.state, rejected, newest.lifecycle)
    c.append_applied(run / "applied.jsonl", applied)
def until_asked():
    while c.read_newest(run / "control").newest is None: time.sleep(0.02)
if attempt == 1: [checkpoint(n) for n in (1, 2, 3)]
beat("sample")
"""
)


def ours(make: Make, script: str) -> tuple[Running, dict[str, str]]:
    """A run of "our" trainer that is a script, and the environment in which it is."""
    running = make("", command=())
    package = running.run.path / "path" / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(BEGIN + script)
    return running, {"PYTHONPATH": str(package.parent), "MAXRL_OPS_BACKOFF_SCALE": "1000"}


def go_back(running: Running, revision: int = 1, to: int = 2) -> None:
    now = "2026-11-25T12:00:00Z"
    publish(
        running.run.control,
        Control(
            revision, revision - 1, STATE, "rule:COLLAPSE", "it fell", now,
            "restart_from", f"intent-{revision}", to,
        ),
    )  # fmt: skip


def second_attempt(running: Running) -> None:
    wait_until(lambda: len(running.pids()) == 2, 20, "the second attempt")


def test_it_is_started_again_at_once_and_that_is_no_failure(make: Make) -> None:
    running, env = ours(
        make, "if attempt == 1: until_asked(); sys.exit(143)\nanswer()\ntime.sleep(600)"
    )
    running.supervise(**env)
    running.wait_for("running")
    go_back(running)
    second_attempt(running)
    state = running.wait_for("running")
    assert (state.attempt, state.restarts) == (2, 0)
    assert state.exits[0].reason == "to start again from checkpoint 2, as revision 1 asks"
    running.supervisors[-1].terminate()
    assert running.ended(0).state == "stopped"


def test_a_crash_on_the_way_is_a_crash(make: Make) -> None:
    """The next trainer does what is left, after an ordinary pause."""
    running, env = ours(
        make,
        "if attempt == 1: until_asked(); sys.exit(143)\n"
        "if attempt == 2: sys.exit(1)\nanswer()\nsys.exit(0)",
    )
    running.supervise(**{**env, "MAXRL_OPS_BACKOFF_SCALE": "0.01"})
    running.wait_for("running")
    go_back(running)
    state = running.ended(0)
    assert (state.attempt, state.restarts) == (3, 1)
    assert [e.reason for e in state.exits[1:]] == ["exit code 1", "exit code 0"]


def test_one_that_does_not_end_is_killed_and_one_that_rejects_is_not(make: Make) -> None:
    running, env = ours(
        make,
        "if attempt == 2: answer(); sys.exit(0)\n"
        "until_asked(); answer('no')\nwhile True: time.sleep(0.02)",
    )
    running.supervise(**env, MAXRL_OPS_STOP_GRACE_SECONDS="0.6")
    running.wait_for("running")
    go_back(running)
    wait_until(running.run.applied.exists, 20, "the rejection")
    # A wish that nobody heeds; that the first one's time is up by the end of it is the proof.
    go_back(running, 2)
    state = running.ended(0)
    assert (state.attempt, state.restarts) == (2, 0)
    assert state.exits[0].signal == "SIGKILL"
    assert state.exits[0].reason == "to start again from checkpoint 2, as revision 2 asks"


def test_a_supervisor_that_takes_over_knows_what_is_done_and_what_is_not(make: Make) -> None:
    running, env = ours(
        make,
        "if attempt == 2: answer(); sys.exit(0)\n"
        "while not (run / 'leave').exists(): time.sleep(0.02)\nsys.exit(143)",
    )
    append_applied(running.run.applied, Applied(1, 3, STATE, None, "restart_from"))
    go_back(running)
    running.supervise(**env)
    running.wait_for("running")
    running.supervisors[-1].send_signal(signal.SIGKILL)
    running.supervisors[-1].wait(10)
    go_back(running, 2, to=1)
    running.supervise(**env)

    def has_taken_over() -> bool:
        writer = running.state().supervisor
        return writer is not None and writer.pid == running.supervisors[-1].pid

    wait_until(has_taken_over, 20, "the next supervisor")
    (running.run.path / "leave").touch()
    state = running.ended(0)
    assert [e.reason for e in state.exits] == [
        "to start again from checkpoint 1, as revision 2 asks", "exit code 0",
    ]  # fmt: skip


def test_a_stop_is_a_stop(make: Make) -> None:
    running, env = ours(make, "time.sleep(600)")
    running.supervise(**env)
    running.wait_for("running")
    go_back(running)
    os.kill(running.supervisors[-1].pid, signal.SIGTERM)
    assert running.ended(0).state == "stopped"
