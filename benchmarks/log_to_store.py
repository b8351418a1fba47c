"""`python -m benchmarks.log_to_store`: lines of a log per CPU second, from the file to /metrics.

A daemon with the rules off tails, parses, stores and exports a log that grows at once by all its
lines; so does mtail, which stores nothing, with a program for the guide's block that reads four of
its figures. CPU seconds are those of the whole process while it reads. Rounds alternate.

Then a daemon meets a log of a gigabyte at its first start.
"""

import argparse
import math
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.served import Served, daemon, new_run
from maxrl_ops.settings import Home
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Algorithm, IterationRecord, RunStarted

_ROUNDS = 5
_LINES = 1_000_000
_DIFFERENT = 10_000
_GIGABYTE = 10**9
_READ_SECONDS = 300.0
_PROGRAM = Path(__file__).with_name("guide.mtail")


def guide_block(iteration: int) -> str:
    """Five lines, as the guide shows them."""
    correct = 4 + iteration * 7 % 12
    record = IterationRecord(
        iteration,
        20_000_000,
        n_correct=correct,
        n_total=16,
        correct_reward_mean=20 + iteration * 13 % 100 / 10,
        loss=(iteration * 37 % 900 + 100) / 200,
        verdict="Good - on track",
    )
    return render(record)


def own_block(iteration: int) -> str:
    """All that our trainer tells of an iteration."""
    correct = 4 + iteration * 7 % 12
    shares = (iteration * 17 % 1000) / 1000, (iteration * 29 % 1000) / 1000
    sixteenth = math.sin(iteration) / 16
    record = IterationRecord(
        iteration,
        20_000_000,
        n_correct=correct,
        n_total=16,
        correct_reward_mean=20 + iteration * 13 % 100 / 10,
        loss=4 + sixteenth,
        objective="maxrl",
        reference_correct=correct,
        reference_total=16,
        rewards_above={15.0: 15, 20.0: correct, 25.0: correct // 2, 30.0: 1},
        rewards_of=16,
        groups_all_wrong=0,
        groups_all_correct=1,
        groups_mixed=1,
        effective_samples=1.9 + sixteenth,
        effective_of=6.0,
        effective_half=1.6 + sixteenth,
        effective_double=2.3 + sixteenth,
        reward_mean=21.3 + sixteenth,
        reward_std=9.1 + sixteenth,
        compile_ratio=shares[0],
        tests_pass_ratio=shares[1],
        trivial_ratio=0.0,
        unique=14,
        unique_of=16,
        unscored=0,
        length_mean=27.4 + sixteenth,
        grad_norm=0.84 + sixteenth,
        entropy=1.23 + sixteenth,
        kl=0.0012 + sixteenth / 1000,
        learning_rate=1e-5,
        duration=2.41 + sixteenth,
        sample_time=1.2 + sixteenth,
        verify_time=0.8 + sixteenth,
        update_time=0.41 + sixteenth,
        tokens=1754 + iteration % 100,
        control_revision=3,
        at=f"2026-11-22T{iteration // 3600 % 24:02}:{iteration // 60 % 60:02}:{iteration % 60:02}Z",
        verdict="Good - on track",
    )
    return render(record)


Block = Callable[[int], str]
KINDS: dict[str, Block] = {"the guide's block": guide_block, "our trainer's block": own_block}


def write_log(path: Path, block: Block, *, lines: int = 0, size: int = 0) -> int:
    """A header, and blocks until there are so many lines or bytes; how many lines there are."""
    header = RunStarted(Algorithm.MAXRL, "maxrl", target_iterations=20_000_000)
    with path.open("w") as file:
        written = file.write(render(header))
        each, whole = block(1).count("\n"), 3
        for piece in _pieces(block):
            if whole >= lines and written >= size:
                return whole
            written += file.write(piece)
            whole += each
    raise AssertionError("blocks never end")


def _pieces(block: Block) -> Iterator[str]:
    """Blocks of rising iterations; what they tell comes again."""
    told = [block(number).partition("/")[2] for number in range(_DIFFERENT)]
    for iteration in count(1):
        yield f"Iteration {iteration}/{told[iteration % _DIFFERENT]}"


# --- Those who read -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a log took: CPU seconds, and MiB that were resident at most."""

    cpu: float
    memory: float


def _read_by_us(log: Path, lines: int, scratch: Path) -> Reading:
    home = Home(scratch / "home")
    run = new_run(home, "one")
    with daemon(home) as served:
        return _read(served, log, run.log, "maxrl_tailer_lines_total", lines)


def _read_by_mtail(log: Path, lines: int, scratch: Path) -> Reading:
    grown = scratch / "trainer.log"
    grown.touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *("mtail", "--progs", str(_PROGRAM), "--logs", str(grown)),
        *("--address", "127.0.0.1", "--port", str(port)),
    ]
    with Served(command, {"TMPDIR": str(scratch)}, scratch / "mtail.log") as served:
        served.url = f"http://127.0.0.1:{port}/metrics"
        served.wait_until_served()
        return _read(served, log, grown, "mtail_lines_total", lines)


def _read(served: Served, log: Path, grown: Path, counter: str, lines: int) -> Reading:
    """The log grows by all of `log`, and is read to its end."""
    before = served.cpu
    with log.open("rb") as source, grown.open("ab") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    served.wait_for_value(counter, lines, _READ_SECONDS)
    return Reading(served.cpu - before, served.memory())


# --- Tables ---------------------------------------------------------------------------------------


def _speed(rounds: int, scratch: Path) -> str:
    who = {"maxrl-ops": _read_by_us}
    if shutil.which("mtail"):
        who["mtail"] = _read_by_mtail
    rows = []
    for kind, block in KINDS.items():
        log = scratch / "source.log"
        lines = write_log(log, block, lines=_LINES)
        each = log.stat().st_size / lines
        found: dict[str, list[Reading]] = {name: [] for name in who}
        for _ in range(rounds):
            for name, read in who.items():
                with tempfile.TemporaryDirectory(dir=scratch) as directory:
                    found[name].append(read(log, lines, Path(directory)))
        for name, readings in found.items():
            speeds = sorted(lines / reading.cpu / 1e6 for reading in readings)
            memory = max(reading.memory for reading in readings)
            rows.append(
                f"| {kind}, {block(1).count(chr(10))} lines of {each:.0f} bytes | {name} "
                f"| {median(speeds):.2f} M | {speeds[0]:.2f} to {speeds[-1]:.2f} M "
                f"| {memory:.0f} MiB |"
            )
    return "\n".join(
        [
            "| log | who | lines per CPU second, median | lowest to highest | memory at most |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _first_start(kind: str, scratch: Path) -> str:
    home = Home(scratch / "home")
    run = new_run(home, "one")
    lines = write_log(run.log, KINDS[kind], size=_GIGABYTE)
    with daemon(home) as served:
        served.wait_for_value("maxrl_tailer_lines_total", lines, _READ_SECONDS)
        cpu, memory = served.cpu, served.memory()
    said = re.findall(r"^.*\bMiB\b.*$", home.daemon_log.read_text(), re.M)
    history = sum(path.stat().st_size for path in home.path.glob("history.db*"))
    return (
        f"| {kind} | {lines / 1e6:.1f} M | {cpu:.1f} s | {memory:.0f} MiB "
        f"| {history / 2**20:.0f} MiB | {len(said)}, the first: `{said[0] if said else 'none'}` |"
    )


def _first_starts(scratch: Path) -> str:
    rows = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            rows.append(_first_start(kind, Path(directory)))
    return "\n".join(
        [
            "| 1 GB of | lines | CPU, start included | memory at most | history.db | progress |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def main() -> None:
    """Measure, print the tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--no-gigabyte", action="store_true", help="leave the first start out")
    asked = parser.parse_args()
    parts = ["# From the log to the store", f"{machine.describe()}; {asked.rounds} rounds"]
    if not shutil.which("mtail"):
        parts.append("mtail is not installed here, and was not measured.")
    with tempfile.TemporaryDirectory() as directory:
        parts.append(_speed(asked.rounds, Path(directory)))
        if not asked.no_gigabyte:
            parts += ["## A first start on a gigabyte", _first_starts(Path(directory))]
    text = "\n\n".join(parts) + "\n"
    if not asked.no_gigabyte:
        (Path(__file__).parent / "results" / "log_to_store.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
