"""`start`: make a run, spawn its supervisor, and say whether it came up."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from maxrl_ops import actuating, daemon_process, environment_file, systemd
from maxrl_ops.cli import layers, preflight, supervising
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.finding import home, journal, named
from maxrl_ops.cli.new_run import check_job, check_name, check_no_secret, create
from maxrl_ops.core.policy import Mode
from maxrl_ops.core.printable import one_line
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.daemon_file import DaemonFile
from maxrl_ops.run_reader import LogReader, RunReader, life_of
from maxrl_ops.systemd_files import RUN_UNIT, SECRETS
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.rundir import RunDir
from maxrl_ops.wire.settings import SETTINGS, SettingError, Value, to_text
from maxrl_ops.wire.user_paths import expanded

# Loading a large model from a cold disk takes minutes.
_UP_SECONDS = 300.0
_POLL_SECONDS = 0.1
# A command of one's own need not write our header: it is up when it has lived this long.
_OWN_COMMAND_SECONDS = 2.0
_HEADER_NAMES = {"iterations": "target_iterations"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to be, checked as far as that goes before there is one.

    Attributes:
        settings: The settings given, with absolute paths; defaults are the trainer's business.
        command: A command of the user's own instead of our trainer, or empty.
        job: The group it belongs to; None for the task's.
        mode, actuate, restart_on_boot, environment_file: As in run.json.
    """

    settings: Mapping[str, Value]
    command: tuple[str, ...]
    job: str | None
    mode: str
    actuate: str | None
    restart_on_boot: bool = False
    environment_file: str | None = None


def start(options: Mapping[str, Any], command: tuple[str, ...] | None) -> int:
    """Start a run as `options` (by parameter name) say."""
    if options["name"] is not None:
        check_name(options["name"])
    asked = check(options, settings_of(options), command)
    run = begin(asked, options["name"])
    daemon = bring_daemon_up()
    reader = RunReader(run, journal())
    warn_of_nobody(asked, daemon, run.name)
    if options["follow"]:
        from maxrl_ops.cli.follow import follow  # noqa: PLC0415 - rich is for who watches

        return _ended_or_detached(reader, follow(reader))
    try:
        shown = _wait_until_up(reader)
    except KeyboardInterrupt:
        sys.stdout.write(
            f"\nNo longer waiting; {run.name} goes on starting: maxrl-ops status {run.name}\n"
        )
        return ExitCode.INTERRUPTED
    _print_next_steps(reader, shown, daemon)
    return ExitCode.OK


def check(
    options: Mapping[str, Any], settings: Mapping[str, Value], command: tuple[str, ...] | None
) -> Asked:
    """Whatever can be found wrong before there is a run, of it with these settings.

    Raises:
        CommandError: Something is.
        SettingError: Likewise.
    """
    if command == ():
        raise CommandError("nothing stands after --: give the command to run")
    check_no_secret(command or ())
    job, mode = check_job(options["job"]), _mode(options["mode"])
    actuate = _actuate(options["actuate"], settings, command)
    resolved = dict(settings)
    if command is None:
        resolved = preflight.resolve_task(resolved)
        preflight.check_tools(resolved)
    if "reward_weights" in resolved:
        weights = preflight.resolve_weights(str(resolved["reward_weights"]))
        resolved["reward_weights"] = weights
    if "checkpoint" in resolved:
        resolved["checkpoint"] = preflight.resolve_checkpoint(str(resolved["checkpoint"]))
    return Asked(
        resolved,
        command or (),
        job,
        mode,
        actuate,
        # A sweep has neither: it goes on when it is called again.
        bool(options.get("restart_on_boot")),
        _environment_file(options.get("environment_file")),
    )


def begin(asked: Asked, name: str | None) -> RunDir:
    """Make the run, and bring up its supervisor.

    Raises:
        CommandError: The name is in use, or systemd did not start its unit.
        OSError: The home cannot be written, or the supervisor not be started.
    """
    run = create(
        home(),
        asked.settings,
        asked.command,
        name,
        asked.job,
        asked.mode,
        actuate=asked.actuate,
        restart_on_boot=asked.restart_on_boot,
        environment_file=asked.environment_file,
    )
    supervising.supervise(home(), run, at_boot=asked.restart_on_boot)
    return run


def bring_daemon_up() -> DaemonFile | None:
    """The daemon, started where none runs; why there is none is said on stderr."""
    daemon = daemon_process.ensure(home())
    if daemon.problem is not None:
        sys.stderr.write(one_line(f"no daemon: {daemon.problem}") + "; the run goes on without\n")
    return daemon.running


def warn_of_nobody(asked: Asked, daemon: DaemonFile | None, name: str) -> None:
    """Say so where a run wants to be handed over, and nobody will do it."""
    if asked.settings.get("schedule") == "adaptive" and (
        asked.mode in (Mode.OBSERVE, Mode.OFF) or daemon is None
    ):
        why = f"with --mode {asked.mode}" if daemon is not None else "without a daemon"
        sys.stderr.write(
            f"adaptive: {why} nothing hands over to MaxRL, and {name} stays with GRPO; "
            f"maxrl-ops switch maxrl does it by hand\n"
        )


def _mode(given: str) -> str:
    if given not in set(Mode):
        raise CommandError(f"--mode={given!r} is not allowed: give {' or '.join(Mode)}")
    return given


def _actuate(
    given: str | None, settings: Mapping[str, Value], command: tuple[str, ...] | None
) -> str | None:
    if given is None:
        return None
    if given != actuating.RESTART:
        raise CommandError(f"--actuate={given!r} is not allowed: give {actuating.RESTART}")
    if command is None:
        raise CommandError(
            f"--actuate {given} is for a command of your own, after --: our trainer is changed "
            f"while it runs"
        )
    actuating.check_command(command)
    actuating.initial_state(settings)
    return given


def _environment_file(given: str | None) -> str | None:
    """The file's path, once it has been read: at a reboot nobody is there to mend it."""
    if given is None:
        return None
    if systemd.serves(home()):
        raise CommandError(
            f"--environment-file: runs are units here, whose secrets are in {SECRETS}/run.env and "
            f"{SECRETS}/NAME.env: docs/systemd.md"
        )
    path = expanded(given).absolute()
    try:
        environment_file.read(path)
    except environment_file.EnvironmentFileError as error:
        raise CommandError(f"--environment-file: {error}") from None
    return str(path)


def settings_of(options: Mapping[str, Any]) -> dict[str, Value]:
    """The settings given, by precedence; defaults are the trainer's business."""
    source = options["source"]
    flags = layers.of_flags({key: options[key] for key in SETTINGS}, options["algorithm"])
    inherited, base = ({}, {}) if source is None else _inherited(named(source), flags)
    config = options["config"]
    return layers.merge(
        inherited,
        {} if config is None else layers.of_file(expanded(config)),
        layers.of_environment(os.environ),
        # --from is a flag: its model goes before an environment's, not before --checkpoint.
        base,
        flags,
    )


def _inherited(run: RunDir, flags: Mapping[str, Value]) -> tuple[layers.Layer, layers.Layer]:
    """The settings of a run, and the checkpoint it is continued from.

    What its header tells comes first: the profile of a task's own model holds for that model
    only, and would be lost now that the model is a checkpoint.
    """
    spec = RunSpec.load(run)
    reader = LogReader(run)
    reader.read()
    header = reader.history.started
    told: layers.Layer = {}
    for key in SETTINGS.keys() - {"use_maxrl", "checkpoint", "device"}:
        value = getattr(header, _HEADER_NAMES.get(key, key), None)
        if value is not None:
            # A command of one's own may have written anything there.
            with suppress(SettingError):
                told[key] = SETTINGS[key].parse(to_text(value), key)
    base: layers.Layer = {}
    if "checkpoint" not in flags:
        base["checkpoint"] = str(preflight.newest_model(run))
    return layers.merge(told, spec.settings), base


# --- Until it is up -----------------------------------------------------------------------------


def _wait_until_up(reader: RunReader) -> RunSnapshot:
    """Wait until the trainer has begun.

    Raises:
        CommandError: It failed, or takes longer than anybody waits.
    """
    name, began, told = reader.run.name, time.monotonic(), False
    running_since: float | None = None
    while (waited := time.monotonic() - began) < _UP_SECONDS:
        shown, _ = reader.look()
        if _is_up(reader, shown):
            return shown
        if shown.state == "running":
            running_since = waited if running_since is None else running_since
            if reader.spec.command and waited - running_since >= _OWN_COMMAND_SECONDS:
                return shown
        else:
            running_since = None
        if shown.is_over:
            raise _not_up(reader, shown)
        if shown.state == "backing_off" and not told:
            told = True
            sys.stderr.write(f"{name} crashed and is started again: {_reason(reader, shown)}\n")
        time.sleep(_POLL_SECONDS)
    raise CommandError(
        f"{name} is not up after {_UP_SECONDS:.0f} s and goes on trying: "
        f"see maxrl-ops logs {name}, or end it by maxrl-ops stop {name}",
        ExitCode.NOT_UP,
    )


def _is_up(reader: RunReader, shown: RunSnapshot) -> bool:
    """The trainer has said what it trains; or a short command is done already."""
    history = reader.history
    if shown.state == "finished":
        return True
    # Where its supervisor applies controls, the header is the supervisor's.
    has_begun = history.iterations or (history.started and reader.spec.actuate is None)
    return not shown.is_over and bool(has_begun)


def _not_up(reader: RunReader, shown: RunSnapshot) -> CommandError:
    """Why the run did not come up, with the trainer's exit code where it means the same."""
    name = reader.run.name
    state = life_of(reader.run).state
    exits = state.exits if state else ()
    code = ExitCode.NOT_UP
    if exits and not reader.spec.command and exits[-1].code in {2, 3}:
        code = ExitCode(exits[-1].code or 0)
    return CommandError(f"{name} did not come up: {_reason(reader, shown)}", code)


def _reason(reader: RunReader, shown: RunSnapshot) -> str:
    if shown.state == "stopped":
        return "it was stopped"
    return one_line(shown.exit_reason or f"see {reader.run.supervisor_log}")


# --- What is said -------------------------------------------------------------------------------


def _print_next_steps(reader: RunReader, shown: RunSnapshot, daemon: DaemonFile | None) -> None:
    run = reader.run
    target = shown.target_iterations
    facts = (shown.algorithm, shown.task, target and f"{target} iterations")
    what = one_line(", ".join(fact for fact in facts if fact))
    sys.stdout.write(
        f"Started {run.name}{': ' + what if what else ''}.\n"
        f"  directory  {run.path}\n"
        f"  watch      maxrl-ops status {run.name} --watch\n"
        f"  log        maxrl-ops logs {run.name} -f\n"
        f"  stop       maxrl-ops stop {run.name}\n"
    )
    if reader.spec.restart_on_boot:
        by = "its unit" if systemd.serves(home()) else "the daemon, which your host has to start"
        sys.stdout.write(f"  at boot    goes on by {by}\n")
    elif systemd.serves(home()):
        sys.stdout.write(f"  at boot    systemctl enable {RUN_UNIT.format(run.name)}\n")
    if daemon is not None:
        sys.stdout.write(f"  metrics    {daemon.metrics}\n")


def _ended_or_detached(reader: RunReader, shown: RunSnapshot | None) -> int:
    """How `start --follow` ends: None stands for Ctrl-C, after which the run goes on."""
    if shown is None:
        return ExitCode.OK
    if shown.state == "failed" and not reader.history.iterations:
        raise _not_up(reader, shown)
    return ExitCode.OK if shown.state in {"finished", "stopped"} else ExitCode.BAD
