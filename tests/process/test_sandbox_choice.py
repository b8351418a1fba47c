"""Which sandbox is taken, what is said where none works, and what outlives whom."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from trainer.tasks.rust.task import RustTask
from trainer.verify import bubblewrap, ruleset, sandboxes, seccomp
from trainer.verify.errors import VerifierUnavailable
from trainer.verify.rust import RustVerifier
from trainer.verify.sandbox import Limits
from trainer.verify.sandboxes import WALLED, find_sandbox
from trainer.verify.workspace import remove_stale, workspace

pytestmark = pytest.mark.needs("bwrap", "setpriv", "prlimit")
ROOT = Path(__file__).parents[2]
LIMITS = Limits(cpu_s=2, wall_s=60, memory=512 << 20, file_size=4096, processes=4, output=4096)


def without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda *_, **__: None)


def without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruleset, "version", lambda: 0)


def test_the_best_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_sandbox().kind == "bubblewrap"
    without_bubblewrap(monkeypatch)
    assert find_sandbox().kind == "landlock"
    assert find_sandbox(unsafe=True).kind == "landlock"


def test_without_any_it_is_refused_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bubblewrap(monkeypatch)
    without_landlock(monkeypatch)
    with pytest.raises(VerifierUnavailable) as caught:
        find_sandbox()
    said = str(caught.value)
    for word in (
        "apt install bubblewrap",
        "no Landlock",
        "--task arithmetic",
        "--unsafe-no-sandbox",
    ):
        assert word in said
    assert "\n" not in said
    assert find_sandbox(unsafe=True).kind == "none"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda patch: patch.setattr(ruleset, "version", lambda: 1), "has version 1 of Landlock"),
        (lambda patch: patch.setattr(seccomp, "_MACHINES", {}), "no seccomp filter"),
    ],
)
def test_landlock_needs_its_second_version_and_a_filter(
    change: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    with pytest.raises(VerifierUnavailable, match=reason):
        find_sandbox("landlock")


def test_each_kind_runs_a_program(tmp_path: Path) -> None:
    for kind in sandboxes.KINDS:
        done = find_sandbox(kind).run(
            ["/bin/sh", "-c", 'cat; echo x > "$1"/f', "sh", "/out"],
            LIMITS,
            writable=(tmp_path, "/out"),
            stdin=b"hello\n",
        )
        assert (done.returncode, done.output) == (0, b"hello\n"), kind
        assert (tmp_path / "f").read_text() == "x\n"
        (tmp_path / "f").unlink()


@pytest.mark.needs("rustc", "cc")
def test_the_log_says_so_once_where_it_is_not_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RustTask().prepare()
    assert capsys.readouterr().err == ""
    without_bubblewrap(monkeypatch)
    monkeypatch.setattr("trainer.verify.toolchain.Toolchain.find", lambda: None)
    RustTask().prepare()
    assert "run in Landlock" in capsys.readouterr().err
    without_landlock(monkeypatch)
    with pytest.raises(VerifierUnavailable):
        RustTask().prepare()
    RustTask(unsafe_no_sandbox=True).prepare()
    said = capsys.readouterr().err
    assert "WITHOUT A SANDBOX" in said
    assert said.count("\n") == 1


_HOLDER = """
import sys
from trainer.verify.workspace import workspace
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.sandbox import Limits
limits = Limits(cpu_s=2, wall_s=60, memory=512 << 20, file_size=0, processes=4, output=4096)
with workspace() as place:
    (place / "file").write_text("x")
    print(place, flush=True)
    find_sandbox(sys.argv[1]).run(["/bin/sh", "-c", "sleep 4242.8 & sleep 4242.8"], limits)
"""


def running(marker: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in entry.read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize("kind", WALLED)
def test_who_is_killed_leaves_no_process_and_no_directory_behind(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("trainer.verify.workspace._LOCKED_WITHIN_S", -1.0)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, kind],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    with holder, workspace() as ours:
        place = Path(holder.stdout.readline().strip())
        wait_until(lambda: running("sleep\x004242.8"), 20, "the program runs")
        remove_stale()
        assert place.exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_until(lambda: not running("4242.8"), 5, "the program is gone")
        remove_stale()
        assert not place.exists()
        assert ours.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_or_quite_new_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    new, other = tmp_path / "maxrl-verify-new", tmp_path / "other"
    new.mkdir()
    other.mkdir()
    (tmp_path / "maxrl-verify-link").symlink_to(other)
    remove_stale()
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr("trainer.verify.workspace._LOCKED_WITHIN_S", -1.0)
    remove_stale()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maxrl-verify-link", "other"]


@pytest.mark.needs("rustc", "cc")
def test_a_verifier_sweeps_when_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "maxrl-verify-stale").mkdir()
    monkeypatch.setattr("trainer.verify.workspace._LOCKED_WITHIN_S", -1.0)
    RustVerifier.find()
    assert list(tmp_path.iterdir()) == []
