"""The verifier as an ordinary user: no fresh uid inside, and a user namespace or Landlock."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter
from ordinary_user import python_for_nobody, run_as_nobody

from trainer.verify.sandboxes import WALLED
from trainer.verify.toolchain import Toolchain

pytestmark = [
    pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit"),
    pytest.mark.skipif(os.geteuid() != 0, reason="every other test is one of an ordinary user"),
]
ROOT = Path(__file__).parents[2]
_VERIFY = """
import json, sys
sys.path[:0] = sys.argv[2:]
try:
    from trainer.verify.rust import Candidate, RustVerifier
except ImportError as problem:
    sys.exit(f"unavailable: {problem}")
from trainer.verify.errors import VerifierUnavailable
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain
bodies = ["x + 1", "x", "let y = 1; x + 1", "y", "let mut z = x; while z != 0 { z |= 1; } z", "["]
candidates = [Candidate(f"pub fn f(x: i32) -> i32 {{ {b} }}", "f", ("f(1) == 2",)) for b in bodies]
try:
    verifier = RustVerifier(Toolchain.find(), find_sandbox(sys.argv[1]))
except VerifierUnavailable as problem:
    sys.exit(f"unavailable: {problem}")
verdicts = verifier.verify(candidates)
json.dump([(v.clean, v.passed, v.compiled, v.parsed, v.unscored) for v in verdicts], sys.stdout)
"""


@pytest.fixture(scope="module")
def toolchain() -> Iterator[Path]:
    """A toolchain that every user may read: root's own lies in root's home."""
    with tempfile.TemporaryDirectory(prefix="maxrl-toolchain-") as name:
        Path(name).chmod(0o755)
        copy = Path(name) / "toolchain"
        ignored = shutil.ignore_patterns("share", "doc", "rust-src", "src")
        sysroot = Toolchain.find().sysroot
        if sysroot == Path("/usr"):
            yield sysroot
            return
        try:
            shutil.copytree(sysroot, copy, symlinks=True, copy_function=os.link, ignore=ignored)
        except (OSError, shutil.Error) as problem:
            pytest.skip(f"the toolchain cannot be linked into {name}: {str(problem)[:100]}")
        yield copy


@pytest.mark.parametrize("kind", WALLED)
def test_verdicts_are_the_same(kind: str, toolchain: Path) -> None:
    assert tree_sitter.__file__ is not None
    done = run_as_nobody(
        [
            python_for_nobody(),
            "-c",
            _VERIFY,
            kind,
            str(ROOT),
            str(Path(tree_sitter.__file__).parents[1]),
        ],
        env={"PATH": f"{toolchain}/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
    )
    if done.stderr.startswith("unavailable: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        [True, True, True, True, None],
        [False, False, True, True, None],
        [False, True, True, True, None],
        [False, False, False, True, None],
        [False, False, True, True, None],
        [False, False, False, False, None],
    ]
