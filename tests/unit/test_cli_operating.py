"""A person's word on the autopilot: approve, decline, freeze, modes; each is journaled once."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import refused
from scripted import ScriptedTrainer, make_run

from maxrl_ops import operator_files, processes
from maxrl_ops.cli.app import run
from maxrl_ops.core.decision import Decision, Declined, Frozen, ModeSet, PolicyChanged
from maxrl_ops.core.policy import Low, Mode, Policy
from maxrl_ops.operator_files import Wish
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire import control
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.rundir import RunDir


class Host:
    """A home with one run, whose trainer and daemon turn when the test says so."""

    def __init__(self, path: Path, mode: str = "act", policy: Policy | None = None) -> None:
        self.home = Home(path)
        self.run = make_run(path, mode=mode)
        me = processes.identity_of(os.getpid())
        SupervisorState("running", "2026-11-24T00:00:00Z", supervisor=me, attempt=1).save(self.run)
        self.trainer = ScriptedTrainer(self.run, iterations=600)
        self.trainer.begin()
        self.policy = policy or Policy()
        self.wake()

    def wake(self) -> None:
        """A daemon takes the run up, as after a kill."""
        self.store = Store(self.home.history)
        spec = RunSpec.load(self.run)
        frozen = self.home
        self.watch = RunWatch(
            self.run, spec, self.store, self.policy, lambda: operator_files.is_frozen(frozen)
        )

    def restart(self) -> None:
        self.store.close()
        self.wake()

    def turn(self, steps: int = 0) -> None:
        for _ in range(steps):
            self.trainer.step()
            self.look()
        self.look()

    def look(self) -> None:
        while self.watch.tick(is_over=False):
            pass

    def events(self, kind: type) -> list[Any]:
        return [each for each in self.store.events(self.watch.id) if isinstance(each, kind)]

    def journal(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert run(["decisions", "one", "--json"]) == 0
        return list(json.loads(capsys.readouterr().out))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SUDO_UID", raising=False)
    return tmp_path


@pytest.fixture
def suggesting(place: Path) -> Iterator[Host]:
    """A run whose LOW has a suggestion that waits."""
    host = Host(place, "suggest")
    host.turn(30)
    with closing(host.store):
        yield host


def controls(directory: RunDir) -> list[int]:
    return control.revisions(directory.control)


# --- Suggestions ----------------------------------------------------------------------------------


def test_what_is_approved_comes_into_force_under_its_intent(
    suggesting: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (waits,) = suggesting.journal(capsys)
    assert (waits["outcome"], waits["revision"]) == ("suggested", None)
    assert not controls(suggesting.run)
    monkeypatch.setattr("maxrl_ops.cli.change.time.sleep", lambda _: suggesting.turn(1))
    assert run(["approve", "one"]) == 0
    assert "control 1 applied" in capsys.readouterr().out
    found = control.read(suggesting.run.control, 1)
    assert found is not None
    assert (found.intent, found.author) == (waits["intent"], f"uid:{os.getuid()}")
    suggesting.turn(1)
    (entry,) = suggesting.journal(capsys)
    assert (entry["outcome"], entry["revision"], entry["by"]) == ("applied", 1, "rule:LOW")
    assert entry["effective"]["correctness_threshold"] == 25.0
    # Again is nothing to approve any more; and a daemon that starts anew sees it the same way.
    assert "no suggestion that waits" in refused(["approve", "one"], capsys, 3)
    suggesting.restart()
    suggesting.turn(1)
    assert suggesting.journal(capsys) == [entry]
    assert not suggesting.watch.state.suggested


def test_it_is_approved_once(suggesting: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["approve", "one", "--wait", "0"]) == 0
    assert "published and not answered yet" in capsys.readouterr().out
    # Before the daemon has seen it.
    assert "no suggestion that waits" in refused(["approve"], capsys, 3)
    assert controls(suggesting.run) == [1]


def test_what_is_declined_is_not_made_again(
    suggesting: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["decline", "one"]) == 0
    assert "LOW is not to set correctness_threshold to 25" in capsys.readouterr().out
    assert "no suggestion that waits" in refused(["decline", "one"], capsys, 3)
    suggesting.turn(40)
    assert len(suggesting.events(Declined)) == 1
    first, *others = suggesting.journal(capsys)
    assert first["outcome"] == "declined"
    assert all(entry["control"] != first["control"] for entry in others)
    suggesting.restart()
    suggesting.turn(1)
    assert len(suggesting.events(Declined)) == 1


def test_other_values_outdate_a_suggestion(
    suggesting: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["set", "n_samples=16", "--run", "one", "--wait", "0"]) == 0
    suggesting.turn(2)
    first = suggesting.journal(capsys)[0]
    assert first["outcome"] == "superseded"
    assert "no suggestion that waits" in refused(["approve", "one"], capsys, 3)


def test_which_suggestion(suggesting: Host, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["approve", "one", "LOW:treshold:1.24"], capsys, 3)
    assert said == (
        "one has no suggestion 'LOW:treshold:1.24' (did you mean LOW:threshold:1.24?); "
        "these wait: LOW:threshold:1.24"
    )
    assert run(["decline", "one", "LOW:threshold:1.24"]) == 0


def test_a_suggestion_for_people(suggesting: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions"]) == 0
    assert "maxrl-ops approve one LOW:threshold:1.24" in capsys.readouterr().out


# --- Modes ----------------------------------------------------------------------------------------


def test_a_run_that_only_observes_is_let_act(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(place, "observe")
    host.turn(10)
    assert run(["set", "mode=act", "--run", "one"]) == 0
    said = "one: the autopilot's mode is act (no daemon is running: it counts once one does).\n"
    assert capsys.readouterr().out == said
    host.turn(20)
    with closing(host.store):
        (event,) = host.events(ModeSet)
        assert (event.mode, event.iteration, event.author) == (Mode.ACT, 10, f"uid:{os.getuid()}")
        (decision,) = host.events(Decision)
        assert decision.mode is Mode.ACT
        set_entry, low = host.journal(capsys)
        assert (set_entry["control"], set_entry["outcome"]) == ({"mode": "act"}, "applied")
        assert low["outcome"] == "applied"
        assert run(["status", "one", "--json"]) == 0
        (shown,) = json.loads(capsys.readouterr().out)["runs"]
        assert shown["mode"] == "act"
        host.restart()
        host.turn(1)
        assert len(host.events(ModeSet)) == 1
        assert host.watch.state.mode is Mode.ACT


def test_a_damaged_mode_changes_nothing(place: Path) -> None:
    host = Host(place)
    host.run.mode.write_text('{"mode": "acct"}')
    host.turn(30)
    with closing(host.store):
        assert host.watch.state.mode is Mode.ACT
        assert len(host.events(Decision)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "mode=acct"], 2, "mode='acct' is not allowed (did you mean act?): give one of"),
        (["set", "mode=act", "n_samples=8"], 2, "mode=VALUE stands alone"),
        (["set", "mode=act", "--run", "two"], 3, "there is no run 'two'"),
        (["approve", "two"], 3, "there is no run 'two'"),
        (["decline", "one"], 3, "one has no suggestion that waits"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    Host(place).store.close()
    assert words in refused(arguments, capsys, code)


# --- The host's autopilot -------------------------------------------------------------------------


def test_a_frozen_host_changes_nothing_until_it_is_free(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(place)
    host.turn(10)
    assert run(["freeze"]) == 0
    assert "is frozen, since 20" in capsys.readouterr().out
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["daemon"]["frozen"] is True
    assert run(["status"]) == 0
    assert "the autopilot is frozen: maxrl-ops unfreeze" in capsys.readouterr().out
    host.turn(30)
    assert not host.events(Decision)
    assert run(["decisions", "one", "--why-not"]) == 0
    told = capsys.readouterr().out
    assert "held: the autopilot of this host is frozen" in " ".join(told.split())
    host.restart()
    host.turn(1)
    assert [event.is_frozen for event in host.events(Frozen)] == [True]
    assert run(["unfreeze"]) == 0
    assert "is free again" in capsys.readouterr().out
    host.turn(12)
    with closing(host.store):
        assert [event.is_frozen for event in host.events(Frozen)] == [True, False]
        assert len(host.events(Decision)) == 1
    assert run(["unfreeze"]) == 0
    assert capsys.readouterr().out == "It is not frozen.\n"


def test_a_freeze_comes_before_what_was_decided_and_is_not_out_yet(place: Path) -> None:
    host = Host(place)
    host.turn(23)
    host.trainer.step()
    # The freeze comes between the decision and its control.
    before = host.watch._publish_intended

    def late(*, is_over: bool) -> bool:
        if host.watch._controls.intended:
            operator_files.freeze(host.home, Wish("uid:1", "2026"))
        return before(is_over=is_over)

    host.watch._publish_intended = late  # type: ignore[method-assign]
    host.turn()
    with closing(host.store):
        assert len(host.events(Decision)) == 1
        assert not controls(host.run)


def test_the_first_freeze_keeps_its_word(place: Path) -> None:
    home = Home(place)
    operator_files.freeze(home, Wish("uid:1", "2026-11-24"))
    operator_files.freeze(home, Wish("uid:2", "2026-11-25"))
    assert operator_files.frozen_by(home) == Wish("uid:1", "2026-11-24")
    home.frozen.write_text("nonsense")
    assert operator_files.frozen_by(home) == Wish("unknown", "")


# --- Policies -------------------------------------------------------------------------------------


def test_another_policy_is_an_event_before_what_it_governs(place: Path) -> None:
    host = Host(place, policy=Policy(low=Low(below=0.3)))
    host.turn(40)
    assert not host.events(Decision)
    host.watch.judge_by(Policy())
    host.turn(20)
    decisions = host.events(Decision)
    assert len(decisions) == 1
    assert decisions[0].iteration > 40
    changed = host.events(PolicyChanged)
    assert [(event.iteration, event.policy["low"]["below"]) for event in changed] == [
        (0, 0.3),
        (40, 0.5),
    ]
    # Whoever folds the stored events again is where this daemon was, decisions and all.
    state = host.watch.state
    host.policy = Policy()
    host.restart()
    host.look()
    with closing(host.store):
        assert host.watch.policy == Policy()
        assert host.watch.state == state
        assert host.events(Decision) == decisions
        assert len(host.events(PolicyChanged)) == 2


# --- Why not --------------------------------------------------------------------------------------


def test_why_not_as_json(suggesting: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions", "one", "--why-not", "--json"]) == 0
    holds = json.loads(capsys.readouterr().out)
    assert {frozenset(held) for held in holds} == {
        frozenset({"run", "iteration", "rule", "because"})
    }
    assert "its suggestion waits for approval" in holds[-1]["because"]


def test_why_not_of_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions", "--why-not"]) == 0
    assert "No daemon has run here yet" in capsys.readouterr().out
    assert run(["decisions", "--why-not", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    Store(place / "history.db").close()
    assert run(["decisions", "--why-not"]) == 0
    assert capsys.readouterr().out == "Nothing has been held yet.\n"
