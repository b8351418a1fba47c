"""`python -m benchmarks.supervision --peer-python PY`: crashes, stalls, stops; beside supervisord.

The same shell scripts under our supervisor and under supervisord (PyPI's `supervisor`), in
alternating rounds. Times are CLOCK_REALTIME of one machine: a child writes when it begins. Where
ours has a pause before a restart, it is set to 0; supervisord has none after a process that lived
(`startsecs=0`), and one of N seconds after the Nth failure of one that did not.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from maxrl_ops.core.run_state import CRASH_LOOP_FAILURES
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.rundir import DocumentError, RunDir

_ROUNDS = 20
_LOOPS = 100
# As many at a time as keep the cores busy, and no more.
_SIDE_BY_SIDE = 4
_STALL_SECONDS = 2.0
_GRACE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0

_BEGIN = 'date +%s.%N >> "$OUT/starts"; echo $$ > "$OUT/pid.new"; mv "$OUT/pid.new" "$OUT/pid"\n'
_LIVES = _BEGIN + "exec sleep 600\n"
_CRASHES = _BEGIN + "exit 1\n"
# A child in the group, a grandchild out of it, and nobody who heeds TERM.
_CLINGS = (
    "trap '' TERM\n"
    'sleep 601 & echo $! >> "$OUT/left"\n'
    "(setsid sh -c 'echo $$ >> \"$OUT/left\"; exec sleep 602' &)\n"
    + _BEGIN
    + "while :; do sleep 603; done\n"
)
_STALLS = {
    "SIGSTOP": "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)",
    "a sleeping reward": "time.sleep(600)",
    "a deadlock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
}
# A trainer that beats as ours does: slow to begin, three iterations, then it stands still.
_BEATS = """
import faulthandler, os, signal, threading, time
from pathlib import Path
run = Path(os.environ["MAXRL_RUN_DIR"])
faulthandler.register(signal.SIGUSR1, (run / "stacks.log").open("a"))
def beat(phase, iteration):
    (run / "aside").write_text('{"phase": "%s", "iteration": %d, "since": "2026-11-25T12:00:00Z"}'
                               % (phase, iteration))
    (run / "aside").replace(run / "heartbeat.json")
if os.environ["MAXRL_OPS_ATTEMPT"] == "1":
    beat("load", 0)
    time.sleep(2 * THRESHOLD)
    for iteration in (1, 2, 3):
        beat("sample", iteration)
        # Longer than the supervisor's tick: it goes by a whole iteration that it has seen.
        time.sleep(0.3)
    beat("verify", 3)
    (run / "still").write_text(repr(time.time()))
    STALL
"""


@dataclass(frozen=True)
class Supervised:
    """A script under some supervisor: what it left in `out`, and the process to tell."""

    out: Path
    supervisor: "subprocess.Popen[bytes]"
    run: RunDir | None = None

    def starts(self) -> list[float]:
        """When the script began, each time."""
        with suppress(FileNotFoundError):
            return [float(line) for line in (self.out / "starts").read_text().splitlines()]
        return []

    def pid(self) -> int:
        """Of the newest."""
        return int((self.out / "pid").read_text())


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.002)


@contextmanager
def _ended(started: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        started.terminate()
        started.wait()


@contextmanager
def _ours(script: str, *, is_command: bool = True, **env: str) -> Iterator[Supervised]:
    with tempfile.TemporaryDirectory() as name:
        run = RunDir(Path(name) / "runs" / "one")
        run.control.mkdir(parents=True)
        (run.path / "script").write_text(script)
        words = ("/bin/sh", str(run.path / "script")) if is_command else ()
        RunSpec("one", "bench", {}, words, "2026-11-25T12:00:00Z").save(run)
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", "maxrl_ops.supervisor", str(run.path)],
            env={
                **os.environ,
                "OUT": str(run.path),
                "MAXRL_OPS_BACKOFF_SCALE": "0",
                "MAXRL_OPS_STOP_GRACE_SECONDS": str(_GRACE_SECONDS),
                **env,
            },
            stderr=subprocess.DEVNULL,
        )
        with _ended(started):
            yield Supervised(run.path, started, run)


@contextmanager
def _theirs(peer: str, script: str, startsecs: int = 0) -> Iterator[Supervised]:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        (out / "script").write_text(script)
        (out / "conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={out}/log\npidfile={out}/supervisord.pid\n"
            f"[program:one]\ncommand=/bin/sh {out}/script\nautorestart=true\n"
            f"startsecs={startsecs}\nstartretries={CRASH_LOOP_FAILURES - 1}\n"
            f"stopwaitsecs={_GRACE_SECONDS:.0f}\nkillasgroup=true\nstopasgroup=true\n"
        )
        # Root is only warned of, and a log on stdout wanted by nobody.
        started = subprocess.Popen(
            [str(Path(peer).parent / "supervisord"), "-c", str(out / "conf")],
            env={**os.environ, "OUT": str(out)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with _ended(started):
            yield Supervised(out, started)


def _respawn(one: Supervised) -> float:
    """Seconds from a kill -9 to the next one's first command."""
    _wait((one.out / "pid").exists, "the first start")
    # It has lived: not the first second of anything is measured.
    time.sleep(0.3)
    before, pid = len(one.starts()), one.pid()
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    _wait(lambda: len(one.starts()) > before, "the next start")
    return one.starts()[-1] - killed


def _stopped(one: Supervised) -> tuple[float, int]:
    """Seconds beyond the grace until the supervisor has ended, and how many processes are left."""
    _wait((one.out / "pid").exists, "the start")
    _wait(lambda: len((one.out / "left").read_text().split()) == 2, "its children")
    began = time.monotonic()
    one.supervisor.terminate()
    one.supervisor.wait()
    took = time.monotonic() - began
    left = [int(pid) for pid in (one.out / "left").read_text().split()]
    # The kernel needs a moment to bury them.
    time.sleep(0.05)
    alive = [pid for pid in left if _lives(pid)]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return took - _GRACE_SECONDS, len(alive)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat[stat.rindex(")") + 2] not in "ZX"
    return False


def _state(run: RunDir | None) -> SupervisorState | None:
    with suppress(FileNotFoundError, DocumentError):
        return None if run is None else SupervisorState.load(run)
    return None


def _loops() -> int:
    """Of _LOOPS runs that crash at once, how many end in `failed` after exactly N starts."""
    exact = 0
    for start in range(0, _LOOPS, _SIDE_BY_SIDE):
        with _several(min(_SIDE_BY_SIDE, _LOOPS - start)) as runs:
            for one in runs:
                one.supervisor.wait()
                state = _state(one.run)
                starts = len(one.starts())
                exact += (
                    state is not None and state.state == "failed" and starts == CRASH_LOOP_FAILURES
                )
    return exact


@contextmanager
def _several(count: int) -> Iterator[list[Supervised]]:
    contexts = [_ours(_CRASHES) for _ in range(count)]
    try:
        yield [context.__enter__() for context in contexts]
    finally:
        for context in contexts:
            context.__exit__(None, None, None)


def _their_loop(peer: str) -> str:
    with _theirs(peer, _CRASHES, startsecs=1) as one:
        log = one.out / "log"
        began = time.monotonic()
        _wait(lambda: log.exists() and "FATAL" in log.read_text(), "FATAL")
        return f"FATAL after {len(one.starts())} starts, {time.monotonic() - began:.0f} s"


def _stall(how: str) -> tuple[float, bool, bool]:
    """Seconds beyond the threshold until it was flagged; whether before that; whether recovered."""
    script = _BEATS.replace("THRESHOLD", repr(_STALL_SECONDS)).replace("STALL", how)
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "trainer"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(script)
        env = {
            "PYTHONPATH": name,
            "MAXRL_OPS_STALL_SECONDS": str(_STALL_SECONDS),
            "MAXRL_OPS_STALL_FACTOR": "5",
            "MAXRL_OPS_STALL_GRACE_SECONDS": "0.5",
        }
        with _ours("", is_command=False, **env) as one:
            flagged = 0.0

            def is_flagged() -> bool:
                state = _state(one.run)
                return state is not None and (state.state == "stalled" or state.stalls > 0)

            def is_still() -> bool:
                nonlocal flagged
                flagged = flagged or time.time() * is_flagged()
                return (one.out / "still").exists()

            _wait(is_still, "the standstill")
            is_early = flagged > 0
            _wait(is_flagged, "the flag")
            late = time.time() - float((one.out / "still").read_text()) - _STALL_SECONDS
            one.supervisor.wait()
            state = _state(one.run)
            recovered = state is not None and (state.state, state.attempt) == ("finished", 2)
            return late, is_early, recovered


def _milliseconds(values: list[float]) -> str:
    middle, worst = statistics.median(values), max(values)
    return f"median {middle * 1e3:.0f} ms, worst {worst * 1e3:.0f} ms"


def _measured(peer: str) -> list[str]:
    respawns: tuple[list[float], list[float]] = [], []
    stops: tuple[list[tuple[float, int]], list[tuple[float, int]]] = [], []
    for _ in range(_ROUNDS):
        with _ours(_LIVES) as one:
            respawns[0].append(_respawn(one))
        with _theirs(peer, _LIVES) as one:
            respawns[1].append(_respawn(one))
    for _ in range(_ROUNDS // 4):
        with _ours(_CLINGS) as one:
            stops[0].append(_stopped(one))
        with _theirs(peer, _CLINGS) as one:
            stops[1].append(_stopped(one))
    left = [max(count for _, count in found) for found in stops]
    late = [_milliseconds([seconds for seconds, _ in found]) for found in stops]
    told = [_milliseconds(found) for found in respawns]
    rows = [
        _row(f"kill -9 to the next start, {_ROUNDS} times", *told),
        _row(f"a stop, beyond its grace of {_GRACE_SECONDS:g} s, {len(stops[0])} times", *late),
        _row("processes left after it, of 2, one daemonised", *map(str, left)),
        _row(
            f"a crash loop ends after exactly {CRASH_LOOP_FAILURES} starts",
            f"{_loops()} of {_LOOPS} runs",
            _their_loop(peer),
        ),
    ]
    for name, how in _STALLS.items():
        after, is_early, recovered = _stall(how)
        told_of = f"flagged {after * 1e3:.0f} ms after it, "
        told_of += "recovered" if recovered else "NOT recovered"
        told_of += f"; {2 * _STALL_SECONDS:g} s of loading " + ("TOO" if is_early else "were none")
        rows.append(_row(f"a stall of {_STALL_SECONDS:g} s: {name}", told_of, "never flagged"))
    return rows


def _row(what: str, ours: str, theirs: str) -> str:
    return f"| {what} | {ours} | {theirs} |"


def main() -> None:
    """Measure, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="of an environment with supervisor")
    peer = str(Path(parser.parse_args().peer_python).absolute())
    version = subprocess.run(
        [str(Path(peer).parent / "supervisord"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    text = "\n".join(
        [
            "# Supervision",
            "",
            f"{machine.describe((f'supervisord {version}',))}; one run, alternating",
            "",
            "| | ours | supervisord |",
            "|---|---|---|",
            *_measured(peer),
            "",
        ]
    )
    (Path(__file__).parent / "results" / "supervision.md").write_text(text)
    print(text)


if __name__ == "__main__":
    if shutil.which("setsid") is None:
        raise SystemExit("setsid is needed")
    main()
