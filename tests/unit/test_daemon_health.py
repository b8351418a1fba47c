"""/healthz and /readyz: what the loop says of itself."""

from pathlib import Path

import pytest
from scripted import ScriptedTrainer, make_run

from maxrl_ops import daemon, run_watch, seen_run
from maxrl_ops.daemon import Daemon
from maxrl_ops.exporter import Exporter
from maxrl_ops.policy_file import PolicyFile
from maxrl_ops.settings import Home
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import SupervisorState


def test_a_loop_that_stands_still_is_not_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "history.db")
    looking = Daemon(Home(tmp_path), store, Exporter(), PolicyFile())
    trainer = ScriptedTrainer(make_run(tmp_path))
    trainer.begin()
    trainer.step()
    assert looking.not_ready() == "still reading what was written before"
    while looking.turn():
        assert looking.not_ready() is not None
    assert looking.not_ready() is None
    assert looking.not_alive() is None
    later = daemon.time.monotonic() + 16
    with monkeypatch.context() as patched:
        patched.setattr(daemon.time, "monotonic", lambda: later)
        assert looking.not_alive() == "the tail loop has stood still for 16 s"
        looking.turn()
        assert looking.not_alive() is None
    store.close()


def test_a_run_has_no_series_while_its_history_is_being_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a counter would be a reset to whoever scrapes it; the loop turns all the while."""
    trainer = ScriptedTrainer(make_run(tmp_path))
    trainer.begin()
    trainer.step(50)
    store = Store(tmp_path / "history.db")
    first = Daemon(Home(tmp_path), store, Exporter(), PolicyFile())
    while first.turn():
        pass
    monkeypatch.setattr(run_watch, "_SLICE", 10)
    exporter = Exporter()
    second = Daemon(Home(tmp_path), store, exporter, PolicyFile())
    iterations = b'maxrl_train_iterations_total{algorithm="MaxRL",job_name="rust",run="one"}'
    for _ in range(5):
        assert second.turn()
        assert iterations not in exporter.text()
        assert second.not_ready() is not None
    while second.turn():
        pass
    assert iterations + b" 50.0" in exporter.text()
    store.close()


def test_a_run_long_over_is_not_folded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.step(3)
    SupervisorState("finished", "2026-01-01T00:00:00Z", attempt=1).save(run)
    monkeypatch.setitem(seen_run.GRACE_SECONDS, "finished", -1.0)
    store = Store(tmp_path / "history.db")
    first = Daemon(Home(tmp_path), store, Exporter(), PolicyFile())
    while first.turn():
        pass
    # Another daemon finds everything in the history, and loads nothing.
    monkeypatch.setattr(daemon, "RunWatch", None)
    second = Daemon(Home(tmp_path), store, Exporter(), PolicyFile())
    assert not second.turn()
    assert second.not_ready() is None
    store.close()
