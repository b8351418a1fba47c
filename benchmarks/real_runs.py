"""`python -m benchmarks.real_runs`: real trainings that go wrong, under the real autopilot.

Each run is started by the installed command, in a home of its own, and judged by what its journal
and its log tell once it is over. A run takes up to four minutes on two cores; what one told is kept
in results/real_runs.json, so that some can be run anew (`--only`, `--seeds`), and the table tells
all of them.
"""

import argparse
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from maxrl_ops.core.rules import ALERTS
from maxrl_ops.wire.logformat import Parser
from maxrl_ops.wire.record import Evaluated, Event, IterationRecord

_RESULTS = Path(__file__).parent / "results"
_KEPT = _RESULTS / "real_runs.json"
_SECONDS = 600
_POLL_SECONDS = 0.5
_CAUGHT = ("NONFINITE", "COLLAPSE", "UNSTABLE", "NO LEARNING")
_ENDED = {"finished", "failed", "stopped"}
_ARITHMETIC = ("--task", "arithmetic")
# Thirty times the task's own.
_TOO_HIGH = "0.006"
_RAISED_AT = 60


@dataclass(frozen=True)
class Told:
    """What a run's log, journal and alerts tell.

    Attributes:
        decisions: As `decisions --json` prints them.
        alerts: (iteration, rule) of what rules told, in order.
    """

    events: list[Event]
    decisions: list[dict[str, Any]]
    alerts: list[tuple[int, str]]

    def evaluations(self) -> list[Evaluated]:
        """Each iteration's last one, in order."""
        found = {e.iteration: e for e in self.events if isinstance(e, Evaluated)}
        return [found[n] for n in sorted(found)]

    def caught(self) -> tuple[int, str] | None:
        """The first of the rules that tell of harm, and when: a restart counts anew behind it."""
        decided = ((d["iteration"], d["rule"]) for d in self.decisions if d["rule"] in _CAUGHT)
        told = (each for each in self.alerts if each[1] in _CAUGHT)
        firsts = (next(decided, None), next(told, None))
        return min((each for each in firsts if each is not None), default=None)


@dataclass(frozen=True)
class Job:
    """A run that goes wrong.

    Attributes:
        title: As the table says it.
        flags: Of `start`.
        bar: What is asked of it.
        verdict: Whether it was met.
        raised_at: The iteration at which somebody sets the learning rate too high.
    """

    title: str
    flags: tuple[str, ...]
    bar: str
    verdict: Callable[[Told], bool]
    raised_at: int | None = None


def _is_rescued(told: Told) -> bool:
    """A rule lowered the threshold, and held-out pass@1 rose clearly."""
    lowered = [
        d
        for d in told.decisions
        if d["outcome"] == "applied" and d["control"].get("correctness_threshold", 30) < 30
    ]
    return bool(lowered) and _rise(told) > 2


def _is_brought_back(told: Told) -> bool:
    """It was caught, went back to a checkpoint, and ended no worse than it began."""
    restarts = [d for d in told.decisions if "restart_from" in d["control"]]
    is_back = any(d["outcome"] == "applied" for d in restarts)
    return told.caught() is not None and is_back and _rise(told) > -2


def _is_flagged(told: Told) -> bool:
    return any(rule == "REWARD HACKING" for _, rule in told.alerts)


def _hands_over(told: Told) -> bool:
    applied = [d for d in told.decisions if d["outcome"] == "applied"]
    return [(d["rule"], d["control"]) for d in applied] == [("ADAPT", {"objective": "maxrl"})]


def _is_left_alone(told: Told) -> bool:
    return not told.decisions


def _rise(told: Told) -> float:
    """Held-out pass@1 at the end above that at the start, in standard errors."""
    first, *_, last = told.evaluations()
    return (last.pass_at_k[1] - first.pass_at_k[1]) / (first.se**2 + last.se**2) ** 0.5


JOBS: Mapping[str, Job] = {
    "healthy": Job("healthy", _ARITHMETIC, "left alone", _is_left_alone),
    "threshold": Job(
        "threshold 30",
        (*_ARITHMETIC, "--correctness-threshold", "30", "--iterations", "160"),
        "threshold lowered, pass@1 rises by more than 2 standard errors",
        _is_rescued,
    ),
    "rate": Job(
        f"learning rate {_TOO_HIGH} (x 30) from the start",
        (*_ARITHMETIC, "--learning-rate", _TOO_HIGH, "--iterations", "400"),
        "caught, back from the best checkpoint, pass@1 at the end not below the start's",
        _is_brought_back,
    ),
    "rate_later": Job(
        f"learning rate {_TOO_HIGH} (x 30) from iteration {_RAISED_AT} on",
        (*_ARITHMETIC, "--iterations", "300"),
        "caught, back from the best checkpoint, pass@1 at the end not below the start's",
        _is_brought_back,
        _RAISED_AT,
    ),
    "adaptive": Job(
        "adaptive",
        (*_ARITHMETIC, "--algorithm", "adaptive", "--iterations", "180"),
        "ADAPT hands over from GRPO to MaxRL",
        _hands_over,
    ),
    "hackable": Job(
        "Rust, a reward that is blind to tests",
        ("--use-grpo", "--reward", "guide", "--iterations", "120"),
        "flagged by REWARD HACKING",
        _is_flagged,
    ),
}


# --- Runs -----------------------------------------------------------------------------------------


class Home:
    """A home of its own for one run, driven by the installed command alone."""

    def __init__(self, path: Path, env: Mapping[str, str] | None = None) -> None:
        """A home at `path`; `env` comes on top of this process's environment."""
        program = shutil.which("maxrl-ops", path=str(Path(sys.executable).parent))
        if program is None:
            raise SystemExit("maxrl-ops is not installed beside this Python")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAXRL_", "USE_MAXRL"))}
        own = {"MAXRL_OPS_HOME": str(path), "MAXRL_OPS_LISTEN": "127.0.0.1:0"}
        self.path, self.run = path, path / "runs" / "run"
        self._program, self.env = program, {**kept, **own, **(env or {})}

    def ask(self, *words: str) -> str:
        """What the command prints."""
        done = self.try_(*words)
        if done.returncode:
            raise SystemExit(f"maxrl-ops {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def try_(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The command, which may fail."""
        return subprocess.run(
            [self._program, *words], env=self.env, capture_output=True, text=True, check=False
        )

    def log(self) -> str:
        """The run's log."""
        path = self.run / "trainer.log"
        return path.read_text() if path.exists() else ""

    def has_ended(self) -> bool:
        """Whether the run is over."""
        try:
            return json.loads((self.run / "state.json").read_text())["state"] in _ENDED
        except FileNotFoundError:
            return False


@contextmanager
def home() -> Iterator[Home]:
    """A home, and nothing left of it."""
    with tempfile.TemporaryDirectory() as directory:
        found = Home(Path(directory) / "home")
        try:
            yield found
        finally:
            found.ask("stop", "--all")
            found.ask("daemon", "--stop")


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def run(job: Job, seed: int, keep: Path | None) -> Told:
    """One run, from start to end; a copy of it and of its history goes to `keep`."""
    with home() as at:
        at.ask("start", "--name", "run", "--seed", str(seed), *job.flags)
        if job.raised_at is not None:
            _wait(lambda: f"\nIteration {job.raised_at}/" in at.log(), f"iteration {job.raised_at}")
            at.ask("set", f"learning_rate={_TOO_HIGH}", "--run", "run")
        _wait(at.has_ended, "the run's end")
        told = _told(at)
        if keep is not None:
            shutil.copytree(
                at.run, keep / "run", ignore=shutil.ignore_patterns("checkpoints", "*.lock")
            )
            with sqlite3.connect(at.path / "history.db") as db:
                db.execute("VACUUM INTO ?", (str(keep / "history.db"),))
        return told


def _told(at: Home) -> Told:
    events = list(Parser().feed((at.run / "trainer.log").read_bytes()))
    last = max(e.iteration for e in events if isinstance(e, IterationRecord))

    def has_read_all() -> bool:
        [status] = json.loads(at.ask("status", "run", "--json"))["runs"]
        return bool(status["iteration"] == last)

    _wait(has_read_all, "the daemon reads the log to its end")
    decisions = json.loads(at.ask("decisions", "run", "--json"))
    return Told(events, decisions, _alerts(at.path))


def _alerts(path: Path) -> list[tuple[int, str]]:
    """What the journal holds of rules without a remedy."""
    with sqlite3.connect(f"{(path / 'history.db').as_uri()}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT iteration, rule, because FROM holds ORDER BY id").fetchall()
    names = {alert.name for alert in ALERTS}
    return [(n, rule) for n, rule, why in rows if rule in names and not why.endswith("is over")]


# --- Figures --------------------------------------------------------------------------------------


def _row(job: Job, seed: int, told: Told, seconds: float) -> dict[str, Any]:
    first, *_, last = told.evaluations()
    caught = told.caught()
    return {
        "job": job.title,
        "seed": seed,
        "bar": job.bar,
        "caught": None if caught is None else f"{caught[1]} at {caught[0]}",
        "changes": [_change(decision) for decision in told.decisions],
        "alerts": [f"{rule} at {iteration}" for iteration, rule in told.alerts],
        "first": f"{first.pass_at_k[1]:.1%} +- {first.se:.1%}",
        "last": f"{last.pass_at_k[1]:.1%} +- {last.se:.1%}",
        "seconds": round(seconds),
        "holds": job.verdict(told),
    }


def _change(decision: Mapping[str, Any]) -> str:
    what = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in decision["control"].items()
        if key != "lifecycle"
    )
    who = decision["rule"] or "a person"
    judged = f", {decision['judged']}" if decision["judged"] else ""
    return f"{who} at {decision['iteration']}: {what} ({decision['outcome']}{judged})"


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "# The rules on real runs",
        "",
        machine.describe(),
        "",
        "Every run is the installed command's; pass@1 is held out, at the start and at the end.",
        "",
        f"| run | seed | first of {', '.join(_CAUGHT)} | changes | alerts | pass@1 | s | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in JOBS:
        for row in (row for key, row in sorted(rows.items()) if key.rpartition("-")[0] == name):
            cells = (
                row["job"],
                row["seed"],
                row["caught"] or "",
                "; ".join(row["changes"]),
                "; ".join(row["alerts"]),
                f"{row['first']} -> {row['last']}",
                row["seconds"],
                "yes" if row["holds"] else "**no**",
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "The bars:", ""]
    lines += [f"- {job.title}: {job.bar}" for job in JOBS.values()]
    return "\n".join([*lines, ""])


class Results:
    """What runs told, kept as each of them ends."""

    def __init__(self) -> None:
        self.rows = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
        self._lock = threading.Lock()

    def keep(self, key: str, row: Mapping[str, Any]) -> None:
        """Print it, and write the results anew."""
        with self._lock:
            self.rows[key] = row
            sys.stdout.write(json.dumps(row, indent=1) + "\n")
            sys.stdout.flush()
            _KEPT.write_text(json.dumps(self.rows, indent=1, sort_keys=True) + "\n")
            (_RESULTS / "real_runs.md").write_text(_table(self.rows))


def main() -> None:
    """Run, print what each run told, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--missing", action="store_true", help="only runs without a result")
    parser.add_argument("--at-once", type=int, default=1, help="so many runs side by side")
    parser.add_argument("--begin-within", type=float, default=math.inf, help="seconds")
    parser.add_argument("--keep", type=Path, help="a directory for copies of the runs")
    given = parser.parse_args()
    results, begun = Results(), time.monotonic()
    wanted = [(name, seed) for seed in given.seeds for name in given.only]
    if given.missing:
        wanted = [each for each in wanted if "{}-{}".format(*each) not in results.rows]
    if given.at_once > 1:
        # More threads than cores would wait for each other.
        os.environ["OMP_NUM_THREADS"] = "1"

    def train(each: tuple[str, int]) -> None:
        since = time.monotonic()
        if since - begun > given.begin_within:
            return
        name, seed = each
        key = f"{name}-{seed}"
        told = run(JOBS[name], seed, None if given.keep is None else given.keep / key)
        results.keep(key, _row(JOBS[name], seed, told, time.monotonic() - since))

    with ThreadPoolExecutor(given.at_once) as pool:
        list(pool.map(train, wanted))


if __name__ == "__main__":
    main()
