"""`sweep`: runs that differ in a setting or two, over seeds, and what came of them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

from maxrl_ops import locks, sweep_file
from maxrl_ops.cli import layers, start, supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home
from maxrl_ops.cli.new_run import check_name
from maxrl_ops.cli.report import target_of
from maxrl_ops.cli.start import Asked
from maxrl_ops.cli.sweep_results import show
from maxrl_ops.cli.sweep_runs import Job, Runs, at_once_here
from maxrl_ops.cli.sweep_view import watch
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.sweep import (
    Axis,
    Point,
    Sweep,
    axes_of,
    check_size,
    differences,
    seeds_of,
    spelt,
)
from maxrl_ops.room import cores
from maxrl_ops.wire.documents import utc_now
from maxrl_ops.wire.rundir import make_directories
from maxrl_ops.wire.settings import Value, to_text

_SEEDS = "3"
# Whoever goes on with a sweep may say these again, and otherwise.
_OF_ANY = frozenset({"vary", "name", "at_once", "to", "as_json"})
_HOW = "maxrl-ops sweep threshold, or maxrl-ops sweep n_samples=4,8,16"


def sweep(options: Mapping[str, Any], command: tuple[str, ...] | None) -> int:
    """Begin the sweep, or go on with it; to its end, and show what came of it."""
    as_json, to = bool(options["as_json"]), options["to"]
    target = None if to is None else target_of(to, "")
    asked = _asked(options, command)
    with _alone_with(asked.name):
        known = _known(asked)
        jobs = _jobs(asked)
        at_once = options["at_once"] or at_once_here(asked.settings)
        console = Console(highlight=False, stderr=as_json)
        runs = Runs(asked, jobs, at_once)
        with supervising.as_owner(home()):
            sweep_file.clear_leftovers(home().sweep(asked.name))
            if known is None:
                sweep_file.save(home().sweep(asked.name), asked)
        try:
            if runs.waiting:
                daemon = start.bring_daemon_up()
                start.warn_of_nobody(jobs[0].asked, daemon, asked.name)
                # Not before: what the daemon starts later is none of the sweep's.
                _share_cores(at_once)
            watch(runs, console)
        except KeyboardInterrupt:
            console.print(_interrupted(runs), soft_wrap=True, markup=False)
            return ExitCode.INTERRUPTED
    return show(known or asked, target, as_json=as_json)


def _interrupted(runs: Runs) -> str:
    name, not_begun = runs.sweep.name, runs.not_begun()
    going = [each for each in runs.going() if each not in not_begun]
    said = f"\nNo more runs of {name} begin: {len(not_begun)} of {len(runs.jobs)} have not."
    if going:
        said += f" By themselves go on: {', '.join(going)} (maxrl-ops stop NAME ends one)."
    return f"{said} To go on with the rest: maxrl-ops sweep --name {name}"


def _share_cores(at_once: int) -> None:
    """Give each of several trainers its part of the cores: each would use all of them otherwise."""
    if at_once > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // at_once)))


# --- What is asked for ----------------------------------------------------------------------------


def _asked(options: Mapping[str, Any], command: tuple[str, ...] | None) -> Sweep:
    """The sweep that the options tell, whether or not there is one of that name already."""
    name, words = options["name"], options["vary"] or []
    if name is not None:
        check_name(name)
    if not words:
        return _continued(name, options, command)
    axes, seeds = axes_of(words), seeds_of(options["seeds"] or _SEEDS)
    check_size(axes, seeds)
    swept = {axis.key for axis in axes}
    for key in sorted(swept | {"seed"}):
        if options[key] is not None:
            instead = "give --seeds" if key == "seed" else f"{key} is varied: leave it out"
            raise CommandError(f"--{key.replace('_', '-')}: {instead}")
    if swept & {"objective", "use_maxrl", "schedule"} and options["algorithm"] is not None:
        raise CommandError("--algorithm: what is varied says which: leave it out")
    given = {k: v for k, v in start.settings_of(options).items() if k not in swept | {"seed"}}
    name = name or "-".join(word.partition("=")[0] for word in words)
    check_name(name)
    return _checked(Sweep(name, "", axes, seeds, given, created=utc_now()), options, command)


def _continued(
    name: str | None, options: Mapping[str, Any], command: tuple[str, ...] | None
) -> Sweep:
    """The sweep of that name, of which nothing else may be said."""
    if name is None:
        raise CommandError(f"say what to vary, as: {_HOW}")
    try:
        known = sweep_file.load(home().sweep(name))
    except FileNotFoundError:
        raise CommandError(
            f"there is no sweep {name!r} yet: say what to vary, as: {_HOW}", ExitCode.NOT_FOUND
        ) from None
    given = [key for key in options if key not in _OF_ANY and options[key] not in (None, [])]
    if given or command is not None:
        what = f"--{given[0].replace('_', '-')}" if given else "a command after --"
        raise CommandError(
            f"{what}: say what to vary too, or give only --name to go on with {name}"
        )
    return known


def _checked(asked: Sweep, options: Mapping[str, Any], command: tuple[str, ...] | None) -> Sweep:
    """With all that `start` would check of each run, and paths made absolute.

    Raises:
        CommandError: A run would be refused.
    """
    points = asked.points()
    options = {**options, "mode": options["mode"] or Mode.OBSERVE.value}
    each = [start.check(options, _settings(asked, point), command) for point in points]
    first = each[0]
    axes = []
    for axis in asked.axes:
        resolved = {
            to_text(point[axis.key]): one.settings[axis.key]
            for point, one in zip(points, each, strict=True)
        }
        axes.append(Axis(axis.key, tuple(resolved[to_text(value)] for value in axis.values)))
    common = {key: first.settings[key] for key in asked.settings if key in first.settings}
    return replace(
        asked,
        axes=tuple(axes),
        settings=common,
        command=first.command,
        job_name=first.job or asked.name,
        mode=first.mode,
        actuate=first.actuate,
    )


def _settings(asked: Sweep, point: Point) -> dict[str, Value]:
    layers.refuse_contradiction(dict(point), lambda key, value: f"{key}={spelt(value)}")
    return layers.merge(asked.settings, point)


def _jobs(asked: Sweep) -> list[Job]:
    """Its runs, each with what `start` would be given for it."""
    return [
        Job(
            planned,
            Asked(
                {**_settings(asked, planned.point), "seed": planned.seed},
                asked.command,
                asked.job_name,
                asked.mode,
                asked.actuate,
            ),
        )
        for planned in asked.runs()
    ]


# --- Its file -------------------------------------------------------------------------------------


@contextmanager
def _alone_with(name: str) -> Iterator[None]:
    """Be the only one who conducts this sweep.

    Raises:
        CommandError: Somebody else does.
    """
    with supervising.as_owner(home()):
        make_directories(home().sweeps_dir)
        try:
            held = locks.acquire(home().sweeps_dir / f".{name}.lock", signed=True)
        except locks.LockHeldError as error:
            raise CommandError(
                f"somebody else conducts the sweep {name}: {error}", ExitCode.IN_USE
            ) from None
    try:
        yield
    finally:
        os.close(held)


def _known(asked: Sweep) -> Sweep | None:
    """The sweep of that name as its file has it; None where there is none.

    Raises:
        CommandError: There is one, and other things were asked of it.
    """
    try:
        known = sweep_file.load(home().sweep(asked.name))
    except FileNotFoundError:
        return None
    for difference in differences(known, asked):
        raise CommandError(
            f"there is a sweep {asked.name} already, and it was asked for otherwise: "
            f"{difference}; give the same, or another --name",
            ExitCode.IN_USE,
        )
    return known
