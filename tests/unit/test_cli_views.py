"""What a person sees: the live view, status, logs; also of a log that means harm."""

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from commands import TRAINER, Place, clean_environment
from rich.console import Console

from maxrl_ops import processes, read_only
from maxrl_ops.cli.app import run
from maxrl_ops.cli.live import Sight, sparkline, view
from maxrl_ops.cli.plain import line_of
from maxrl_ops.core.printable import one_line, visible
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.snapshot import Observed, take
from maxrl_ops.daemon_file import DaemonFile
from maxrl_ops.run_reader import LogReader
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import ProcessIdentity, RunSpec, SupervisorState
from maxrl_ops.wire.record import Algorithm, ControlRejected, Evaluated, IterationRecord, RunStarted
from maxrl_ops.wire.rundir import RunDir

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[/] \u202egnp.exe\x9b31m\r\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "home"


@pytest.fixture
def finished(home: Path) -> RunDir:
    """A run that has ended, written by hand: no process is needed to look at it."""
    return make_run(home, "rust-1")


def make_run(home: Path, name: str, created: str = "2026-11-22T13:00:00Z") -> RunDir:
    directory = RunDir(home / "runs" / name)
    directory.control.mkdir(parents=True)
    RunSpec(name, "rust", {}, (), created).save(directory)
    SupervisorState("finished", "2026-11-22T13:10:00Z", attempt=1).save(directory)
    log = subprocess.run(
        [sys.executable, "-c", TRAINER, "4"], capture_output=True, check=True, timeout=30
    )
    directory.log.write_bytes(log.stdout)
    return directory


def sight(*events: object) -> Sight:
    history = RunHistory.of(events)  # type: ignore[arg-type]
    spec = RunSpec("rust-1", "rust", {}, (), "2026-11-22T13:00:00Z")
    supervisor = SupervisorState("running", "2026-11-22T13:00:00Z", attempt=2, restarts=1)
    now = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)
    shown = take(spec, supervisor, None, history, Observed(now, supervisor_alive=True))
    return Sight(shown, history)


def drawn(seen: Sight, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(view(seen, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


RUNNING = (
    RunStarted(
        Algorithm.MAXRL, "maxrl", "rust", f"model {HOSTILE}" * 9, "cpu", target_iterations=40
    ),
    Evaluated(0, 0.36, {1: 0.38, 8: 0.71}, 0.02, 0.6, 0.22),
    *(IterationRecord(n, 40, n % 17, 16, 27.1, 4.2, duration=1.0) for n in range(1, 90)),
    Evaluated(20, 0.56, {1: 0.60, 8: 0.81}, 0.02, 0.8, 0.15),
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    lines = drawn(sight(*RUNNING), width).rstrip("\n").split("\n")

    assert {len(line) for line in lines} == {width}
    if width >= 80:
        assert len(lines) < 24
    # The newest iteration's correctness, 4 of 16, stands at the sparkline's right end.
    (row,) = (line for line in lines if "correctness" in line and "▁" in line)
    assert row.rstrip(" │").endswith("▃")


def test_the_live_view_says_what_matters() -> None:
    text = drawn(sight(*RUNNING), 120)
    for said in ("rust-1", "running, attempt 2", "MaxRL", "pass@1", "0.38 -> 0.60", "1 restarts"):
        assert said in text


def test_nothing_of_a_hostile_log_reaches_the_terminal_raw() -> None:
    text = drawn(sight(*RUNNING))

    assert not any(sign in text for sign in "\x1b\x07\x9b\r\u202e")
    # Markup is shown, not obeyed.
    assert "[bold red]x[/]" in text
    assert line_of(ControlRejected(3, HOSTILE)) == (
        "control 3 rejected:  ]0;owned [2J[bold red]x[/]  gnp.exe 31m"
    )


def test_text_is_made_safe() -> None:
    assert one_line("a\tb\nc\x1bd\ud800e") == "a b c d e"
    assert visible("a\tb\n\x1b[0m\x7f\x9b\u202e") == "a\tb\n^[[0m^?<U+009B><U+202E>"


def test_the_sparkline_spans_none_to_all_and_shows_gaps() -> None:
    rows = [IterationRecord(n, n_correct=c, n_total=16) for n, c in enumerate((0, 8, 16))]
    history = RunHistory.of([*rows, IterationRecord(9)])
    assert sparkline(history) == "▁▅█ "
    assert sparkline(history, encoding="ascii").isascii()


# --- status -------------------------------------------------------------------------------------


def test_status_without_a_run_says_how_to_start(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status"]) == 0
    assert "maxrl-ops start" in capsys.readouterr().out


def test_status_shows_each_run_and_its_sentence(
    finished: RunDir, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(home, "newer", created="2026-11-23T00:00:00Z")
    assert run(["status"]) == 0
    printed = capsys.readouterr().out

    assert printed.index("newer") < printed.index("rust-1")
    assert "MaxRL finished 4 iterations: held-out pass@1 0.38 -> 0.86 (+- 0.02)." in printed
    assert "no daemon is running: read from the files" in printed
    assert "\x1b" not in printed


def test_status_cuts_no_figure_beside_a_long_name(
    finished: RunDir, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longest = "a" * 64
    make_run(home, longest)
    assert run(["status"]) == 0
    printed = capsys.readouterr().out
    told = [" ".join(part.split()[:7]) for part in printed.split("\n" + " " * 80 + "\n")[:2]]
    assert sorted(told) == [
        f"{name} finished MaxRL 4/4 correctness 75% MaxRL" for name in (longest, "rust-1")
    ]


def test_status_json(finished: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "rust-1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)

    nobody = {"running": False, "pid": None, "metrics": None, "frozen": False, "problem": None}
    assert printed["daemon"] == {**nobody, "policy_problem": None, "unread": None}
    (told,) = printed["runs"]
    assert 0 <= printed["host"]["disk_free_bytes"] < printed["host"]["disk_size_bytes"]
    assert (told["name"], told["state"], told["iteration"]) == ("rust-1", "finished", 4)
    assert told["correctness"] == 0.75
    assert told["held_out"]["pass_at_1"] == pytest.approx(0.86)
    assert [row["iteration"] for row in told["evaluations"]] == [0, 4]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"run.json": None}, "there is no such file"),
        ({"run.json": "{"}, "not JSON"),
        ({"run.json": "[]"}, "not a JSON object"),
        ({"run.json": '{"name": "x"}'}, "missing or of a wrong kind"),
        ({"state.json": "null"}, "not a JSON object"),
        ({"state.json": '{"state": "\\u001b[2J"}'}, "missing or of a wrong kind"),
    ],
)
def test_a_damaged_run_is_shown_with_its_reason_beside_the_sound_ones(
    damage: dict[str, str | None],
    reason: str,
    finished: RunDir,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = make_run(home, "broken")
    for name, text in damage.items():
        (broken.path / name).unlink()
        if text is not None:
            (broken.path / name).write_text(text)

    assert run(["status", "--json"]) == 0
    runs = {told["name"]: told for told in json.loads(capsys.readouterr().out)["runs"]}
    assert (runs["rust-1"]["state"], runs["broken"]["state"]) == ("finished", "damaged")
    assert reason in runs["broken"]["exit_reason"]
    assert run(["status"]) == 0
    assert "This run cannot be read" in capsys.readouterr().out


def test_status_imports_neither_torch_nor_transformers(finished: RunDir) -> None:
    script = (
        "import sys; from maxrl_ops.cli.app import run; code = run(['status', '--json']); "
        "print([m for m in ('torch', 'transformers', 'maxrl_ops.supervisor') if m in sys.modules],"
        " code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "[] 0\n"


def ours() -> ProcessIdentity:
    identity = processes.identity_of(os.getpid())
    assert identity is not None
    return identity


def test_status_tells_what_a_daemon_cannot_follow(
    finished: RunDir, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "rust-1: history.db: database is locked; see that it can be written"
    DaemonFile(ours(), "http://x/metrics", "2026-11-22T13:00:00Z", "1", unread=why).save(Home(home))
    assert run(["status"]) == 0
    assert f"it cannot follow {why}" in " ".join(capsys.readouterr().out.split())
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["daemon"]["unread"] == why


def test_status_tells_of_a_history_that_another_process_has_for_itself(
    finished: RunDir,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Store(home / "history.db").close()
    monkeypatch.setattr(read_only, "_BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(home / "history.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert run(["status"]) == 0
        told = " ".join(capsys.readouterr().out.split())
    assert "the journal cannot be read:" in told
    assert "history.db:databaseislocked" in told.replace(" ", "")
    assert "MaxRL finished 4 iterations" in told


@pytest.mark.parametrize("may_write", [True, False])
def test_status_tells_of_a_supervisor_that_cannot_write_that_its_trainer_has_ended(
    may_write: bool,
    finished: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nobody = ProcessIdentity(2**22 + 1, 1, "a boot long ago")
    state = SupervisorState("running", "2026-11-22T13:00:00Z", ours(), nobody, attempt=1)
    state.save(finished)
    # Of root's tests too, whom no mode of a directory stops.
    monkeypatch.setattr(os, "access", lambda *_: may_write)
    assert run(["status", "rust-1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert (told["state"], told["trainer_alive"]) == ("running", False)
    assert told["refusal"] == (None if may_write else f"{finished.path} may not be written")
    refused = "state.json cannot be written"
    assert (refused in told["sentence"]) != may_write


# --- logs ---------------------------------------------------------------------------------------


def test_logs_prints_the_last_lines_with_control_characters_spelt_out(
    finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == (
        "| ^[]0;retitled^G^[[31m[bold]not markup[/bold]\nRun finished: 4 iterations\n"
    )


@pytest.mark.parametrize(("lines", "printed"), [("0", ""), ("1", "c\n"), ("3", "a\nb\nc\n")])
def test_logs_counts_lines_from_the_end(
    lines: str, printed: str, finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    finished.log.write_text("a\nb\nc\n")
    assert run(["logs", "rust-1", "-n", lines]) == 0
    assert capsys.readouterr().out == printed


def test_logs_finds_its_lines_over_block_bounds(
    finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    # 40,000 lines of 7 bytes: the last 30,000 begin in the middle of a block of 64 KiB.
    finished.log.write_text("".join(f"{n:06d}\n" for n in range(40_000)))
    assert run(["logs", "-n", "30000"]) == 0
    assert capsys.readouterr().out == "".join(f"{n:06d}\n" for n in range(10_000, 40_000))


def test_following_a_run_that_is_over_ends(
    finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", "-f", "-n", "1"]) == 0
    assert capsys.readouterr().out == "Run finished: 4 iterations\n"


def test_a_reader_that_has_enough_is_no_error(finished: RunDir) -> None:
    finished.log.write_text("a line\n" * 100_000)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "maxrl_ops", "logs", "-n", "100000"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


# --- The reader ---------------------------------------------------------------------------------


def test_the_log_is_read_as_it_grows_is_cut_and_comes_back(tmp_path: Path) -> None:
    directory = RunDir(tmp_path)
    reader = LogReader(directory)
    assert reader.read() == []

    directory.log.write_text("Iteration 1/9\n  Loss: 4.2\n  [Good - on track]\nIterat")
    assert [type(event) for event in reader.read()] == [IterationRecord]
    with directory.log.open("a") as log:
        log.write("ion 2/9\n  Loss: 4.1\n  [Good - on track]\n")
    reader.read()
    assert reader.history.iteration == 2

    directory.log.write_text("Iteration 1/9\n  Loss: 5\n  [Low]\n")
    reader.read()
    assert [(row.iteration, row.loss) for row in reader.history.iterations] == [(1, 5.0)]
    directory.log.unlink()
    assert reader.read() == []


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", clean_environment())
    assert place.command("--version").stdout.startswith("maxrl-ops 0.")
