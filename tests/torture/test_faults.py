"""A real training under a real supervisor and a real daemon, and everything that can befall them.

One run lives through all of it, and at its end every iteration is there once: in the log as folded,
and in the history. Three things are not as in the field. Trainer, supervisor and daemon have a libc
(faulty_libc.c) whose clock jumps, and whose write(2) fails with EIO, as this test says: a real
clock is the whole host's. A home is read-only since its directories are immutable, to which the
kernel says EPERM. And what a person does for a supervisor that died with its trainer, we do.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from maxrl_ops import daemon_file, processes, supervisor
from maxrl_ops.run_reader import LogReader, life_of
from maxrl_ops.settings import Home
from maxrl_ops.wire import checkpoints
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec, SupervisorState
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import Value

pytestmark = pytest.mark.slow

# A share of the torture in every run of the suite; `make torture` sets the whole.
SHARE = int(os.environ.get("TORTURE_FAULTS", "5"))
DIRECTORIES = int(os.environ.get("TORTURE_DIRECTORIES", "300"))
CLIENTS = 200
SECONDS = 60
ENV = {
    "MAXRL_OPS_LISTEN": "127.0.0.1:0",
    "MAXRL_OPS_BACKOFF_SCALE": "0.1",
    "MAXRL_OPS_STALL_SECONDS": "8",
    "MAXRL_OPS_STALL_GRACE_SECONDS": "1",
    "MAXRL_OPS_STOP_GRACE_SECONDS": "60",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class World:
    """A home with one run, and who looks after it."""

    home: Home
    run: RunDir
    daemons: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def faults(self) -> Path:
        """What faulty_libc.c reads."""
        return self.home.path / "faults"

    def let(self, *, clock: int = 0, log: bool = False) -> None:
        """Let the clock be wrong by so many seconds, and the log not be written."""
        with self.faults.open("r+b") as file:
            file.write(struct.pack("=qq", clock, log))

    def status(self) -> dict[str, Any]:
        """What `status --json` tells of the run."""
        (told,) = self.told()["runs"]
        assert isinstance(told, dict)
        return told

    def told(self) -> dict[str, Any]:
        """What `status --json` tells."""
        words = [sys.executable, "-m", "maxrl_ops", "status", self.run.name, "--json"]
        env = {**os.environ, "MAXRL_OPS_HOME": str(self.home.path)}
        done = subprocess.run(words, env=env, capture_output=True, timeout=60, check=True)
        told = json.loads(done.stdout)
        assert isinstance(told, dict)
        return told

    def start_daemon(self) -> None:
        with (self.home.path / "daemon.words").open("ab") as words:
            self.daemons.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "maxrl_ops.daemon"],
                    env={**os.environ, "MAXRL_OPS_HOME": str(self.home.path)},
                    stdin=subprocess.DEVNULL,
                    stderr=words,
                )
            )

    @property
    def words(self) -> str:
        return (self.home.path / "daemon.words").read_text()

    def get(self, path: str = "/metrics") -> str:
        found = wait_until(lambda: daemon_file.running(self.home), SECONDS, "a daemon")
        url = found.metrics.replace("/metrics", path)
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the daemon's own
            return str(answer.read().decode())

    def sees(self, pattern: str) -> bool:
        """Whether the metrics say so; False also while nobody serves them."""
        with suppress(OSError):
            return re.search(pattern, self.get(), re.M) is not None
        return False

    def state(self) -> SupervisorState:
        return SupervisorState.load(self.run)

    def trainer(self) -> ProcessIdentity:
        def living() -> ProcessIdentity | None:
            one = self.state().trainer
            return one if one is not None and processes.is_alive(one) else None

        return wait_until(living, SECONDS, "a trainer")

    def supervisor(self) -> ProcessIdentity:
        def living() -> ProcessIdentity | None:
            one = self.state().supervisor
            return one if one is not None and processes.is_alive(one) else None

        return wait_until(living, SECONDS, "a supervisor")

    def daemon(self) -> ProcessIdentity:
        found = wait_until(lambda: daemon_file.running(self.home), SECONDS, "a daemon")
        return found.process

    def trains_on(self) -> None:
        """Wait until something new is saved, and everybody there and well."""
        life = life_of(self.run)
        if not life.supervisor_alive and not life.trainer_alive:
            supervisor.spawn(self.run)
        self.supervisor(), self.trainer()
        wait_until(lambda: self.state().state == "running", SECONDS, "running")
        # Whole iterations, by which a supervisor that took over knows how long one takes.
        before = saved(self.run)
        wait_until(lambda: saved(self.run) > before + 5, SECONDS, f"checkpoints after {before}")
        # The very same that state.json counts.
        state = self.state()
        told = self.status()
        assert (told["state"], told["trainer_alive"]) == ("running", True)
        assert (told["restarts"], told["attempt"]) == (state.restarts, state.attempt)
        for reason, count in (("crash", state.restarts - state.stalls), ("stall", state.stalls)):
            said = rf'^maxrl_job_restarts_total{{.*reason="{reason}".*}} {count}\.0$'
            # A kind that has never been has no series yet.
            if count:
                wait_until(lambda said=said: self.sees(said), SECONDS, said)  # type: ignore[misc]

    def is_counted(self, before: SupervisorState) -> bool:
        now = self.state()
        return now.restarts == before.restarts + 1 and now.attempt == before.attempt + 1


def saved(run: RunDir) -> int:
    found = checkpoints.newest(run)
    return -1 if found is None else found.iteration


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from _world(tmp_path / "home", monkeypatch)


def _world(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in list(os.environ):
        if name.startswith(("MAXRL_", "USE_MAXRL")):
            monkeypatch.delenv(name)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    home = Home(path)
    run = home.run("one")
    run.control.mkdir(parents=True)
    _give_faulty_libc(path, monkeypatch)
    settings: dict[str, Value] = {
        "task": "arithmetic",
        "iterations": 1_000_000,
        "prompts_per_iteration": 2,
        "n_samples": 4,
        "checkpoint_every": 5,
        "evaluate_every": 0,
        "evaluation_prompts": 2,
        "seed": 5,
    }
    RunSpec("one", "arithmetic", settings, (), "2026-11-25T12:00:00Z", mode="observe").save(run)
    here = World(home, run)
    supervisor.spawn(run)
    wait_until(run.state.exists, SECONDS, "a supervisor")
    here.start_daemon()
    yield here
    for one in (here.state().supervisor, here.state().trainer):
        if one is not None:
            processes.send_signal(one, signal.SIGKILL)
    if (trainer := here.state().trainer) is not None:
        processes.signal_group(trainer, signal.SIGKILL)
    for process in here.daemons:
        process.kill()
        process.wait()


def _give_faulty_libc(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("cc is needed")
    source, library = Path(__file__).with_name("faulty_libc.c"), home / "faulty_libc.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    (home / "faults").write_bytes(bytes(16))
    monkeypatch.setenv("FAULTY_LIBC", str(home / "faults"))
    monkeypatch.setenv("LD_PRELOAD", str(library))


# --- What can befall them -------------------------------------------------------------------------


def send(number: int, *whom: str) -> Callable[[World], None]:
    """A signal that ends some of them, or makes them stand still for a while."""

    def fault(world: World) -> None:
        victims = [getattr(world, name)() for name in whom]
        before = world.state()
        for victim in victims:
            processes.send_signal(victim, number)
        if number == signal.SIGSTOP:
            _outlive_a_standstill(world, before, dict(zip(whom, victims, strict=True)))
            return
        if "daemon" in whom:
            world.daemons[-1].wait()
            world.start_daemon()
        if set(whom) == {"trainer", "supervisor"}:
            gone = r'^maxrl_job_state{.*state="supervisor_gone".*} 1\.0$'
            wait_until(lambda: world.sees(gone), SECONDS, "nobody's run in the metrics")
            supervisor.spawn(world.run)
        if "trainer" in whom:
            wait_until(lambda: world.is_counted(before), SECONDS, "one restart")
            exits = world.state().exits
            assert exits[-1].attempt == before.attempt
        if "supervisor" in whom:
            wait_until(lambda: world.state().supervisor != before.supervisor, 60, "another")

    fault.__name__ = f"{signal.Signals(number).name} of {' and '.join(whom)}"
    return fault


def _outlive_a_standstill(
    world: World, before: SupervisorState, victims: dict[str, ProcessIdentity]
) -> None:
    if "trainer" in victims and "supervisor" not in victims:
        wait_until(lambda: world.state().stalls == before.stalls + 1, SECONDS, "a stall")
        wait_until(lambda: world.is_counted(before), SECONDS, "one restart")
        assert "stalled" in world.state().exits[-1].reason
    elif "trainer" not in victims:
        # What they do not do, nobody has lost.
        reached = saved(world.run)
        wait_until(lambda: saved(world.run) > reached, SECONDS, "training goes on")
    for victim in victims.values():
        processes.send_signal(victim, signal.SIGCONT)


def the_log_cannot_be_written(world: World) -> None:
    before, trainer = world.state(), world.trainer()
    world.let(log=True)
    wait_until(lambda: not processes.is_alive(trainer), SECONDS, "its end")
    world.let(log=False)
    wait_until(lambda: world.state().restarts > before.restarts, SECONDS, "one restart")
    told = [exit_.reason for exit_ in world.state().exits if exit_.attempt >= before.attempt]
    assert told
    assert set(told) == {"its log could not be written (exit code 74)"}


def jump(seconds: int) -> Callable[[World], None]:
    """A wall clock that is suddenly wrong: nobody's lifetime hangs on it."""

    def fault(world: World) -> None:
        before = world.state()
        world.let(clock=seconds)
        reached = saved(world.run)
        wait_until(lambda: saved(world.run) > reached + 5, SECONDS, "training goes on")
        tick = r"^maxrl_ops_last_tick_timestamp_seconds (\S+)$"
        found = wait_until(lambda: re.search(tick, world.get(), re.M), SECONDS, "a tick")
        assert abs(float(found[1]) - time.time() - seconds) < SECONDS
        told = world.status()
        assert (told["state"], told["age_seconds"] < SECONDS) == ("running", True)
        world.let()
        after = world.state()
        assert (after.attempt, after.restarts) == (before.attempt, before.restarts)

    fault.__name__ = f"the clock jumps by {seconds} s"
    return fault


def a_control_is_half_written(world: World) -> None:
    revision = len(list(world.run.control.iterdir())) + 1
    (world.run.control / f"{revision:06d}.json").write_text('{"revision": 1, "obj')
    told = f"\nControl {revision} rejected: unreadable"
    wait_until(lambda: told in world.run.log.read_text(), SECONDS, "the rejection")
    said = rf"^maxrl_job_acknowledged_revision{{.*}} {revision}\.0$"
    wait_until(lambda: world.sees(said), SECONDS, "the answer in the metrics")


def the_history_is_locked(world: World) -> None:
    with closing(sqlite3.connect(world.home.history, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reached = saved(world.run)
        wait_until(lambda: saved(world.run) > reached + 5, SECONDS, "training goes on")
        unread = r"^maxrl_ops_runs_unread 1\.0$"
        wait_until(lambda: world.sees(unread), SECONDS, "in the metrics that it is not read")
        wait_until(lambda: world.told()["daemon"]["unread"], SECONDS, "in status, too")
        assert "history.db: database is locked" in world.told()["daemon"]["unread"]
        other.execute("ROLLBACK")
    wait_until(lambda: world.sees(unread.replace("1", "0", 1)), SECONDS, "that it is read again")
    wait_until(lambda: world.told()["daemon"]["unread"] is None, SECONDS, "the same in status")


def the_history_is_damaged(world: World) -> None:
    processes.send_signal(world.daemon(), signal.SIGKILL)
    world.daemons[-1].wait()
    for name in ("history.db-wal", "history.db-shm"):
        (world.home.path / name).unlink(missing_ok=True)
    with world.home.history.open("r+b") as file:
        file.write(b"not a database at all")
    world.start_daemon()
    assert world.daemons[-1].wait(timeout=SECONDS) == 2
    assert "history.db" in world.words.splitlines()[-1]
    # What it says a person is to do.
    world.home.history.rename(world.home.path / "damaged.db")
    world.start_daemon()


def many_ask_for_metrics(world: World) -> None:
    # Not the first moment of a daemon.
    wait_until(lambda: world.sees("^maxrl_job_state"), SECONDS, "metrics")
    with ThreadPoolExecutor(CLIENTS) as pool:
        texts = list(pool.map(lambda _: world.get(), range(CLIENTS)))
    assert all('run="one"' in text for text in texts)
    assert world.get("/healthz")


PAIRS = (
    ("trainer",),
    ("supervisor",),
    ("daemon",),
    ("trainer", "supervisor"),
    ("trainer", "daemon"),
    ("supervisor", "daemon"),
)
# The most telling first: these are what every run of the suite goes through.
FAULTS: tuple[Callable[[World], None], ...] = (
    send(signal.SIGKILL, "trainer", "supervisor"),
    the_log_cannot_be_written,
    a_control_is_half_written,
    many_ask_for_metrics,
    the_history_is_damaged,
    the_history_is_locked,
    jump(86_400),
    jump(-86_400),
    *(send(signal.SIGKILL, *whom) for whom in PAIRS if whom != ("trainer", "supervisor")),
    *(send(signal.SIGSEGV, *whom) for whom in PAIRS),
    *(send(signal.SIGSTOP, *whom) for whom in PAIRS),
)


def test_nothing_is_lost_whatever_befalls_whom(world: World) -> None:
    wait_until(lambda: saved(world.run) > 0, SECONDS, "the first checkpoint")
    for fault in FAULTS[:SHARE]:
        print(fault.__name__, flush=True)
        fault(world)
        world.trains_on()
    assert_nothing_is_lost(world)


def assert_nothing_is_lost(world: World) -> None:
    """Stopped, it has each iteration once: in the log as folded, and in the history."""
    processes.send_signal(world.supervisor(), signal.SIGTERM)
    wait_until(lambda: world.state().state == "stopped", SECONDS, "the stop")
    reader = LogReader(world.run)
    reader.read()
    reader.close()
    told = [row.iteration for row in reader.history.iterations]
    everything = list(range(1, saved(world.run) + 1))
    # Of a long run a reader keeps the newest.
    assert told == everything[-len(told) :]
    assert len(told) >= min(len(everything), reader.history.most_kept)
    assert "Traceback" not in world.words

    def stored() -> list[int]:
        with closing(sqlite3.connect(f"file:{world.home.history}?mode=ro", uri=True)) as db:
            rows = db.execute(
                "SELECT iteration FROM iterations WHERE run = 'one' AND NOT superseded ORDER BY 1"
            )
            return [row[0] for row in rows]

    wait_until(lambda: stored() == everything, SECONDS, "the history tells the same")
    wait_until(lambda: world.sees(r'^maxrl_job_state{.*state="stopped".*} 1\.0$'), 60, "its end")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A home on a small disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root mounts a small disk")
    try:
        yield from _world(disk / "home", monkeypatch)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(len(FAULTS) > SHARE, reason="a part of make torture")
def test_a_full_disk(small: World) -> None:
    wait_until(lambda: saved(small.run) > 0, SECONDS, "the first checkpoint")
    filler, before = small.home.path / "filler", small.state()
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
            file.flush()
    # It may be that not even state.json can tell: the process does.
    trainer = before.trainer
    assert trainer is not None
    pid = trainer.pid
    wait_until(lambda: processes.identity_of(pid, even_zombie=True) is None, SECONDS, "the crash")
    filler.unlink()
    small.trains_on()
    assert small.state().restarts > before.restarts
    reasons = [exit_.reason for exit_ in small.state().exits]
    assert any("disk is full" in reason or "No space" in reason for reason in reasons), reasons
    assert_nothing_is_lost(small)


_SET_FLAGS, _GET_FLAGS, _IMMUTABLE = 0x40086602, 0x80086601, 0x10


def let_be_read_only(paths: list[Path], *, on: bool) -> None:
    """Nothing is made, removed or renamed in these directories, not even by root."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
            flags = flags | _IMMUTABLE if on else flags & ~_IMMUTABLE
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags))
        finally:
            os.close(descriptor)


@pytest.mark.skipif(len(FAULTS) > SHARE, reason="a part of make torture")
def test_a_read_only_home(small: World) -> None:
    """The trainer cannot go on; its supervisor waits, however long, and is no crash loop's."""
    small.trains_on()
    before, trainer = small.state(), small.trainer()
    directories = [small.home.path, small.run.path, small.run.checkpoints, small.run.control]
    try:
        let_be_read_only(directories, on=True)
    except OSError as error:
        pytest.skip(f"no directory can be made immutable here: {error}")
    try:
        wait_until(lambda: not processes.is_alive(trainer), SECONDS, "the trainer's end")
        told = small.status()
        assert (told["state"], told["trainer_alive"]) == ("running", False)
        assert told["refusal"] == f"{small.run.path} may not be written"
        assert "state.json cannot be written" in told["sentence"]
        refused = "state.json cannot be written, trying again"
        wait_until(lambda: refused in small.run.supervisor_log.read_text(), SECONDS, "its words")
    finally:
        let_be_read_only(directories, on=False)
    small.trains_on()
    assert (small.state().restarts, small.state().attempt) == (
        before.restarts + 1, before.attempt + 1,
    )  # fmt: skip
    assert_nothing_is_lost(small)


def memory(world: World) -> int:
    """The daemon's, in MiB."""
    told = (Path("/proc") / str(world.daemon().pid) / "status").read_text()
    return int(told.partition("VmRSS:")[2].split()[0]) // 1024


def test_many_run_directories(world: World) -> None:
    """Old runs by the thousand cost a daemon that starts neither its metrics nor a living run."""
    wait_until(lambda: saved(world.run) > 0, SECONDS, "the first checkpoint")
    processes.send_signal(world.daemon(), signal.SIGTERM)
    world.daemons[-1].wait(timeout=SECONDS)
    log = world.run.log.read_bytes()[:20_000]
    spec = asdict(RunSpec("", "old", {}, (), "2026-11-20T12:00:00Z"))
    state = asdict(SupervisorState("finished", "2026-11-20T13:00:00Z", attempt=1))
    for number in range(DIRECTORIES):
        old = world.home.run(f"old-{number}")
        old.control.mkdir(parents=True)
        # Not saved one by one: a disk takes minutes for so many that are to outlive a power cut.
        old.spec.write_text(json.dumps(spec | {"name": old.name}))
        old.state.write_text(json.dumps(state))
        old.log.write_bytes(log)
        for path in (old.spec, old.state, old.log):
            os.utime(path, (time.time() - 200_000,) * 2)
    began = time.monotonic()
    world.start_daemon()
    wait_until(lambda: world.sees(r'^maxrl_job_state{.*run="one".*} 1\.0$'), 300, "the living run")
    print(f"{DIRECTORIES} directories: {time.monotonic() - began:.1f} s")
    total = rf"^maxrl_ops_runs{{state=\"finished\"}} {DIRECTORIES}\.0$"
    wait_until(lambda: world.sees(total), 300, "every old run in the metrics")
    print(f"every old run: {time.monotonic() - began:.1f} s, the daemon has {memory(world)} MiB")
    assert memory(world) < 64 + DIRECTORIES // 50
    began, before = time.monotonic(), os.times()
    words = [sys.executable, "-m", "maxrl_ops", "status", "--json"]
    env = {**os.environ, "MAXRL_OPS_HOME": str(world.home.path)}
    done = subprocess.run(words, env=env, capture_output=True, timeout=300, check=True)
    assert len(json.loads(done.stdout)["runs"]) == DIRECTORIES + 1
    took = os.times().children_user - before.children_user
    took += os.times().children_system - before.children_system
    print(f"status of all of them: {took:.1f} s of CPU, {time.monotonic() - began:.1f} s")
    world.trains_on()
    assert_nothing_is_lost(world)
