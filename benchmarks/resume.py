"""`python -m benchmarks.resume`: does a run that is killed again and again tell the same?

The torture of `make torture`, told as a table. A run with a planned hand-over, a person's change,
difficulty-aware prompts, several steps a batch, a divergence from the first model and held-out
evaluations is killed at random bytes of its log. Every block, evaluation, echo and checkpoint that
is told, once or again, is compared with those of a run never killed, without times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import machine

_ROOT = Path(__file__).parents[1]
_WORDS = {
    "test_killed_at_random_points_it_replays_what_was_applied": "replays applied.jsonl",
    "test_killed_at_random_points_it_publishes_and_applies_once": "publishes and applies by itself",
}


def main() -> None:
    """Kill, compare, print the table, and keep it; a difference ends it with pytest's report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "--timeout=3600"]
        command += ["-o", "junit_family=xunit1"]
        tests = str(_ROOT / "tests" / "torture" / "test_resume.py")
        env = {**os.environ, "TORTURE_KILLS": str(given.kills)}
        subprocess.run([*command, tests], env=env, cwd=_ROOT, check=True)
        cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - pytest's own
        rows = [_row(case) for case in cases]
    text = "\n".join(
        [
            "# Killed and resumed",
            "",
            f"{machine.describe()}; two threads a trainer",
            "",
            "| scenario | kills | runs | texts compared in each | differences |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    (Path(__file__).parent / "results" / "resume.md").write_text(text)
    print(text)


def _row(case: ElementTree.Element) -> str:
    found = {each.get("name"): each.get("value") for each in case.iter("property")}
    words = _WORDS[case.get("name", "")]
    return f"| {words} | {found['kills']} | {found['runs']} | {found['texts']} | 0 |"


if __name__ == "__main__":
    main()
