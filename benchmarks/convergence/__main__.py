"""`python -m benchmarks.convergence`: the study, from the learning rates to docs/convergence.md.

What a run told is kept in the work directory as it ends: started again, the study goes on. After a
SIGTERM it waits for what runs. Tasks and arms, and how long they train, stand in plan.py.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

from benchmarks import machine
from benchmarks.convergence import page, plan, study
from benchmarks.convergence.plan import Job
from benchmarks.convergence.running import RunFailedError, run

_ROOT = Path(__file__).parent.parent.parent
_RESULTS = _ROOT / "benchmarks" / "results" / "convergence.json"
_DOCS = _ROOT / "docs"


class Kept:
    """The runs there are: a line of JSON each in the work directory's runs.jsonl."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "runs.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        self._lock = Lock()
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # Cut off when it was written.
            # The first counts, where two did the same at once.
            self.rows.setdefault(row["key"], row)

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Keep a run's row for good."""
        with self._lock, self._path.open("a") as file:
            # On a line of its own, even behind one that was cut off.
            file.write("\n" + json.dumps({"key": key, **row}) + "\n")
            file.flush()
            os.fsync(file.fileno())
            self.rows.setdefault(key, row)


def main() -> int:
    """Run what is missing, and write the results."""
    given = _given()
    # More threads than cores would wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    kept = Kept(given.work)
    is_to_end = Event()
    signal.signal(signal.SIGTERM, lambda *_: is_to_end.set())
    tasks = [*given.tasks, *(["rust"] if given.rust else [])]
    rated = list(plan.grid(tasks, given.arms, is_quick=given.quick))
    most = 0 if given.write_only else given.most
    run_some = partial(_run, kept=kept, at_once=given.at_once, is_to_end=is_to_end)
    most -= run_some(rated, "learning rates", most)
    # A rate is chosen once all have been tried.
    untried = {(job.task, job.arm) for job in rated if job.key not in kept.rows}
    rows = [kept.rows[job.key] for job in rated if (job.task, job.arm) not in untried]
    jobs = list(plan.held_out(study.chosen(rows), is_quick=given.quick))
    run_some(jobs, "held-out seeds", most)
    _write(rated, jobs, kept, is_quick=given.quick)
    missing = sum(job.key not in kept.rows for job in [*rated, *jobs])
    if missing:
        print(f"{missing} runs are missing: run it again", file=sys.stderr)
    return 1 if missing else 0


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=_ROOT / "build" / "convergence")
    parser.add_argument("--at-once", type=int, default=1, help="so many runs side by side")
    parser.add_argument("--quick", action="store_true", help="minutes: to see that it works")
    parser.add_argument("--rust", action="store_true", help="the task rust too: hours")
    parser.add_argument("--tasks", nargs="+", choices=["rules", "maze"], default=["rules", "maze"])
    parser.add_argument("--arms", nargs="+", choices=list(plan.ARMS), default=list(plan.ARMS))
    parser.add_argument("--most", type=int, default=sys.maxsize, help="end after so many runs")
    parser.add_argument("--write-only", action="store_true", help="of the runs that there are")
    return parser.parse_args()


def _run(
    jobs: Sequence[Job], what: str, most: int, *, kept: Kept, at_once: int, is_to_end: Event
) -> int:
    """Run what is missing of `jobs`, at most so many; how many were begun."""
    missing = [job for job in jobs if job.key not in kept.rows]
    done, began = len(jobs) - len(missing), time.monotonic()
    lock = Lock()
    _say(f"{what}: {done} of {len(jobs)} there")

    def train(job: Job) -> None:
        nonlocal done
        if is_to_end.is_set():
            return
        since = time.monotonic()
        try:
            row = run(job)
        except RunFailedError as error:
            _say(f"{job.key} failed: {error}")
            return
        kept.add(job.key, row)
        with lock:
            done += 1
            made = done - (len(jobs) - len(missing))
            left = (time.monotonic() - began) / made * (len(jobs) - done)
        last = row["evaluations"][-1]["pass_at"]["1"]
        _say(
            f"{what} {done}/{len(jobs)}  {job.key}  pass@1 {last:.1%}  {row['cpu']:.0f} CPU s, "
            f"{time.monotonic() - since:.0f} s; {left / 60:.0f} min left"
        )

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(train, missing[:most]))
    return len(missing[:most])


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _write(rated: Sequence[Job], jobs: Sequence[Job], kept: Kept, *, is_quick: bool) -> None:
    there = {job for job in [*rated, *jobs] if job.key in kept.rows}
    # Of a task whose rates are not chosen yet, every held-out run is missing, too.
    asked = {job.task: plan.count(job.task, is_quick=is_quick) for job in rated}
    results = {
        "machine": machine.describe(),
        "missing": {
            task: count - sum(job.task == task for job in there) for task, count in asked.items()
        },
        "development": [kept.rows[job.key] for job in rated if job.key in kept.rows],
        "held_out": [kept.rows[job.key] for job in jobs if job.key in kept.rows],
    }
    if not results["held_out"]:
        return
    if is_quick:
        print(page.document(results))
        return
    _RESULTS.write_text(_line_by_line(results))
    (_DOCS / "convergence").mkdir(exist_ok=True)
    (_DOCS / "convergence.md").write_text(page.document(results))
    for name, text in page.figures(results).items():
        (_DOCS / "convergence" / f"{name}.svg").write_text(text)
    _say(f"wrote {_DOCS / 'convergence.md'}")


def _line_by_line(results: Mapping[str, Any]) -> str:
    """As JSON, a run a line."""
    parts = []
    for key, value in results.items():
        told = json.dumps(value)
        if isinstance(value, list):
            told = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        parts.append(f"{json.dumps(key)}: {told}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
