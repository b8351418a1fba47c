"""A trainer that stands still: its stacks are told, and it is ended and started again."""

from pathlib import Path

import pytest
from supervised import PREAMBLE, Make
from waiting import wait_until

BEATS = """
import faulthandler
faulthandler.register(signal.SIGUSR1, (run / "stacks.log").open("a"))
def beat(phase, iteration):
    aside = run / "aside"
    aside.write_text('{"phase": "%s", "iteration": %d, "since": "2026-11-22T13:30:05Z"}'
                     % (phase, iteration))
    aside.replace(run / "heartbeat.json")
if attempt == 2: sys.exit(0)
beat("load", 0)
if (run / "slow").exists(): time.sleep(3)
for iteration in (1, 2, 3):
    beat("sample", iteration)
    time.sleep(0.3)
beat("verify", 3)
print("training", flush=True)
"""
SHORT = {
    "MAXRL_OPS_STALL_SECONDS": "1", "MAXRL_OPS_STALL_FACTOR": "2",
    "MAXRL_OPS_STALL_GRACE_SECONDS": "0.5",
}  # fmt: skip


def fake_trainer(tmp_path: Path, standstill: str) -> Path:
    """A directory with a package `trainer` that stands still."""
    package = tmp_path / "path" / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PREAMBLE + BEATS + standstill)
    return package.parent


@pytest.mark.parametrize(
    "standstill",
    [
        "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)",
        "time.sleep(600)",
        "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    ],
)
def test_a_standstill_is_ended_and_started_again(
    make: Make, tmp_path: Path, standstill: str
) -> None:
    running = make("", command=())
    # It is no stall to be slow at first.
    (running.run.path / "slow").touch()
    running.supervise(PYTHONPATH=str(fake_trainer(tmp_path, standstill)), **SHORT)
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 2, 1)
    reason = state.exits[0].reason
    assert reason.startswith("stalled: no progress for 1 s in phase verify of iteration 3"), reason
    told = running.run.stacks.read_text()
    assert f"stalled: pids {running.pids()[0]}" in told
    assert "__main__.py" in told


def test_a_process_that_a_launcher_put_elsewhere_tells_its_stacks_too(
    make: Make, tmp_path: Path
) -> None:
    running = make("", command=(), launch="setsid --wait")
    running.supervise(PYTHONPATH=str(fake_trainer(tmp_path, "time.sleep(600)")), **SHORT)
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 2, 1)
    told = running.run.stacks.read_text()
    assert str(running.pids()[0]) in told.partition("\n")[0]
    assert "__main__.py" in told


def test_who_adopts_a_trainer_that_stands_still_knows_how_long_its_iterations_took(
    make: Make, tmp_path: Path
) -> None:
    running = make("", command=())
    path = str(fake_trainer(tmp_path, "time.sleep(600)"))
    env = SHORT | {"PYTHONPATH": path, "MAXRL_OPS_STALL_SECONDS": "3"}
    running.supervise(**env)

    def has_seen_one() -> bool:
        return running.is_in("running") and running.state().longest is not None

    wait_until(has_seen_one, 20, "an iteration that was seen")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(60)
    # Before a whole iteration was seen half an hour is allowed.
    running.supervise(**env)
    state = running.ended(0)
    assert (state.state, state.attempt, state.stalls) == ("finished", 2, 1)
    assert state.exits[0].reason.startswith("stalled: no progress for 3 s in phase verify")
    assert state.longest is None


def test_a_command_of_ones_own_is_not_killed_by_being_asked(make: Make) -> None:
    running = make("print('training', flush=True)\nif attempt == 1: time.sleep(600)")
    running.supervise(MAXRL_OPS_STALL_START_SECONDS="1", MAXRL_OPS_STALL_GRACE_SECONDS="0.5")
    state = running.ended(0)
    assert (state.state, state.attempt) == ("finished", 2)
    assert state.exits[0].signal == "SIGTERM"
    assert state.exits[0].reason == "stalled: no progress for 1 s"
    assert (state.restarts, state.stalls) == (1, 1)
