"""`python -m benchmarks.rescue`: of runs made sick on purpose, how many end healthy?

Each run is a line in WORK/results.jsonl once it is over; called again, the benchmark goes on with
those that are missing. At the end `benchmarks/results/rescue.json` and `docs/rescue.md` are
written anew from all lines that stand there.
"""

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.rescue.document import document
from benchmarks.rescue.kinds import ARMS, HEALTHY, KINDS, SICK
from benchmarks.rescue.one_run import INTERRUPTED, Order, make
from benchmarks.rescue.outcome import Outcomes
from benchmarks.rescue.story import chart

_RESULTS = Path(__file__).parents[1] / "results" / "rescue.json"
_PAGE = Path(__file__).parents[2] / "docs" / "rescue.md"
_SEEDS = (0, 1, 2)
_SAID = (
    "pass_at_1",
    "ending",
    "detected",
    "actions",
    "by_hand",
    "restarts",
    "cpu_seconds",
    "skipped",
)


class Rows:
    """What is known of each run, kept as it ends."""

    def __init__(self, work: Path, again: str | None) -> None:
        self._again = again
        work.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = work / "results.jsonl", threading.Lock()
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        rows = [json.loads(line) for line in lines]
        self._made = 0
        self.rows = {f"{r['kind']}/{r['seed']}/{r['arm']}": r for r in rows}

    def lacks(self, order: Order, *, is_named: bool) -> bool:
        """Whether the run is to be made; `is_named`: by who called, not as a twin of others."""
        known = self.rows.get(order.key)
        if known is None or self._again is None or not is_named:
            return known is None
        return known.get("again") != self._again

    def keep(self, order: Order, row: dict[str, Any], left: int) -> None:
        """Append it, and say so; `left` were missing when the benchmark was called."""
        if (known := self.rows.get(order.key)) is not None:
            before = {key: known.get(key) for key in _SAID}
            row = {**row, "again": self._again, "before": before}
        with self._lock, self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            self.rows[order.key] = row
            self._made += 1
            said = {key: row.get(key) for key in _SAID}
            sys.stdout.write(f"{self._made}/{left} {order.key} {json.dumps(said)}\n")
            sys.stdout.flush()

    def publish(self) -> None:
        """Write results, document and chart anew."""
        rows = sorted(self.rows.values(), key=_place)
        results = {"machine": machine.describe(), "rows": rows}
        lines = ",\n".join(json.dumps(row) for row in rows)
        told = json.dumps(results["machine"])
        _RESULTS.write_text(f'{{"machine": {told}, "rows": [\n{lines}\n]}}\n')
        _PAGE.write_text(document(results))
        if drawn := chart(Outcomes(rows)):
            _PAGE.with_suffix(".svg").write_text(drawn)


def _place(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """In the order of the tables, whichever ended first."""
    return list(KINDS).index(row["kind"]), row["seed"], ARMS.index(row["arm"])


def orders(kinds: list[str], seeds: list[int], arms: list[str]) -> Iterator[Order]:
    """All runs: of each seed first the healthy twins, by which the others are judged."""
    for seed in seeds:
        twins = {KINDS[kind].twin or kind for kind in kinds}
        wanted = [kind for kind in HEALTHY if kind in twins]
        yield from (Order(kind, seed, "observe") for kind in wanted)
        for kind in kinds:
            for arm in arms:
                if not (kind in twins and arm == "observe"):
                    yield Order(kind, seed, arm)


def main() -> None:
    """Make the runs that are missing, then the results and the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--kinds", nargs="+", default=[*SICK, *HEALTHY], choices=list(KINDS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--at-once", type=int, default=2, help="so many runs side by side")
    parser.add_argument("--work", type=Path, default=Path("rescue-work"), help="a directory")
    parser.add_argument("--keep", type=Path, help="a directory for copies of the runs")
    parser.add_argument("--begin-within", type=float, default=math.inf, help="seconds")
    parser.add_argument("--publish", action="store_true", help="write results and document anew")
    parser.add_argument("--again", metavar="WHY", help="make them once more, and tell why")
    given = parser.parse_args()
    # More threads than cores would wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = given.seeds or (list(_SEEDS[:1]) if given.quick else list(_SEEDS))
    wanted = list(orders(given.kinds, seeds, given.arms))
    rows, begun = Rows(given.work, given.again), time.monotonic()
    missing = [
        order
        for order in wanted
        if rows.lacks(order, is_named=order.kind in given.kinds and order.arm in given.arms)
    ]

    def train(order: Order) -> None:
        if time.monotonic() - begun < given.begin_within and not INTERRUPTED.is_set():
            try:
                rows.keep(order, make(order, given.keep), len(missing))
            except SystemExit as error:
                # Its line is missing: the next call tries again.
                sys.stderr.write(f"{order.key}: {error}\n")
            except InterruptedError:
                return

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: INTERRUPTED.set())

    with ThreadPoolExecutor(given.at_once) as pool:
        list(pool.map(train, missing))
    if given.publish:
        rows.publish()
    sys.exit(any(order.key not in rows.rows for order in wanted))


if __name__ == "__main__":
    main()
