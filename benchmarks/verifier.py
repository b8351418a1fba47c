"""`python -m benchmarks.verifier`: what verdicts about Rust cost.

Batched beside one by one on 64 candidates, half of which do not compile; what the cache saves on a
recorded run; what the sandbox adds to a compilation. Rounds alternate; CPU seconds are ours and our
children's.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks import machine
from trainer.tasks.rust.corpus import Problem, draw_document, draw_problem
from trainer.tasks.rust.families import FAMILIES
from trainer.verdict import Verdict
from trainer.verify.build import CHECK, EDITION, LIMITS
from trainer.verify.cache import VerdictCache
from trainer.verify.rust import Candidate, RustVerifier
from trainer.verify.sandbox import Sandbox
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

_SEED = 5
_SIZE = 64
_ROUNDS = 5
_COMPILATIONS = 20
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU and wall seconds of some work, and what it returned."""

    cpu: float
    wall: float
    result: Any


def main() -> None:
    """Measure, print the tables, and keep them."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("this kernel gives us no orphans: their CPU seconds cannot be counted")
    tools = Toolchain.find(), find_sandbox()
    version = tools[0].version.partition("\n")[0]
    text = "\n\n".join(
        [
            "# The verifier",
            machine.describe([version]),
            _batching(tools),
            _caching(tools),
            _sandboxing(tools),
        ]
    )
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "verifier.md").write_text(f"{text}\n")
    print(text)


def _measured(work: Callable[[], Any]) -> Cost:
    cpu, wall = _cpu(), time.monotonic()
    result = work()
    return Cost(_cpu() - cpu, time.monotonic() - wall, result)


def _cpu() -> float:
    """CPU seconds so far, with those of every process that ended: bubblewrap leaves its init to us.

    A child's seconds count once it is waited for, and we are our grandchildren's reaper.
    """
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _batching(tools: tuple[Toolchain, Sandbox]) -> str:
    candidates = _half_broken(tools)
    alone = [[candidate] for candidate in candidates]
    rounds = [
        (
            _measured(lambda: _verify(tools, [candidates])),
            _measured(lambda: _verify(tools, alone)),
        )
        for _ in range(_ROUNDS)
    ]
    batched, single = ([each[i] for each in rounds] for i in (0, 1))
    same = all(b.result == s.result for b, s in rounds)
    ratios = [s.cpu / b.cpu for b, s in rounds]
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    rows = [_row(name, costs) for name, costs in (("batched", batched), ("one by one", single))]
    return "\n".join(
        [
            f"## {_SIZE} candidates, {_SIZE // 2} of which do not compile (seed {_SEED})",
            "",
            f"Parse, guard, compile, build the tests, run them; {_ROUNDS} rounds, medians. Without",
            "a cache. The verdicts are "
            + ("identical in every round." if same else "NOT IDENTICAL."),
            "",
            "| | CPU s | CPU ms a candidate | wall s | candidates/s |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"One by one costs {median(ratios):.1f} times the CPU of batched ({spread}).",
        ]
    )


def _row(name: str, costs: Sequence[Cost]) -> str:
    cpu, wall = median(c.cpu for c in costs), median(c.wall for c in costs)
    per_candidate = 1000 * cpu / _SIZE
    return f"| {name} | {cpu:.2f} | {per_candidate:.1f} | {wall:.2f} | {_SIZE / wall:.0f} |"


def _half_broken(tools: tuple[Toolchain, Sandbox]) -> list[Candidate]:
    """Distinct candidates of the task's own corpus: half pass, half do not compile."""
    rng = Random(_SEED)
    drawn: dict[str, Candidate] = {}
    while len(drawn) < 6 * _SIZE:
        state = rng.getstate()
        problem = draw_problem(rng.choice(FAMILIES), rng)
        rng.setstate(state)  # draw_document begins with the same draw
        text, completion = draw_document(rng)
        assert text == problem.prompt.text  # noqa: S101
        candidate = Candidate(text + completion, problem.words["f"], problem.prompt.tests)
        drawn[candidate.source] = candidate
    candidates = list(drawn.values())
    verdicts = RustVerifier(*tools).verify(candidates)
    pairs = list(zip(candidates, verdicts, strict=True))
    good = [c for c, v in pairs if v.clean][: _SIZE // 2]
    bad = [c for c, v in pairs if not v.compiled][: _SIZE // 2]
    chosen = good + bad
    rng.shuffle(chosen)
    return chosen


def _verify(
    tools: tuple[Toolchain, Sandbox],
    batches: Sequence[Sequence[Candidate]],
    cache: VerdictCache | None = None,
) -> list[Verdict]:
    verifier = RustVerifier(*tools, cache=cache)
    return [verdict for batch in batches for verdict in verifier.verify(batch)]


class _Counting(VerdictCache):
    """Counts what it is asked for, and what it knew."""

    asked = 0
    known = 0

    def get(self, keys: Sequence[str]) -> dict[str, Verdict]:
        found = super().get(keys)
        self.asked += len(keys)
        self.known += len(found)
        return found


def _caching(tools: tuple[Toolchain, Sandbox]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        batches = _recorded_run(Path(directory))
        path = Path(directory) / "cache" / "verdicts"
        rows = []
        # A verifier that has seen nothing for each batch.
        none = _measured(lambda: [v for batch in batches for v in _verify(tools, [batch])])
        rows.append(f"| none | | | {none.cpu:.2f} |")
        for name in ("empty at the start", "the same run again"):
            cache = _Counting(path)
            cost = _measured(partial(_verify, tools, batches, cache))
            same = "" if cost.result == none.result else ", OTHER VERDICTS"
            hits = f"{cache.known} of {cache.asked}"
            rate = cache.known / cache.asked
            rows.append(f"| {name}{same} | {hits} | {rate:.0%} | {cost.cpu:.2f} |")
            cache.close()
        size = path.stat().st_size
    samples = sum(len(batch) for batch in batches)
    distinct = sum(len(set(batch)) for batch in batches)
    return "\n".join(
        [
            f"## The cache, over the samples of `maxrl-ops start --iterations {len(batches)}`",
            "",
            f"{samples} samples in {len(batches)} batches, of which {distinct} are judged:",
            "duplicates within a batch are judged once.",
            "",
            "| cache | known | hit rate | CPU s |",
            "|---|---|---|---|",
            *rows,
            "",
            f"The file takes {size / 1024:.0f} KiB then.",
        ]
    )


def _recorded_run(directory: Path) -> list[list[Candidate]]:
    """What a real run sampled, iteration by iteration."""
    env = {**os.environ, "MAXRL_OPS_HOME": str(directory), "MAXRL_OPS_NO_DAEMON": "1"}
    command = "start --task rust --iterations 10 --evaluation-prompts 12 --name recorded --follow"
    subprocess.run(
        [sys.executable, "-m", "maxrl_ops", *command.split()],
        env={**env, "MAXRL_OPS_CACHE_DIR": ""},
        check=True,
        capture_output=True,
    )
    file = directory / "runs" / "recorded" / "samples.jsonl"
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        [_candidate(sample["prompt"], sample["text"]) for sample in batch]
        for _, batch in groupby(samples, key=lambda sample: sample["iteration"])
    ]


def _candidate(prompt_id: str, completion: str) -> Candidate:
    """The prompt's id holds the words that its family's texts are filled in with."""
    name, *words = prompt_id.split("/")
    family = next(family for family in FAMILIES if family.name == name)
    filled = dict(zip("fpic", words, strict=True))
    constant = int(filled["c"])
    filled |= {"lo": str(constant - 1), "hi": str(constant + 1)}
    prompt = Problem(family, filled).prompt
    return Candidate(prompt.text + completion, filled["f"], prompt.tests)


def _sandboxing(tools: tuple[Toolchain, Sandbox]) -> str:
    toolchain, sandbox = tools
    source = "pub fn total(values: &[i64]) -> i64 {\n    values.iter().sum()\n}\n"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "root.rs").write_text(source)
        out = place / "out"
        out.mkdir()
        flags = ["--edition", EDITION, *CHECK, "--crate-type=lib"]

        def bare() -> None:
            rustc = [str(toolchain.sysroot / "bin" / "rustc"), *flags]
            command = [*rustc, "-o", str(out / "bare"), str(place / "root.rs")]
            subprocess.run(command, check=True, capture_output=True)

        def inside() -> None:
            rustc = ["/toolchain/bin/rustc", "--sysroot", "/toolchain", *flags]
            done = sandbox.run(
                [*rustc, "-o", "/out/inside", "root.rs"],
                LIMITS,
                read_only={toolchain.sysroot: "/toolchain", place: "/src"},
                writable=(out, "/out"),
                chdir="/src",
            )
            assert done.returncode == 0, done  # noqa: S101 - a figure of a failure is none

        costs = [(_measured(bare), _measured(inside)) for _ in range(_COMPILATIONS)]
    rows = []
    for i, name in enumerate(("bare", "in the sandbox")):
        cpu = 1000 * median(each[i].cpu for each in costs)
        wall = 1000 * median(each[i].wall for each in costs)
        rows.append(f"| {name} | {cpu:.0f} | {wall:.0f} |")
    extra = [1000 * (i.wall - b.wall) for b, i in costs]
    return "\n".join(
        [
            "## The sandbox",
            "",
            f"One function, metadata only, {_COMPILATIONS} rounds, medians.",
            "",
            "| rustc | CPU ms | wall ms |",
            "|---|---|---|",
            *rows,
            "",
            f"The sandbox adds {median(extra):.0f} ms of wall time.",
        ]
    )


if __name__ == "__main__":
    main()
