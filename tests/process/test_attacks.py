"""The model as an attacker: hostile programs in each sandbox, hostile candidates in the verifier.

The programs (tests/attacks/programs.rs) are what would be left if the guard and the compiler held
nothing; the candidates (tests/attacks/candidates.py) are what a model can write.
"""

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from attacks import battery
from attacks.candidates import BOMBS, CANDIDATES, OF_THE_WALLS
from ordinary_user import NOBODY, python_for_nobody, run_as_nobody

from trainer.verify import build, guard, rust
from trainer.verify.guard import Reading
from trainer.verify.rust import Candidate, RustVerifier
from trainer.verify.sandbox import Finished, Limits, Sandbox
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

pytestmark = pytest.mark.needs("rustc", "cc", "bwrap", "setpriv", "prlimit")
ROOT = Path(__file__).parents[2]
KINDS = ["bubblewrap", "landlock"]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="maxrl-attacks-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return Toolchain.find()


@pytest.fixture(scope="module")
def program(place: Path, toolchain: Toolchain) -> Path:
    """The attacks, compiled by us and outside of any sandbox."""
    target = place / "programs"
    source = ROOT / "tests" / "attacks" / "programs.rs"
    compiler = str(toolchain.sysroot / "bin" / "rustc")
    flags = ["--edition", "2021", "-C", "debuginfo=0", "-D", "warnings"]
    subprocess.run([compiler, *flags, "-o", str(target), str(source)], check=True, timeout=120)
    target.chmod(0o755)
    return target


@pytest.mark.parametrize("limits", [battery.LOOSE, battery.STRICT], ids=["loose", "strict"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_program_gets_out(kind: str, limits: Limits, program: Path) -> None:
    attacks = battery.names(program, limits)
    assert len(attacks) >= 45
    assert battery.run(kind, program, Path.home(), attacks, limits) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="we are an ordinary user already")
@pytest.mark.parametrize("kind", KINDS)
def test_no_program_of_an_ordinary_user_gets_out(kind: str, program: Path, place: Path) -> None:
    python = python_for_nobody()
    here = place / f"as-nobody-{kind}"
    shutil.copytree(ROOT / "trainer" / "verify", here / "trainer" / "verify")
    for file in ("trainer/__init__.py", "trainer/verdict.py", "tests/attacks/battery.py"):
        shutil.copy(ROOT / file, here / file.removeprefix("tests/attacks/"))
    home = here / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    done = run_as_nobody(
        [python, str(here / "battery.py"), str(program), kind, str(home)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(here)},
        timeout=300,
    )
    if done.stderr.startswith("unavailable: "):
        pytest.skip(f"this host has none for ordinary users: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize(
    "name",
    """
    read_secret_file read_accounts read_environments overwrite_secret truncate_secret
    change_secret_metadata connect_tcp send_udp connect_unix
    """.split(),
)
def test_without_a_sandbox_the_attacks_work(name: str, program: Path) -> None:
    """Those of them that hurt nothing but what is planted: they are no straw men."""
    assert name in battery.run("none", program, Path.home(), [name], battery.LOOSE)


class Recording(Sandbox):
    """A sandbox that remembers what came out of it, and how long that took beyond its deadline."""

    kind = "recording"

    def __init__(self, inner: Sandbox):
        self._inner = inner
        self.output = b""
        self.latest = float("-inf")

    def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        read_only: Mapping[Path, str] | None = None,
        writable: tuple[Path, str] | None = None,
        stdin: bytes = b"",
        chdir: str = "/",
    ) -> Finished:
        start = time.monotonic()
        done = self._inner.run(
            command, limits, read_only=read_only, writable=writable, stdin=stdin, chdir=chdir
        )
        self.latest = max(self.latest, time.monotonic() - start - limits.wall_s)
        self.output += done.output
        return done


@pytest.fixture(autouse=True)
def brief_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs until its limit is over in a second; an honest batch takes a fraction of it."""
    tests = rust.TEST_LIMITS
    monkeypatch.setattr(build, "LIMITS", replace(build.LIMITS, cpu_s=1, wall_s=8))
    monkeypatch.setattr(
        rust, "TEST_LIMITS", Limits(1, 3, tests.memory, 0, tests.processes, tests.output)
    )


def hostile(name: str, target: battery.Host) -> Candidate:
    source = CANDIDATES[name].replace("@FILE@", str(target.secrets[0]))
    source = source.replace("@VICTIM@", str(target.victim.pid)).replace("@PORT@", str(target.port))
    return Candidate(source.replace("@MARKER@", target.marker), "f", ("f(1) == 2",))


def honest(number: int) -> Candidate:
    """Alternately one that passes cleanly, and one that compiles with a warning and is wrong."""
    body = f"x + {number} - {number} + 1" if number % 2 else f"let y = {number}; x"
    return Candidate(f"pub fn f(x: i32) -> i32 {{ {body} }}\n", "f", ("f(1) == 2",))


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# A bomb is found by halving its batch: it costs little in a small one.
BATCHES = [[name for name in CANDIDATES if name not in BOMBS], *([name] for name in BOMBS)]


def test_no_candidate_is_believed_or_changes_a_neighbour(toolchain: Toolchain) -> None:
    assert len(CANDIDATES) >= 40
    sandbox = Recording(find_sandbox())
    verifier = RustVerifier(toolchain, sandbox)
    expected = RustVerifier(toolchain, sandbox).verify([honest(0), honest(1)])
    assert [(v.clean, v.warnings) for v in expected] == [(False, 1), (True, 0)]
    before = resident()
    with battery.host(Path.home()) as target:
        for number, batch in enumerate(BATCHES):
            attacks = [hostile(name, target) for name in batch]
            neighbour, *verdicts = verifier.verify([honest(number + 2), *attacks])
            assert neighbour == expected[number % 2], batch
            for name, verdict in zip(batch, verdicts, strict=True):
                assert not verdict.passed, name
                assert verdict.unscored is None, name
                assert target.secret not in repr(verdict), name
        assert target.problems() == []
        assert target.secret.encode() not in sandbox.output
    assert sandbox.latest <= 1
    assert resident() - before < 64 << 20


@pytest.mark.parametrize(
    ("kind", "names"), [("bubblewrap", list(CANDIDATES)), ("landlock", OF_THE_WALLS)], ids=KINDS
)
def test_without_the_guard_the_walls_hold(
    kind: str, names: list[str], toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "read", lambda source, function: Reading(parsed=True))
    sandbox = Recording(find_sandbox(kind))
    verifier = RustVerifier(toolchain, sandbox)
    before = resident()
    wrong = {}
    with battery.host(Path.home()) as target:
        for name in names:
            if name == "surrogate":  # no file can hold it: that is the guard's alone
                continue
            sandbox.output, sandbox.latest = b"", float("-inf")
            [verdict] = verifier.verify([hostile(name, target)])
            found = target.problems()
            found += ["believed"] if verdict.passed else []
            found += ["read the secret"] if target.secret.encode() in sandbox.output else []
            found += [f"late by {sandbox.latest:.1f} s"] if sandbox.latest > 1 else []
            if found:
                wrong[name] = found
    assert wrong == {}
    assert resident() - before < 64 << 20
