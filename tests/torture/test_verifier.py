"""Candidates that are broken and hostile in every way get the same verdict in any company."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest
from rust_candidates import draw

from trainer.verify.rust import RustVerifier
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

pytestmark = [pytest.mark.slow, pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit")]

# A share of the torture in every run of the suite; `make torture` sets the whole.
CANDIDATES = int(os.environ.get("TORTURE_CANDIDATES", "60"))


def compilers() -> list[str]:
    """The directory of each rustc on this machine: rustup's, Debian's."""
    places = [*map(Path, os.get_exec_path()), Path.home() / ".cargo" / "bin", Path("/usr/bin")]
    # /bin is /usr/bin on most systems.
    distinct = dict.fromkeys(str(place.resolve()) for place in places)
    return [place for place in distinct if shutil.which("rustc", path=place) is not None]


@pytest.mark.parametrize("place", compilers())
def test_batched_verdicts_equal_single_ones(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("TORTURE_SEED", "1"))
    rng = Random(seed)
    candidates = [draw(rng) for _ in range(CANDIDATES)]
    monkeypatch.setenv("PATH", place, prepend=os.pathsep)
    tools = Toolchain.find(), find_sandbox()
    batched = RustVerifier(*tools).verify(candidates)
    alone = RustVerifier(*tools)
    kinds = set()
    for candidate, verdict in zip(candidates, batched, strict=True):
        assert verdict.unscored is None, (seed, candidate, verdict)
        assert alone.verify([candidate]) == [verdict], (seed, candidate)
        kinds.add((verdict.parsed, verdict.compiled, verdict.refused is None, verdict.passed))
    # The draw has something of everything: broken, refused, wrong, right.
    assert kinds >= {
        (False, False, True, False),
        (True, False, False, False),
        (True, False, True, False),
        (True, True, True, False),
        (True, True, True, True),
    }
