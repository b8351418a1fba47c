"""`decisions`, and what status says of them: from a real history."""

import json
from pathlib import Path

import pytest
from commands import refused
from scripted import ScriptedTrainer, make_run

from maxrl_ops.cli.app import run
from maxrl_ops.core.entry import Entry, Held, Told, autopilot_sentence, decision_sentence
from maxrl_ops.core.policy import Policy
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.control import Control, TrainingState, publish
from maxrl_ops.wire.documents import RunSpec, SupervisorState
from maxrl_ops.wire.rundir import RunDir

HOSTILE = "\x1b]0;owned\x07[red]\u202ex\r\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def rescued(home: Path) -> Path:
    """A run that LOW rescued, as a daemon saw it."""
    directory = make_run(home)
    SupervisorState("finished", "2026-11-24T00:00:00Z", attempt=1).save(directory)
    watched(directory, 40)
    return home


def watched(directory: RunDir, iterations: int) -> None:
    home = directory.path.parent.parent
    store = Store(home / "history.db")
    watch = RunWatch(directory, RunSpec.load(directory), store, Policy())
    trainer = ScriptedTrainer(directory)
    trainer.begin()
    for _ in range(iterations):
        trainer.step()
        watch.tick(is_over=False)
    store.close()


def test_a_decision_as_json(rescued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions", "one", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    shape = "revision run iteration time by rule evidence control outcome effective judged because"
    assert set(shape.split()) <= entry.keys()
    assert (entry["run"], entry["iteration"], entry["revision"]) == ("one", 24, 1)
    assert (entry["by"], entry["rule"], entry["outcome"]) == ("rule:LOW", "LOW", "applied")
    assert entry["control"] == {"correctness_threshold": 25.0}
    assert entry["effective"]["correctness_threshold"] == 25.0
    assert entry["evidence"]["samples"] == 20 * 64
    assert entry["judged"] is None


def test_a_decision_for_people(rescued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "iteration 24 rule:LOW correctness_threshold to 25 applied revision 1 at 25" in printed
    assert "correctness at the reference threshold 20 was 41%" in printed
    assert "effective_samples" in printed


def test_what_a_change_was_worth(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched(make_run(home), 70)
    assert run(["decisions", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["judged"] == "inconclusive"
    judgement = entry["judgement"]
    assert (judgement["iteration"], judgement["before"], judgement["after"]) == (64, 0.4062, 0.4062)
    # Counterfactual: at the threshold that was given up still nothing would be correct.
    assert (judgement["old_threshold"], judgement["at_old_threshold"]) == (30, 0)
    assert run(["decisions"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "inconclusive by iteration 64: correctness went from 41% to 41%" in printed


def test_status_tells_the_last_decision(rescued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (shown,) = told["runs"]
    said = "LOW set correctness_threshold to 25, in force from iteration 25 (revision 1)"
    assert shown["last_decision"] == said
    assert said in shown["sentence"]
    assert shown["mode"] == "act"
    assert told["daemon"]["problem"] is None


def test_nothing_yet(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert run(["decisions"]) == 0
    assert "No daemon has run here yet" in capsys.readouterr().out
    Store(home / "history.db").close()
    assert run(["decisions"]) == 0
    assert "Nothing has been decided yet" in capsys.readouterr().out


def test_a_run_that_is_not_there(rescued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run 'on' (did you mean one?)" in refused(["decisions", "on"], capsys, 3)


def test_a_history_that_is_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "history.db").write_text("shopping list\n" * 99)
    assert "history.db" in refused(["decisions"], capsys, 1)
    make_run(home)
    assert run(["status"]) == 0
    assert "the journal cannot be read" in capsys.readouterr().out
    assert run(["status", "--json"]) == 0
    assert "history.db" in json.loads(capsys.readouterr().out)["daemon"]["problem"]


def test_hostile_words_of_a_control_stay_words(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = make_run(home)
    store = Store(home / "history.db")
    watch = RunWatch(directory, RunSpec.load(directory), store, Policy())
    trainer = ScriptedTrainer(directory)
    trainer.begin()
    state = TrainingState(HOSTILE, 25.0, 1.0, 8, 0.1)
    publish(directory.control, Control(1, 0, state, HOSTILE, HOSTILE, "2026"))
    trainer.step()
    watch.tick(is_over=False)
    store.close()
    for command in (["decisions"], ["status"]):
        assert run(command) == 0
        printed = capsys.readouterr().out
        assert "[red]" in printed
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(printed)


def entry(outcome: str, by: str = "rule:LOW", **changes: object) -> Entry:
    values: dict[str, object] = {
        "revision": 1,
        "run": "one",
        "iteration": 24,
        "time": None,
        "by": by,
        "rule": "LOW" if by.startswith("rule") else None,
        "evidence": {},
        "control": {"n_samples": 16},
        "outcome": outcome,
        "effective": None,
        "judged": None,
        "because": "it was low",
        "answered_at": 26,
    }
    return Entry(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (entry("applied"), "LOW set n_samples to 16, in force from iteration 26 (revision 1)"),
        (entry("applied", "uid:7"), "uid:7 set n_samples to 16"),
        (
            entry("rejected"),
            "LOW wanted to set n_samples to 16 (revision 1), the trainer rejected it: it was low",
        ),
        (entry("unconfirmed"), "and the trainer does not answer"),
        (entry("superseded"), "at iteration 24, it came too late: it was low"),
        (entry("suggested"), "LOW suggests to set n_samples to 16 at iteration 24"),
        (
            entry("observed"),
            "LOW would have set n_samples to 16 at iteration 24, but only observes",
        ),
        (entry("published"), "LOW sets n_samples to 16 (revision 1), the trainer has not answered"),
        (entry("rejected", "unknown", control={}), "unknown wanted to change something"),
    ],
)
def test_every_outcome_has_its_words(told: Entry, words: str) -> None:
    assert words in decision_sentence(told)
    sentence = autopilot_sentence(Told(last=told), is_active=False)
    whose = "Autopilot: " if told.rule else "Last change: "
    assert sentence == f"{whose}{decision_sentence(told)}."


def test_without_a_decision_a_live_run_says_why() -> None:
    held = Told(held=Held("one", 20, "LOW", "LOW not fired: upper bound 0.53"))
    said = "Autopilot: LOW not fired: upper bound 0.53 (since iteration 20)."
    assert autopilot_sentence(held, is_active=True) == said
    assert autopilot_sentence(held, is_active=False) is None
    assert autopilot_sentence(Told(), is_active=True) is None
