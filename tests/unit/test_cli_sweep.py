"""`sweep` and `compare` of one: commands, over scripted trainers and once over the real one."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Place, clean_environment, refused
from rich.console import Console
from waiting import wait_until

from maxrl_ops import locks, sweep_file
from maxrl_ops.cli.app import run
from maxrl_ops.cli.start import Asked
from maxrl_ops.cli.sweep_runs import Job, Runs, at_once_here
from maxrl_ops.cli.sweep_view import view, watch
from maxrl_ops.core.sweep import Axis, Sweep
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.rundir import RunDir

# The more samples, the faster; seed 1 with 8 samples is ill. Waits for a file where one is named.
TRAINER = """
import os, sys, time
seed, n = int(os.environ["MAXRL_SEED"]), int(os.environ["MAXRL_N_SAMPLES"])
print("RL Method: MaxRL\\nObjective: maxrl\\nIterations: 5\\nAttempt: 1\\n")
if (n, seed) == (8, 1):
    print("[bold]no[/bold] \\x1b[31mway")
    sys.exit(2)
for i in range(6):
    if i:
        print(f"Iteration {i}/5\\n  Correctness: {n}/{2 * n} (50.0%)\\n  Loss: {4 / i}")
        print("  Time: 0.50s\\n  [Fair - keep watching]")
    share = min(97, 30 + i * n * 2 + seed)
    print(f"Evaluation at {i}: greedy 36.0%, pass@1 {share}.0% +- 2.1%, pass@8 98.0%", flush=True)
while len(sys.argv) > 1 and not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print("Run finished: 5 iterations", flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "home"
    (tmp_path / "own_trainer.py").write_text(TRAINER)
    here = Place(home, clean_environment() | {"MAXRL_OPS_HOME": str(home), "COLUMNS": "100"})
    yield here
    (tmp_path / "gate").touch()
    here.command("stop", "--all", "--timeout", "20")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("MAXRL_", "USE_MAXRL"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MAXRL_OPS_NO_DAEMON", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def own(place: Place, *arguments: str) -> tuple[str, ...]:
    return ("--", sys.executable, str(place.home.parent / "own_trainer.py"), *arguments)


def run_dir(place: Place, name: str) -> RunDir:
    return RunDir(place.home / "runs" / name)


def names(place: Place) -> list[str]:
    runs = place.home / "runs"
    return sorted(path.name for path in runs.iterdir()) if runs.exists() else []


def attempts(place: Place) -> dict[str, int]:
    """How often a trainer has begun in each run."""
    logs = {name: run_dir(place, name).log for name in names(place)}
    return {name: log.read_text().count("RL Method") for name, log in logs.items() if log.exists()}


def begun(place: Place, arguments: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "maxrl_ops", *arguments],
        env=dict(place.env),
        cwd=place.home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_sweep_is_ordinary_runs_and_a_table_over_seeds(place: Place) -> None:
    asked = ("sweep", "n_samples=4,8,16", "--seeds", "2", "--name", "s", "--iterations", "5")
    done = place.command(*asked, "--html", "s.html", *own(place))

    assert (done.returncode, done.stderr) == (0, "")
    assert names(place) == sorted(f"s-n_samples-{n}-s{seed}" for n in (4, 8, 16) for seed in (0, 1))
    spec = RunSpec.load(run_dir(place, "s-n_samples-16-s1"))
    assert (spec.job_name, spec.mode) == ("s", "observe")
    assert spec.settings == {"iterations": 5, "n_samples": 16, "seed": 1}
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["n_samples", "4", "2", "70.5%", "±", "6.4%", "98.0%", "±", "0.0%", "-"] in lines
    assert ["n_samples", "8", "2,", "1", "failed", "97.0%", "98.0%", "+27.0%"] in lines
    # Iterations, and samples, to 50, 75, 90 and 95%; the last was held once only.
    cells = "1 of 2: 3", "1 of 2: 4", "1 of 2: 5", "never"
    assert ["n_samples", "8", *" ".join(cells).split()] in lines
    assert ["n_samples", "4", "32", "±", "0", "never", "never", "never"] in lines
    # What a trainer that failed has said is shown, and nothing of it is taken for markup.
    assert "s-n_samples-8-s1 is failed: exit code 2" in done.stdout
    assert "\x1b" not in done.stdout
    page = (place.home.parent / "s.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "n_samples 16" in page

    # Called again it only tells; and so does compare, in whatever form.
    states = {name: run_dir(place, name).state.read_bytes() for name in names(place)}
    again = place.command(*asked, "--json", *own(place))
    told = json.loads(again.stdout)
    assert (again.returncode, again.stderr) == (0, "")
    assert [point["finished"] for point in told["points"]] == [2, 1, 2]
    assert told["runs"][4]["reason"] == "exit code 2"
    compared = place.command("compare", "s", "--json", "--to", "again.html")
    assert json.loads(compared.stdout) == told
    assert (place.home.parent / "again.html").exists()
    assert {name: run_dir(place, name).state.read_bytes() for name in names(place)} == states

    # Another question under the same name is refused, and so is a run that somebody else made.
    for changed, what in (
        (("--seeds", "3"), "seeds 0,1,2 (was 0,1)"),
        (("--mode", "act"), "mode act (was observe)"),
        (("--learning-rate", "1e-3"), "learning_rate 0.001 (was not given)"),
    ):
        other = place.command(*asked, *changed, *own(place))
        assert other.returncode == 4
        assert f"a sweep s already, and it was asked for otherwise: {what}; give" in other.stderr


def test_one_that_was_killed_is_gone_on_with_and_nothing_begins_twice(place: Place) -> None:
    asked = ("sweep", "n_samples=4,16", "--seeds", "2", "--name", "s", "--at-once", "1")
    command = own(place, str(place.home.parent / "gate"))
    with begun(place, (*asked, *command)) as conductor:
        wait_until(lambda: "s-n_samples-4-s0" in attempts(place), 20, "a trainer")
        second = place.command(*asked, *command)
        conductor.kill()
    assert second.returncode == 4
    assert "somebody else conducts the sweep s: " in second.stderr
    # It died at whatever instant: a directory without run.json, and a run without supervisor.
    half_made = run_dir(place, "s-n_samples-4-s1")
    half_made.control.mkdir(parents=True)
    (half_made.path / ".run.json.77").write_text("{")
    (place.home / "sweeps" / ".s.json.77").write_text("{")
    made = run_dir(place, "s-n_samples-16-s1")
    made.control.mkdir(parents=True)
    settings = {"n_samples": 16, "seed": 1}
    RunSpec(made.name, "s", settings, command[1:], "2026-11-25", mode="observe").save(made)
    # Its first run goes on by itself, and ends.
    (place.home.parent / "gate").touch()
    first = run_dir(place, "s-n_samples-4-s0")
    wait_until(lambda: SupervisorState.load(first).state == "finished", 20, "its end")

    done = place.command("sweep", "--name", "s", "--json")

    assert done.returncode == 0, done.stderr
    assert [point["finished"] for point in json.loads(done.stdout)["points"]] == [2, 2]
    assert "1 of 4 runs are over already" in done.stderr
    assert attempts(place) == {f"s-n_samples-{n}-s{seed}": 1 for n in (4, 16) for seed in (0, 1)}
    left = [path.name for path in half_made.path.parent.parent.glob("*/.*.json.*")]
    assert left == []


def test_a_directory_that_holds_anything_is_never_cleared(place: Place) -> None:
    kept = run_dir(place, "s-n_samples-4-s0").control / "000001.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    done = place.command("sweep", "n_samples=4", "--seeds", "1", "--name", "s", *own(place))
    assert (done.returncode, kept.read_text()) == (4, "{}")
    assert "--name='s-n_samples-4-s0' is in use" in done.stderr


def test_a_run_whose_supervisor_was_killed_is_looked_after_again(place: Place) -> None:
    asked = ("sweep", "n_samples=4", "--seeds", "1", "--name", "s")
    command = own(place, str(place.home.parent / "gate"))
    run = run_dir(place, "s-n_samples-4-s0")
    with begun(place, (*asked, *command)) as conductor:
        wait_until(lambda: attempts(place) == {run.name: 1}, 20, "a trainer")
        conductor.kill()
    supervisor = SupervisorState.load(run).supervisor
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    with begun(place, ("sweep", "--name", "s", "--json")) as conductor:
        (place.home.parent / "gate").touch()
        said, complaint = conductor.communicate(timeout=60)
    # The trainer ended in whoever's care; its run has one end.
    assert conductor.returncode in (0, 1), complaint
    [told] = json.loads(said)["runs"]
    assert told["state"] in ("finished", "failed")
    assert told["iterations"] == 5


def test_ctrl_c_starts_no_more_and_says_how_to_go_on(place: Place) -> None:
    asked = ("sweep", "n_samples=4,16", "--seeds", "1", "--name", "s", "--at-once", "1")
    with begun(place, (*asked, *own(place, str(place.home.parent / "gate")))) as conductor:
        wait_until(lambda: "s-n_samples-4-s0" in attempts(place), 20, "a trainer")
        os.killpg(conductor.pid, signal.SIGINT)
        said, complaint = conductor.communicate(timeout=30)
    assert (conductor.returncode, complaint) == (130, "")
    assert (
        "No more runs of s begin: 1 of 2 have not. By themselves go on: s-n_samples-4-s0 "
        "(maxrl-ops stop NAME ends one). To go on with the rest: maxrl-ops sweep --name s\n"
    ) in said
    assert place.told("s-n_samples-4-s0")["state"] in ("starting", "running")
    # What there is can be looked at meanwhile: no run is a result yet.
    meanwhile = place.command("compare", "s")
    assert meanwhile.returncode == 1
    assert "s-n_samples-16-s0 has not begun" in meanwhile.stdout


def test_the_daemon_has_all_cores_and_ctrl_c_says_how_to_go_on_from_the_first(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str | None] = []

    def interrupted() -> None:
        told.append(os.environ.get("OMP_NUM_THREADS"))
        raise KeyboardInterrupt

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("maxrl_ops.cli.start.bring_daemon_up", interrupted)
    asked = ["sweep", "samples", "--task", "arithmetic", "--seeds", "1", "--at-once", "2"]
    assert run(asked) == 130
    assert told == [None]
    assert capsys.readouterr().out == (
        "\nNo more runs of samples begin: 4 of 4 have not. "
        "To go on with the rest: maxrl-ops sweep --name samples\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "say what to vary, as: maxrl-ops sweep threshold"),
        (["--name", "s"], 3, "there is no sweep 's' yet: say what to vary"),
        (["tempratur"], 2, "there is no preset 'tempratur' (did you mean temperature?)"),
        (["n_sampels=4,8"], 2, "there is no setting 'n_sampels' (did you mean n_samples?)"),
        (["n_samples=4,1"], 2, "n_samples='1' is not allowed: give a whole number from 2 to 1024"),
        (["n_samples=4", "--seeds", "many"], 2, "--seeds='many' is not allowed"),
        (["samples", "threshold", "--seeds", "17"], 2, "that would be 272 runs"),
        (["samples", "--n-samples", "8"], 2, "--n-samples: n_samples is varied: leave it out"),
        (["samples", "--seed", "1"], 2, "--seed: give --seeds"),
        (["samples", "--name", "a/b"], 2, "--name='a/b' is not allowed"),
        (["samples", "--at-once", "0"], 2, "invalid value for '--at-once'"),
        (["samples", "--mode", "watch"], 2, "--mode='watch' is not allowed"),
        (["samples", "--html", "no/where.html"], 2, "there is no directory"),
        (["samples", "--config", "none.toml"], 3, "there is no file none.toml"),
        (["samples", "--learning-rate", "9"], 2, "--learning-rate='9' is not allowed"),
        (["task=arithmetic,none.jsonl"], 3, "none.jsonl: "),
        (["task=arithmetic,nothing"], 2, "task='nothing' is not allowed"),
        (["checkpoint=./none"], 3, "checkpoint ./none does not exist"),
        (["objective=grpo,maxrl", "use_maxrl=true"], 2, "contradict each other: grpo is a GRPO"),
        (["objective=grpo,maxrl", "--algorithm", "grpo"], 2, "--algorithm: what is varied says"),
        (["samples", "--"], 2, "nothing stands after --"),
        (["samples", "--", "run", "--api-key=x"], 2, "looks like a secret"),
    ],
)
def test_wrong_input_is_refused_before_anything_begins(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    # So that no compiler is looked for.
    (home.parent / "c.toml").write_text('task = "arithmetic"')
    config = [] if {"--name", "--config", "--"} & {*arguments} else ["--config", "c.toml"]
    assert said in refused(["sweep", *(config if arguments else []), *arguments], capsys, code)
    assert not (home / "runs").exists()
    assert not list(home.glob("sweeps/*.json"))


def a_sweep(**changes: Any) -> Sweep:
    axes = (Axis("n_samples", (4, 8)),)
    return Sweep("s", "s", axes, (0, 1), {"task": "arithmetic"}, created="2026-11-25", **changes)


def test_a_run_of_that_name_that_is_not_of_the_sweep_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(home / "runs" / "samples-n_samples-4-s0")
    run.path.mkdir(parents=True)
    other = RunSpec(run.name, "samples", {"seed": 0}, (), "2026-11-25", mode="observe")
    settings = {"task": "arithmetic", "n_samples": 4, "seed": 0}
    for spec in (other, replace(other, settings=settings, restart_on_boot=True)):
        spec.save(run)
        said = refused(["sweep", "samples", "--task", "arithmetic"], capsys, 4)
        assert f"there is a run {run.name} already, and it is not of this sweep" in said
    assert not list(home.glob("sweeps/*.json"))


def jobs_of(asked: Sweep) -> list[Job]:
    return [
        Job(each, Asked({**asked.settings, **each.point, "seed": each.seed}, (), "s", "observe",
                        None))
        for each in asked.runs()
    ]  # fmt: skip


def test_a_run_whose_supervisors_die_is_given_up_and_not_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = a_sweep()
    [job, *_] = jobs_of(asked)
    found = RunDir(home / "runs" / job.name)
    found.path.mkdir(parents=True)
    RunSpec(job.name, "s", job.asked.settings, (), "2026-11-25", mode="observe").save(found)
    begun: list[str] = []
    monkeypatch.setattr(
        "maxrl_ops.cli.sweep_runs.supervising.supervise", lambda _, run: begun.append(run.name)
    )
    monkeypatch.setattr("maxrl_ops.cli.sweep_runs._COMING_UP_SECONDS", 0.0)
    monkeypatch.setattr("maxrl_ops.cli.sweep_view._FRAME_SECONDS", 0.0)
    runs = Runs(asked, [job], 1)
    console = Console(width=80, record=True, file=io.StringIO())
    watch(runs, console)
    assert begun == [job.name] * 3
    assert (runs.over, runs.given_up) == (0, [job.name])
    *_, last = console.export_text().splitlines()
    assert last == f"{job.name} is given up: one supervisor after the other has died"


def test_a_sweep_somebody_conducts_and_one_that_is_damaged(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "sweeps").mkdir(parents=True)
    sweep_file.save(home / "sweeps" / "s.json", a_sweep())
    held = locks.acquire(home / "sweeps" / ".s.lock", signed=True)
    assert "held by pid" in refused(["sweep", "--name", "s"], capsys, 4)
    os.close(held)
    for words in (["--seeds", "2"], ["--iterations", "3"], ["--mode", "act"], ["--", "x"]):
        said = refused(["sweep", "--name", "s", *words], capsys, 2)
        assert "say what to vary too, or give only --name to go on with s" in said
    (home / "sweeps" / "s.json").write_text("{}")
    for arguments in (["sweep", "--name", "s"], ["compare", "s"]):
        assert "s.json" in refused(arguments, capsys, 1)
    assert "two runs or more, as: maxrl-ops compare grpo maxrl; or the name of a sweep" in refused(
        ["compare", "t"], capsys, 2
    )


def test_the_live_view_shows_points_by_seeds(home: Path) -> None:
    asked = a_sweep()
    jobs = jobs_of(asked)
    run = RunDir(home / "runs" / jobs[0].name)
    run.control.mkdir(parents=True)
    settings = jobs[0].asked.settings
    RunSpec(run.name, "s", settings, (), "2026-11-25", mode="observe").save(run)
    SupervisorState("finished", "2026-11-25T00:00:00Z").save(run)
    run.log.write_text("Evaluation at 5: greedy 36.0%, pass@1 91.0% +- 2.1%\n")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view(Runs(asked, jobs, 1), 24))
    shown = console.export_text()
    assert "1 of 4 runs are over, 0 go on" in shown
    assert ["n_samples", "4", "0.91", "-"] in [
        line.strip("│ ").split() for line in shown.splitlines()
    ]


def test_how_many_at_once_goes_by_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxrl_ops.cli.sweep_runs.cores", lambda: 3)
    for memory, runs in ((1 << 40, 3), (5 << 29, 2), (1 << 20, 1), (None, 3)):
        monkeypatch.setattr("maxrl_ops.cli.sweep_runs.free_memory", lambda free=memory: free)
        assert at_once_here({"device": "cpu"}) == runs


def test_a_sweep_of_the_real_trainer(place: Place) -> None:
    done = place.command(
        *("sweep", "n_samples=4,8", "--seeds", "7,", "--task", "arithmetic", "--iterations", "2"),
        *("--evaluation-prompts", "16", "--evaluate-every", "1", "--json"),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [point["finished"] for point in told["points"]] == [1, 1]
    four, eight = told["runs"]
    assert (four["iterations"], eight["samples"]) == (2, 2 * four["samples"])
    assert four["seconds"] > 0
    assert set(four["pass_at"]) == {"1", "8"}
