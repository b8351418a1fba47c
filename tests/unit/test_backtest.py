"""`backtest`: the live decisions again from the log alone, and what another policy would do."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from commands import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedTrainer, header, make_run, record

from maxrl_ops.cli.app import run
from maxrl_ops.core.backtest import Backtest, backtest
from maxrl_ops.core.decision import Decision
from maxrl_ops.core.policy import Limits, Low, Mode, Policy
from maxrl_ops.dialects import Past, load
from maxrl_ops.event_json import encode
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import Change, ControlApplied, ControlRejected, Event

POLICY = Policy()
LOGS = Path(__file__).parents[1] / "golden" / "logs"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def lived(home: Path, steps: int = 300, seed: int = 3) -> tuple[Path, list[Decision]]:
    """A run of 41% that a daemon looked after: its log, and what was decided."""
    directory = make_run(home)
    store = Store(home / "history.db")
    watch = RunWatch(directory, RunSpec.load(directory), store, Policy())
    trainer = ScriptedTrainer(directory, iterations=600)
    trainer.begin()
    lots = random.Random(seed)
    for _ in range(steps):
        trainer.correct = 22 + lots.randrange(9)
        trainer.step()
        watch.tick(is_over=False)
    events = list(store.events(watch.id))
    store.close()
    return directory.log, [event for event in events if isinstance(event, Decision)]


def folded(events: list[Event], policy: Policy = POLICY, pieces: int = 7) -> Backtest:
    return backtest((events[at : at + pieces] for at in range(0, len(events), pieces)), policy)


def events_of(log: Path) -> list[Event]:
    reader = load("guide").open(Past())
    return reader.feed(log.read_bytes()) + reader.close()


@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_the_log_of_a_live_run_gives_its_decisions_to_the_byte(home: Path, pieces: int) -> None:
    log, decisions = lived(home)
    assert len(decisions) >= 2
    found = folded(events_of(log), pieces=pieces)
    assert [encode(each.decision) for each in found.decisions] == [encode(d) for d in decisions]
    assert {each.acknowledged for each in found.decisions} == {"recorded"}
    assert found.assumed == 0


def low(first: int, last: int, threshold: float = 30.0) -> list[Event]:
    return [record(n, threshold=threshold, iterations=600) for n in range(first, last + 1)]


def test_what_the_log_does_not_do_is_assumed_and_not_judged() -> None:
    found = folded([header(iterations=600), *low(1, 300)])
    first, *rest = found.decisions
    assert (first.decision.iteration, first.held, first.acknowledged) == (24, 0, "assumed")
    assert first.revision == 1
    # No verdict on it, and so nothing is put back: the log knows nothing of the change.
    assert all(each.judged is None for each in found.decisions)
    assert [each.decision.rung for each in rest].count("put_back") == 0
    assert [each.revision for each in found.decisions] == [*range(1, len(found.decisions) + 1)]
    assert found.state.in_force.correctness_threshold == 25.0


def test_the_first_firing_and_its_delay() -> None:
    found = folded([header(iterations=600), *low(1, 60)])
    firing, again = [each for each in found.firings if each.rule == "LOW"]
    # A window of twenty, five verdicts in a row: it rests on all iterations up to its own.
    assert (firing.iteration, firing.delay) == (24, 24)
    assert firing.evidence["upper"] < 0.5  # type: ignore[operator]
    # Other values are in force from 25 on, which ends the firing and is no flap.
    assert (firing.ended, again.iteration, found.flaps) == (24, 48, 0)


@pytest.mark.parametrize(
    ("answer", "acknowledged"),
    [
        (ControlApplied(1, 27, (Change("correctness_threshold", "25.0", "30.0"),)), "recorded"),
        (ControlRejected(1, "no"), "recorded"),
        # Somebody else's change of something else.
        (ControlApplied(1, 27, (Change("n_samples", "16", "8"),)), "assumed"),
        (ControlApplied(1, 27, (Change("correctness_threshold", "20.0", "30.0"),)), "assumed"),
        (ControlRejected(2, "no"), "assumed"),
    ],
)
def test_whose_answer_it_is(answer: Event, acknowledged: str) -> None:
    found = folded([header(iterations=600), *low(1, 26), answer, *low(27, 60, 25.0)])
    assert found.decisions[0].acknowledged == acknowledged


def test_an_answer_after_more_than_four_iterations_is_none() -> None:
    answer = ControlApplied(1, 30, (Change("correctness_threshold", "25.0", "30.0"),))
    found = folded([header(iterations=600), *low(1, 29), answer, *low(30, 60, 25.0)])
    assert found.decisions[0].acknowledged == "assumed"
    # The log's own revision is counted on behind the assumed one.
    assert found.state.revision == 2


def test_another_policy_decides_otherwise() -> None:
    events = [header(iterations=600), *low(1, 60)]
    assert not folded(events, Policy(low=Low(below=0.3))).decisions
    (decided,) = folded(events, Policy(mode=Mode.SUGGEST)).decisions
    assert (decided.decision.mode, decided.acknowledged, decided.revision) == (
        "suggest",
        None,
        None,
    )
    assert not folded(events, Policy(limits=Limits(least_left=590))).decisions


def test_a_rule_that_comes_back_under_the_same_values_flaps() -> None:
    policy = Policy(mode=Mode.OBSERVE)
    shares = [26] * 40 + [50] * 60 + [26] * 80
    events = [record(n, k, threshold=20.0, iterations=600) for n, k in enumerate(shares, 1)]
    found = folded([header(iterations=600), *events], policy)
    assert [each.rule for each in found.firings].count("LOW") == 2
    assert found.flaps == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 64), min_size=30, max_size=150),
    st.integers(1, 50),
    st.sampled_from([20.0, 30.0]),
)
def test_how_the_log_is_cut_changes_nothing(shares: list[int], pieces: int, level: float) -> None:
    events = [record(n, k, threshold=level, iterations=600) for n, k in enumerate(shares, 1)]
    log: list[Event] = [header(iterations=600), *events]
    once, cut = (folded(log, pieces=size) for size in (len(log), pieces))
    assert [asdict(each) for each in once.decisions] == [asdict(each) for each in cut.decisions]
    assert once.firings == cut.firings


# --- The command ----------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_run_by_its_name_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, decisions = lived(home, steps=60)
    assert run(["backtest", "one", "--json"]) == 0
    shown = told(capsys)
    keys = "log dialect iterations policy judged_at firings decisions flaps"
    assert set(keys.split()) <= shown.keys()
    assert (shown["log"], shown["dialect"], shown["policy"]) == ("one", "guide", "guide")
    assert (shown["iterations"], shown["judged_at"]) == (60, "reference threshold")
    assert shown["firings"][1]["rule"] == "LOW"
    (decided,) = shown["decisions"]
    assert decided["control"] == decisions[0].changes
    assert decided["because"] == decisions[0].because
    assert (decided["acknowledged"], shown["assumed"]) == ("recorded", 0)
    # What rotation made of the log is a part of it.
    text = log.read_text()
    half = text.index("Iteration 30/")
    log.with_name("trainer.log.1").write_text(text[:half])
    log.write_text(text[half:])
    assert run(["backtest", "one", "--json"]) == 0
    assert told(capsys) == shown


def test_a_table_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "some.log"
    log.write_text("".join(render(e) for e in [header(iterations=600), *low(1, 60)]))
    assert run(["backtest", str(log)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "guide, 60 iterations, policy guide: 4 firings, 1 decisions, 0 flaps" in printed
    assert "LOW 24 24 24 41% (38% to 44%) over 20" in printed
    assert "iteration 24 LOW correctness_threshold to 25* 0 iterations after it fired" in printed
    assert "* assumed to be acknowledged" in printed


def test_several_logs_and_another_policy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "some.log"
    log.write_text("".join(render(e) for e in [header(iterations=600), *low(1, 60)]))
    (home / "strict.toml").write_text("low.below = 0.3\n")
    arguments = ["backtest", str(log), str(log), "--json", "--policy", str(home / "strict.toml")]
    assert run(arguments) == 0
    first, second = told(capsys)
    assert first == second
    assert (first["policy"], first["decisions"]) == (str(home / "strict.toml"), [])
    assert run(["backtest", str(log), "--json", "--policy", "observe"]) == 0
    (decided,) = told(capsys)["decisions"]
    assert (decided["mode"], decided["acknowledged"]) == ("observe", None)


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_every_dialect_is_read(log: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backtest", str(log), "--json"]) == 0
    shown = told(capsys)
    assert shown["dialect"] == log.name.partition(".")[0]
    assert shown["iterations"] > 0
    assert shown["judged_at"] in {"live threshold", "reference threshold"}
    assert run(["backtest", str(log), "--dialect", shown["dialect"], "--json"]) == 0
    assert told(capsys) == shown


def test_a_log_without_a_reference_threshold_gets_suggestions(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = home / "foreign.log"
    blocks = (f"Iteration {n}/600\n  Correctness: 26/64 (40.6%)\n" for n in range(1, 300))
    log.write_text("".join(blocks))
    assert run(["backtest", str(log), "--json"]) == 0
    shown = told(capsys)
    assert shown["judged_at"] == "live threshold"
    assert {each["acknowledged"] for each in shown["decisions"]} <= {None}
    assert run(["backtest", str(log)]) == 0
    assert "judged at the live threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.log"], 3, "there is no file and no run 'none.log'"),
        (["shopping"], 1, "no line of it tells its format; give --dialect"),
        (["shopping", "--dialect", "guide"], 1, "it tells no iteration, read as guide"),
        (["shopping", "--dialect", "gide"], 2, "there is no dialect 'gide': give guide or"),
        (["shopping", "--policy", "none.toml"], 3, "there is no file none.toml"),
        (["shopping", "--policy", "shopping"], 2, "shopping:1:5: "),
        (["."], 2, "Is a directory"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(home)
    (home / "shopping").write_text("milk\n")
    assert words.lower() in refused(["backtest", *arguments], capsys, code).lower()


def test_hostile_words_stay_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = home / "x\x1b]0;y\x07[red].log"
    log.write_text("".join(render(e) for e in [header(iterations=600), *low(1, 60)]))
    assert run(["backtest", str(log)]) == 0
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)
