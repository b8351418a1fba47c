"""The supervisor as a process of its own, over trainers that are small Python scripts."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from supervised import FOREVER, PREAMBLE, Make, Running
from waiting import wait_until

from maxrl_ops import locks, processes, supervisor
from maxrl_ops.wire.control import Control, TrainingState, publish
from maxrl_ops.wire.documents import ProcessIdentity, SupervisorState
from maxrl_ops.wire.rundir import RunDir

# --- Ends and restarts --------------------------------------------------------------------------


def test_a_trainer_that_finishes(make: Make) -> None:
    running = make("print('a line'); print('another', file=sys.stderr)")
    running.supervise()
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 1, 0)
    assert (state.exit_reason, state.exits[0].code) == (None, 0)
    assert state.supervisor is not None
    assert sorted(running.log().splitlines()) == ["a line", "another"]
    assert {p.stat().st_mode & 0o777 for p in (running.run.log, running.run.state)} == {0o640}


def test_a_crash_is_restarted_and_remembered(make: Make) -> None:
    running = make("sys.exit(0 if attempt == 3 else 1)")
    running.supervise()
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 3, 2)
    assert [(e.attempt, e.code, e.reason) for e in state.exits] == [
        (1, 1, "exit code 1"), (2, 1, "exit code 1"), (3, 0, "exit code 0"),
    ]  # fmt: skip
    assert len(running.pids()) == 3


def test_a_crash_loop_ends_with_the_logs_own_reason(make: Make) -> None:
    running = make("print('' if attempt == 4 else 'Run failed: loss is nan'); sys.exit(1)")
    running.supervise()
    state = running.ended(1)
    assert (state.state, len(running.pids())) == ("failed", 5)
    assert state.exit_reason == (
        "crash loop: 5 failures in a row without a new checkpoint, the last: loss is nan"
    )
    # What an earlier attempt said is not the fourth one's reason.
    assert [e.reason for e in state.exits] == [
        *["loss is nan"] * 3, "exit code 1", "loss is nan",
    ]  # fmt: skip


def test_a_new_checkpoint_breaks_the_loop_and_the_list_of_exits_is_bounded(make: Make) -> None:
    # Progress in every third attempt: never five failures in a row.
    running = make(
        "if attempt % 3 == 0: checkpoint(attempt)\n"
        "if attempt < 24: os.kill(os.getpid(), signal.SIGKILL)"
    )
    running.supervise(MAXRL_OPS_BACKOFF_SCALE="0")
    state = running.ended(0)
    assert (state.state, state.attempt) == ("finished", 24)
    assert [e.attempt for e in state.exits] == list(range(5, 25))
    assert (state.exits[0].signal, state.exits[0].reason) == ("SIGKILL", "killed by SIGKILL")


def test_a_wrong_configuration_is_not_tried_again(make: Make) -> None:
    running = make("print('Run failed: MAXRL_SEED is not allowed'); sys.exit(2)")
    running.supervise()
    state = running.ended(1)
    assert (state.state, state.attempt) == ("failed", 1)
    assert state.exit_reason == "MAXRL_SEED is not allowed"


def test_a_wrong_configuration_is_not_tried_again_by_way_of_a_launcher(
    make: Make, tmp_path: Path
) -> None:
    # As torchrun does: ranks in the environment, and an exit code of its own.
    launcher = tmp_path / "launcher"
    launcher.write_text('RANK=0 "$@" || exit 1\n')
    wrong = {"task": "arithmetic", "schedule": "hybrid", "objective": "grpo"}
    running = make("", command=(), launch=f"sh {launcher}", **wrong)
    running.supervise()
    state = running.ended(1)
    assert (state.state, state.attempt, state.exits[0].code) == ("failed", 1, 2)
    assert "hands over to MaxRL" in (state.exit_reason or "")


def test_a_program_that_is_not_there(make: Make) -> None:
    running = make("", command=("/nonexistent/program",))
    running.supervise()
    state = running.ended(1)
    assert state.exit_reason == (
        "cannot be started: /nonexistent/program: No such file or directory"
    )


def test_a_command_that_no_kernel_takes(make: Make) -> None:
    running = make("", command=("/bin/echo", "a\0b"))
    running.supervise()
    state = running.ended(1)
    assert (state.state, state.exit_reason) == ("failed", "cannot be started: embedded null byte")


def test_what_a_trainer_leaves_behind_does_not_survive_it(make: Make) -> None:
    running = make(
        "child = subprocess.Popen(['sleep', '600'], close_fds=False)\n"
        "(run / 'child').write_text(str(child.pid))"
    )
    running.supervise()
    assert running.ended(0).state == "finished"
    child = int((running.run.path / "child").read_text())
    wait_until(lambda: processes.identity_of(child) is None, 5, "the grandchild's death")


DAEMONISES = """
def daemonise():
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    (run / "daemon").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    os._exit(0)
if attempt == 2: sys.exit(0)
daemonise()
while not (run / "daemon").exists() or not (run / "daemon").read_text(): time.sleep(0.01)
print("training", flush=True)
"""


def test_what_left_the_trainers_group_does_not_survive_it_either(make: Make) -> None:
    running = make(DAEMONISES + "sys.exit(1)")
    running.supervise()
    assert running.ended(0).attempt == 2
    assert processes.identity_of(int((running.run.path / "daemon").read_text())) is None


def test_nor_does_it_survive_a_trainer_that_was_adopted(make: Make) -> None:
    running = make(DAEMONISES + "time.sleep(600)")
    running.supervise()
    trainer = killed(running)
    left = int((running.run.path / "daemon").read_text())
    adopted(running)
    assert processes.identity_of(left) is not None
    os.kill(trainer.pid, signal.SIGKILL)
    assert running.ended(0).attempt == 2
    assert processes.identity_of(left) is None


def test_an_orphan_that_ends_is_no_zombie(make: Make) -> None:
    running = make(
        "if os.fork() == 0:\n"
        "    if os.fork(): os._exit(0)\n"
        "    (run / 'orphan').write_text(str(os.getpid())); os._exit(0)\n"
        "os.wait()\n" + FOREVER
    )
    process = running.supervise()
    running.wait_for_training()
    wait_until((running.run.path / "orphan").exists, 5, "the orphan")
    orphan = int((running.run.path / "orphan").read_text())
    wait_until(
        lambda: processes.identity_of(orphan, even_zombie=True) is None, 5, "the orphan's burial"
    )
    process.terminate()
    assert running.ended(0).state == "stopped"


def test_a_revived_supervisor_has_the_settings_and_the_count_of_the_first(make: Make) -> None:
    running = make("print('training', flush=True)\nif attempt == 3: time.sleep(600)\nsys.exit(1)")
    running.supervise(MAXRL_OPS_STOP_GRACE_SECONDS="7", MAXRL_OPS_STALL_SECONDS="70")
    running.wait_for_training()
    wait_until(lambda: len(running.pids()) == 3, 20, "the third attempt")
    running.wait_for("running")
    killed(running)
    before = running.state()
    assert (before.failures, before.progress) == (2, -1)
    adopted(running)
    assert running.state().tuning == before.tuning
    assert (before.tuning["stop_grace"], before.tuning["stall_least"]) == (7, 70)
    assert before.trainer is not None
    os.kill(before.trainer.pid, signal.SIGKILL)
    state = running.ended(1)
    assert (state.state, state.attempt) == ("failed", 5)


def test_the_environment_is_the_runs_alone(make: Make) -> None:
    running = make(
        "print({k: v for k, v in os.environ.items() if 'MAXRL' in k or k == 'PYTHONUNBUFFERED'})",
        iterations=7,
    )
    running.supervise(USE_MAXRL="true", MAXRL_SEED="3", MAXRL_OPS_HOME="/home/rl")
    running.ended(0)
    told = eval(running.log())  # noqa: S307 - the script's own words
    del told["MAXRL_OPS_LOCK_FD"]
    assert told == {
        "MAXRL_ITERATIONS": "7", "MAXRL_OPS_ATTEMPT": "1", "MAXRL_RUN_DIR": str(running.run.path),
        "MAXRL_OPS_HOME": "/home/rl", "MAXRL_OPS_BACKOFF_SCALE": "0.01", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


HEARTBEATS = """
def beat(phase):
    aside = run / "aside"
    aside.write_text('{"phase": "%s", "iteration": 0, "since": "2026-11-22T13:30:05Z"}' % phase)
    aside.replace(run / "heartbeat.json")
def follow(word):
    while not (run / word).exists(): time.sleep(0.02)
print("loading", file=sys.stderr, flush=True)
if attempt == 2: follow("late")
beat("load")
follow("loaded")
beat("sample")
follow(f"end-{attempt}")
sys.exit(attempt % 2)
"""


def test_our_own_trainer_runs_once_it_has_loaded(make: Make, tmp_path: Path) -> None:
    package = tmp_path / "path" / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PREAMBLE + HEARTBEATS)
    running = make("", command=())
    running.supervise(PYTHONPATH=str(package.parent))
    running.wait_for("starting")
    wait_until(running.run.heartbeat.exists, 20, "the first heartbeat")
    assert running.is_in("starting")
    (running.run.path / "loaded").touch()
    running.wait_for("running")
    # A dead trainer's heartbeat does not make the next one run.
    (running.run.path / "end-1").touch()
    wait_until(lambda: running.state().attempt == 2 and running.state().trainer, 20, "a restart")
    assert running.is_in("starting")
    assert not running.run.heartbeat.exists()
    (running.run.path / "late").touch()
    assert running.wait_for("running").exit_reason is None
    (running.run.path / "end-2").touch()
    assert running.ended(0).state == "finished"
    # Its log is its own business; what it says before it has one is kept apart.
    assert running.log() == ""
    assert running.run.supervisor_log.read_text() == "loading\n" * 2


def test_a_death_is_named_by_its_last_lines_and_these_are_kept(make: Make) -> None:
    running = make(
        "if attempt == 3: sys.exit(0)\n"
        "for number in range(60): print('line', number)\n"
        "print('torch.OutOfMemoryError: CUDA out of memory. Tried' if attempt == 1 else\n"
        "      'NCCL error in: ProcessGroupNCCL.cpp')\n"
        "sys.stdout.flush()\n"
        "sys.exit(1) if attempt == 1 else os.abort()"
    )
    running.supervise(MAXRL_OPS_BACKOFF_SCALE="3")
    first = running.wait_for("backing_off").exits[0]
    assert first.reason == "CUDA out of memory (exit code 1)"
    assert (len(first.lines), first.lines[0]) == (50, "line 11")
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    running.supervise()
    state = running.ended(0)
    assert [e.reason for e in state.exits] == [
        "CUDA out of memory (exit code 1)", "NCCL error (aborted (SIGABRT))", "exit code 0",
    ]  # fmt: skip
    assert state.exits[0].lines == ()


# --- Stops --------------------------------------------------------------------------------------


def test_a_stop_lets_the_trainer_save(make: Make) -> None:
    running = make(
        "def save(*_): checkpoint(1); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n" + FOREVER
    )
    process = running.supervise()
    running.wait_for_training()
    # Closed terminals are not its business.
    process.send_signal(signal.SIGHUP)
    process.terminate()
    state = running.ended(0)
    assert (state.state, state.exit_reason) == ("stopped", "stopped as asked")
    assert (running.run.checkpoints / "000001" / "COMPLETE").exists()


IGNORES_TERM = (
    "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
    "child = subprocess.Popen(['sleep', '600'])\n"
    "print('training', child.pid, flush=True)\n"
    "while True: time.sleep(600)"
)


def test_a_trainer_that_ignores_term_is_killed_with_its_group(make: Make) -> None:
    running = make(IGNORES_TERM)
    process = running.supervise(MAXRL_OPS_STOP_GRACE_SECONDS="0.5")
    running.wait_for_training()
    child = int(running.log().split()[-1])
    process.terminate()
    state = running.ended(0)
    assert (state.state, state.exits[0].signal) == ("stopped", "SIGKILL")
    assert state.exit_reason == "stopped as asked (killed by SIGKILL)"
    assert running.log().count("no") == 1
    wait_until(lambda: processes.identity_of(child) is None, 5, "the grandchild's death")


def test_who_asks_twice_waits_less(make: Make) -> None:
    short = "import sys, maxrl_ops.supervisor as s; s._SHORT_GRACE_SECONDS = 0.2; "
    running = make(IGNORES_TERM)
    process = subprocess.Popen(
        [sys.executable, "-c", short + "sys.exit(s.main(sys.argv[1:]))", str(running.run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.supervisors.append(process)
    running.wait_for_training()
    process.send_signal(signal.SIGINT)
    running.wait_for("stopping")
    process.terminate()
    assert running.ended(0).state == "stopped"


def stop_by_control(run: RunDir, revision: int = 1, lifecycle: str = "stop") -> None:
    state = TrainingState("maxrl", 20.0, 1.0, 8, 1e-5)
    now = "2026-11-22T13:30:05Z"
    publish(
        run.control,
        Control(revision, revision - 1, state, "uid:1000", "enough", now, lifecycle, "x"),
    )


def test_a_control_stops_a_run(make: Make) -> None:
    running = make(FOREVER)
    running.supervise()
    running.wait_for_training()
    stop_by_control(running.run, 1, "run")
    (running.run.control / "000003.json").write_text("{")
    stop_by_control(running.run, 2)
    assert running.ended(0).state == "stopped"


def test_a_run_that_backs_off_is_stopped_at_once(make: Make) -> None:
    running = make("sys.exit(1)")
    process = running.supervise(MAXRL_OPS_BACKOFF_SCALE="1000")
    assert running.wait_for("backing_off").exit_reason == "exit code 1"
    process.terminate()
    assert running.ended(0).state == "stopped"


# --- Two supervisors, dead supervisors ----------------------------------------------------------


def one_line(process: "subprocess.Popen[str]", code: int) -> str:
    """The single line with which a supervisor refuses."""
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, ""), err
    assert err.count("\n") == 1, err
    return err


def test_a_second_supervisor_names_the_first(make: Make) -> None:
    running = make(FOREVER)
    first = running.supervise()
    running.wait_for_training()
    assert f"held by pid {first.pid}" in one_line(running.supervise(), 4)
    assert len(running.pids()) == 1


def test_a_trainer_that_nobody_recorded_is_not_joined_by_a_second(make: Make) -> None:
    running = make(FOREVER)
    held = locks.acquire(running.run.lock)
    try:
        assert "names no living trainer" in one_line(running.supervise(), 4)
    finally:
        os.close(held)
    assert not running.run.log.exists()


def killed(running: Running) -> ProcessIdentity:
    """The trainer that lives on after kill -9 of the last supervisor."""
    trainer = running.wait_for_training().trainer
    running.supervisors[-1].kill()
    running.supervisors[-1].wait(10)
    assert trainer is not None
    assert processes.is_alive(trainer)
    return trainer


def adopted(running: Running) -> SupervisorState:
    """Start a new supervisor; its state once it has taken over."""
    process = running.supervise()

    def has_taken_over() -> bool:
        writer = running.state().supervisor
        return writer is not None and writer.pid == process.pid

    wait_until(has_taken_over, 20, "the new supervisor")
    return running.state()


def test_an_orphaned_trainer_is_adopted_and_stopped(make: Make) -> None:
    running = make(FOREVER)
    running.supervise()
    trainer = killed(running)
    state = adopted(running)
    assert (state.state, state.trainer, state.attempt) == ("running", trainer, 1)
    running.supervisors[-1].terminate()
    assert running.ended(0).state == "stopped"
    assert not processes.is_alive(trainer)
    assert running.pids() == [trainer.pid]


def test_an_adopted_trainer_that_dies_is_restarted_and_one_that_finishes_is_not(make: Make) -> None:
    running = make(
        "if attempt == 1: print('training', flush=True); time.sleep(600)\n"
        "print('Run finished: 3 iterations\\n| bye', flush=True)\n"
        "def finish(*_): sys.exit(1)\n"
        "signal.signal(signal.SIGUSR1, finish)\n"
        "(run / 'second').touch(); time.sleep(600)"
    )
    running.supervise()
    trainer = killed(running)
    adopted(running)
    os.kill(trainer.pid, signal.SIGKILL)

    wait_until((running.run.path / "second").exists, 20, "the second attempt")
    running.wait_for("running")
    second = killed(running)
    adopted(running)
    # Nobody can see its exit code; the log's last event is what counts.
    os.kill(second.pid, signal.SIGUSR1)
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 2, 1)
    assert [e.reason for e in state.exits] == ["ended while no supervisor watched"] * 2
    assert running.pids() == [trainer.pid, second.pid]


def test_a_trainer_that_died_unwatched_leaves_nothing_behind(make: Make) -> None:
    running = make(
        "if attempt == 2: sys.exit(0)\n"
        # It holds the lock, too, as a forked worker would.
        "child = subprocess.Popen(['sleep', '600'], close_fds=False)\n"
        "(run / 'child').write_text(str(child.pid))\n" + FOREVER
    )
    running.supervise()
    trainer = killed(running)
    os.kill(trainer.pid, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(trainer), 5, "the trainer's death")
    running.supervise()
    assert running.ended(0).attempt == 2
    child = int((running.run.path / "child").read_text())
    wait_until(lambda: processes.identity_of(child) is None, 5, "the grandchild's death")


def test_a_stop_survives_its_supervisor(make: Make) -> None:
    running = make(
        "terms = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: terms.append(1))\n"
        "print('training', flush=True)\n"
        "while not (run / 'saved').exists(): time.sleep(0.02)\n"
        "print('told', len(terms), flush=True)\n"
        "sys.exit(143)"
    )
    running.supervise()
    running.wait_for_training()
    running.supervisors[-1].terminate()
    running.wait_for("stopping")
    killed_by = running.supervisors[-1]
    killed_by.kill()
    killed_by.wait(10)
    assert adopted(running).state == "stopping"
    (running.run.path / "saved").touch()
    assert running.ended(0).state == "stopped"
    # Not a second time: our trainer would leave without its checkpoint.
    assert "told 1" in running.log()


def test_an_ended_run_is_not_started_again(make: Make) -> None:
    running = make("")
    running.supervise()
    running.ended(0)
    assert "has finished already" in one_line(running.supervise(), 0)
    assert len(running.pids()) == 1


# --- A full disk, wrong use ---------------------------------------------------------------------


def test_a_state_that_cannot_be_written_is_written_later(make: Make) -> None:
    running = make(FOREVER)
    process = running.supervise()
    running.wait_for_training()
    before = running.state()
    # No file may grow: what a full disk does, to this one process.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    process.terminate()
    trainer = before.trainer
    assert trainer is not None
    wait_until(lambda: not processes.is_alive(trainer), 10, "the trainer's death")
    assert process.poll() is None
    assert running.state() == before
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
    assert running.ended(0).state == "stopped"


def test_nothing_is_started_whose_start_cannot_be_written_down(make: Make) -> None:
    running = make(
        "if attempt == 2: sys.exit(0)\n"
        "print('training', flush=True)\n"
        "while not (run / 'crash').exists(): time.sleep(0.02)\n"
        "sys.exit(1)"
    )
    process = running.supervise()
    running.wait_for_training()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    (running.run.path / "crash").touch()
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any("state.json cannot be written, trying again" in line for line in said)
    assert len(running.pids()) == 1
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
    state = running.ended(0)
    assert (state.state, state.attempt, state.restarts) == ("finished", 2, 1)


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"MAXRL_OPS_STOP_GRACE_SECONDS": "soon"}, "MAXRL_OPS_STOP_GRACE_SECONDS='soon'"),
        ({"MAXRL_OPS_BACKOFF_SCALE": "-1"}, "MAXRL_OPS_BACKOFF_SCALE='-1'"),
        ({"MAXRL_OPS_BACKOFF_SCALE": "inf"}, "MAXRL_OPS_BACKOFF_SCALE='inf'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make: Make, env: dict[str, str], word: str) -> None:
    assert word in one_line(make(FOREVER).supervise(**env), 2)


def test_wrong_files_are_refused_in_one_line(make: Make) -> None:
    running = make(FOREVER)
    running.run.state.write_text(json.dumps({"state": "hovering", "since": ""}))
    assert "state.json" in one_line(running.supervise(), 2)
    running.run.spec.write_text("{}")
    assert "run.json" in one_line(running.supervise(), 2)
    running.run.spec.unlink()
    assert "run.json: No such file" in one_line(running.supervise(), 3)
    assert not running.run.log.exists()


# --- spawn, imports -----------------------------------------------------------------------------


def test_a_spawned_supervisor_is_nobodys_child(make: Make) -> None:
    running = make(FOREVER)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    pid = supervisor.spawn(running.run)
    state = running.wait_for_training()
    assert state.supervisor == processes.identity_of(pid)
    os.close(write)
    # Nobody inherited the pipe: it is at its end.
    assert os.read(read, 1) == b""
    os.close(read)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    assert running.run.supervisor_log.stat().st_mode & 0o777 == 0o640
    assert state.supervisor is not None
    processes.send_signal(state.supervisor, signal.SIGTERM)
    running.wait_for("stopped")
    assert "attempt 1 stopped: stopped as asked" in running.run.supervisor_log.read_text()


@contextmanager
def without_run_directory(running: Running) -> Iterator[None]:
    aside = running.run.path.with_name("aside")
    running.run.path.rename(aside)
    yield
    aside.rename(running.run.path)


def test_spawning_for_a_run_that_is_not_there(make: Make) -> None:
    with without_run_directory(running := make(FOREVER)), pytest.raises(FileNotFoundError):
        supervisor.spawn(running.run)


def test_it_is_light() -> None:
    script = "import maxrl_ops.supervisor, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "typer", "rich", "trainer", "click"}


def test_a_daemon_revives_a_dead_supervisor_which_adopts(make: Make) -> None:
    running = make(FOREVER)
    home = running.run.path.parents[1]
    running.supervise()
    trainer = killed(running)
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-m", "maxrl_ops.daemon", "--listen", "127.0.0.1:0"],
        env={**os.environ, "MAXRL_OPS_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        dead = running.supervisors[-1].pid

        def revived() -> ProcessIdentity | None:
            writer = running.state().supervisor
            return writer if writer is not None and writer.pid != dead else None

        writer = wait_until(revived, 20, "another supervisor")
        state = running.state()
        assert (state.trainer, state.attempt, state.state) == (trainer, 1, "running")
        processes.send_signal(writer, signal.SIGTERM)
        running.wait_for("stopped")
    finally:
        daemon.terminate()
        _, said = daemon.communicate(timeout=20)
    assert "its supervisor is dead, its trainer lives" in said
    assert not processes.is_alive(trainer)
    assert running.pids() == [trainer.pid]
