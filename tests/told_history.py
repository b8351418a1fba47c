"""A run whose history holds something of everything: what a migration is held against."""

from dataclasses import replace
from math import nan
from pathlib import Path

from scripted import ScriptedTrainer, make_run, record

from maxrl_ops.core.policy import Policy
from maxrl_ops.run_watch import RunWatch
from maxrl_ops.store import Store
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.record import CheckpointSaved, Evaluated, UpdateSkipped


def tell(home: Path) -> Path:
    """A change that is decided and applied, two resumes, NaN and lines nobody knows; history.db."""
    run = make_run(home)
    store = Store(home / "history.db")
    watch = RunWatch(run, RunSpec.load(run), store, Policy())

    def look() -> None:
        while watch.tick(is_over=False):
            pass

    trainer = ScriptedTrainer(run)
    trainer.begin()
    trainer.write(Evaluated(0, 0.4, {1: 0.41, 8: 0.8}, 0.02))
    for _ in range(40):
        trainer.step()
        look()
    trainer.write(CheckpointSaved(40, 0.3))
    trainer.step(5)
    trainer.begin(2, resumed_from=40)
    trainer.step(10)
    trainer.write(UpdateSkipped(51, "loss nan, grad norm inf"))
    trainer.iteration += 1
    trainer.write(replace(record(51), loss=nan, grad_norm=2.5, tokens=17, extra={"Mood": "good"}))
    trainer.begin(3, resumed_from=45)
    trainer.step(10)
    trainer.write_foreign("what is this")
    look()
    store.close()
    return home / "history.db"
