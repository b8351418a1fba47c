"""The commands of `maxrl-ops`, and how errors end them.

Each command's module is imported when the command runs, so that `status` stays light.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from maxrl_ops import __version__
from maxrl_ops.cli import comparing_commands, past_commands
from maxrl_ops.cli.errors import CommandError, of_os_error
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.cli.start_options import OWN, OWN_COMMAND, StartCommand, with_options
from maxrl_ops.wire.rundir import DocumentError
from maxrl_ops.wire.settings import SettingError

# typer exports only this one of click's exceptions: BadParameter(UsageError(ClickException)).
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="maxrl-ops",
    help="The autopilot for reinforcement-learning runs with verifiable rewards.",
    epilog="Example: maxrl-ops start --use-maxrl --task arithmetic --follow",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Plain help: half as long as rich's, and it fits a pager.
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
)

app.add_typer(past_commands.app)
app.add_typer(comparing_commands.app)

RunName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run's name.")]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Which; by default the only active one.")
]
WaitOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the trainer's answer.")
]
IntentArgument = Annotated[
    str | None, typer.Argument(metavar="[INTENT]", help="Which, as `decisions` shows it.")
]


def main() -> NoReturn:
    """The entry point of `maxrl-ops`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. What a person can cause ends in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign gets a question mark, not a traceback.
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = app(args=arguments, prog_name="maxrl-ops", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_has_enough()
    except SystemExit as end:
        # What typer makes of a broken pipe.
        if isinstance(end.__context__, BrokenPipeError):
            return _reader_has_enough()
        raise
    except (CommandError, SettingError, DocumentError, OSError, _ClickError) as error:
        return _report(_as_command_error(error))
    return int(code or ExitCode.OK)


def _reader_has_enough() -> ExitCode:
    """`maxrl-ops logs | head` is no error, and the flush at exit must not complain either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return ExitCode.OK


def _as_command_error(error: Exception) -> CommandError:
    match error:
        case CommandError():
            return error
        case SettingError():
            return CommandError(str(error), ExitCode.USAGE)
        case DocumentError():
            return CommandError(str(error), ExitCode.BAD)
        case OSError():
            return of_os_error(error)
    return CommandError(_usage_message(error), ExitCode.USAGE)


def _report(error: CommandError) -> ExitCode:
    from maxrl_ops.core.printable import one_line  # noqa: PLC0415

    sys.stderr.write(f"maxrl-ops: {one_line(str(error))}\n")
    return error.exit_code


def _usage_message(error: Any) -> str:
    """Click's complaint in our words: what is wrong, and where it is explained."""
    message = str(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "maxrl-ops"
    return f"{message[:1].lower()}{message[1:]} (see {path} --help)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maxrl-ops {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command(
    cls=StartCommand,
    options_metavar="[OPTIONS] [-- COMMAND ...]",
    epilog="Example: maxrl-ops start --use-maxrl --n-samples 8 --follow",
)
@with_options(OWN)
def start(ctx: typer.Context, **options: Any) -> int:
    """Start a training run.

    Our trainer runs it, or a command of your own after --. A setting is looked for among the
    flags, in the environment, in --config, and in the run given by --from, in this order; the rest
    is as the task and the algorithm want it.
    """
    from maxrl_ops.cli.start import start as run_start  # noqa: PLC0415

    return run_start(options, ctx.meta.get(OWN_COMMAND))


@app.command(epilog="Example: maxrl-ops attach --log ~/verl/train.log --name big")
def attach(
    log: Annotated[
        str, typer.Option(metavar="FILE", help="What the trainer writes; it may not be there yet.")
    ],
    dialect: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its format; by default found out from its lines."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The run's name; by default the file's.")
    ] = None,
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="The group it belongs to.")
    ] = None,
) -> int:
    """Look at a log that somebody else's trainer writes, as if it were a run of ours.

    Status, metrics, history and suggestions; nothing is ever changed or written there. Formats:
    guide, nanochat_rl, trl, verl, openrlhf, prime_rl, nanochat, jsonl, and those that other
    packages add.
    """
    from maxrl_ops.cli.attach import attach as run_attach  # noqa: PLC0415

    return run_attach(log, dialect, name, job)


@app.command(epilog="Example: maxrl-ops detach big")
def detach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")],
) -> int:
    """Look at an attached log no more.

    What was read of it stays in the history, and in status.
    """
    from maxrl_ops.cli.attach import detach as run_detach  # noqa: PLC0415

    return run_detach(name)


@app.command(epilog="Example: maxrl-ops stop rust-1")
def stop(
    name: RunName = None,
    every: Annotated[bool, typer.Option("--all", help="Stop every active run.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the end.")
    ] = 300.0,
) -> int:
    """Stop a run, with a checkpoint.

    It ends after its current iteration. Without NAME: the only active run. Of a run that has failed
    already: acknowledge that, which ends its alerts.
    """
    from maxrl_ops.cli.stop import stop as run_stop  # noqa: PLC0415

    return run_stop(name, every=every, timeout=timeout)


@app.command(epilog="Example: maxrl-ops status --watch")
def status(
    name: RunName = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C or its end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say how the runs are, each in a sentence.

    The newest comes first. With --watch: the run live, or the table where several are active.
    """
    from maxrl_ops.cli.status import status as run_status  # noqa: PLC0415

    return run_status(name, watch=watch, as_json=as_json)


@app.command(epilog="Example: maxrl-ops logs rust-1 -f")
def logs(
    name: RunName = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")
    ] = 50,
) -> int:
    """Print the end of a run's log.

    Without NAME: of the only active run, else of the newest.
    """
    from maxrl_ops.cli.logs import logs as run_logs  # noqa: PLC0415

    return run_logs(name, follow=follow, lines=lines)


@app.command(epilog="Example: maxrl-ops approve rust-1")
def approve(
    name: RunName = None,
    intent: IntentArgument = None,
    wait: WaitOption = 60.0,
) -> int:
    """Let a suggestion of the autopilot's come into force from the next iteration on.

    `decisions` lists them. Without INTENT: the only one that waits.
    """
    from maxrl_ops.cli.operating import approve as run_approve  # noqa: PLC0415

    return run_approve(name, intent, wait=wait)


@app.command(epilog="Example: maxrl-ops decline rust-1")
def decline(name: RunName = None, intent: IntentArgument = None) -> int:
    """Decline a suggestion of the autopilot's; it is not made again.

    Without INTENT: the only one that waits.
    """
    from maxrl_ops.cli.operating import decline as run_decline  # noqa: PLC0415

    return run_decline(name, intent)


@app.command(epilog="Example: maxrl-ops freeze")
def freeze() -> int:
    """Stop the autopilot of the whole host at once: it watches on, and changes nothing.

    What a person changes is not affected.
    """
    from maxrl_ops.cli.operating import freeze as run_freeze  # noqa: PLC0415

    return run_freeze()


@app.command(epilog="Example: maxrl-ops unfreeze")
def unfreeze() -> int:
    """Set the autopilot of the host free again."""
    from maxrl_ops.cli.operating import unfreeze as run_unfreeze  # noqa: PLC0415

    return run_unfreeze()


@app.command(epilog="Example: maxrl-ops decisions rust-1 --why-not")
def decisions(
    name: RunName = None,
    why_not: Annotated[
        bool, typer.Option("--why-not", help="Show what was held instead, and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show what was changed, by whom, why, and what the trainer made of it.

    Without NAME: of every run.
    """
    from maxrl_ops.cli.decisions import decisions as run_decisions  # noqa: PLC0415

    return run_decisions(name, why_not=why_not, as_json=as_json)


@app.command(epilog="Example: maxrl-ops policy > policy.toml")
def policy(
    named: Annotated[
        str | None, typer.Option(metavar="NAME", help="A built-in one: guide, paper or observe.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Say what is wrong in it, or what it changes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the policy that the rules go by, with what each number means.

    Without an option: the home's, which policy.toml there may change. The output is such a file.
    """
    from maxrl_ops.cli.policy import policy as run_policy  # noqa: PLC0415

    return run_policy(named, check, as_json=as_json)


@app.command(epilog="Example: maxrl-ops backtest rust-1 old.log --policy strict.toml")
def backtest(
    logs: Annotated[
        list[str], typer.Argument(metavar="LOG...", help="Files (- reads stdin), or names of runs.")
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A policy.toml; or guide, paper, observe. [default: in force]"
        ),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="The log's format. [default: found out]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Tell what a policy would have made of recorded logs: what fires when, and what it decides.

    The rules are the live ones. A decision that the log does not answer within four iterations is
    assumed to be acknowledged, and marked. JSON is an object, a list of them for several logs.
    """
    from maxrl_ops.cli.backtest import backtest_logs  # noqa: PLC0415

    return backtest_logs(logs, policy, dialect, as_json=as_json)


@app.command("set", epilog="Example: maxrl-ops set n_samples=16 learning_rate=1e-5")
def set_values(
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="What to change.")],
    name: RunOption = None,
    wait: WaitOption = 60.0,
) -> int:
    """Change a running training from its next iteration on.

    Keys: objective, correctness_threshold, weight_temperature, n_samples, learning_rate. Alone:
    mode=act, suggest, observe or off, which is what the autopilot may do in the run.
    """
    from maxrl_ops.cli.change import set_values as run_set  # noqa: PLC0415

    return run_set(changes, name, wait=wait)


@app.command(epilog="Example: maxrl-ops switch grpo")
def switch(
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="grpo or maxrl.")],
    name: RunOption = None,
    wait: WaitOption = 60.0,
) -> int:
    """Switch a running training to GRPO or MaxRL from its next iteration on.

    Threshold, samples and learning rate stay as they are.
    """
    from maxrl_ops.cli.change import switch as run_switch  # noqa: PLC0415

    return run_switch(algorithm, name, wait=wait)


@app.command(epilog="Example: maxrl-ops pause rust-1")
def pause(name: RunName = None, wait: WaitOption = 60.0) -> int:
    """Let a training wait after its current iteration, with a checkpoint, until `continue`.

    The trainer stays, and so does its model in memory. Without NAME: the only active run.
    """
    from maxrl_ops.cli.change import live  # noqa: PLC0415

    return live("pause", name, wait=wait)


@app.command("continue", epilog="Example: maxrl-ops continue rust-1")
def continue_run(name: RunName = None, wait: WaitOption = 60.0) -> int:
    """Let a paused training go on.

    Without NAME: the only active run.
    """
    from maxrl_ops.cli.change import live  # noqa: PLC0415

    return live("run", name, wait=wait)


@app.command(epilog="Example: maxrl-ops checkpoint rust-1")
def checkpoint(name: RunName = None, wait: WaitOption = 60.0) -> int:
    """Save a checkpoint after the current iteration, and go on.

    Without NAME: of the only active run.
    """
    from maxrl_ops.cli.change import live  # noqa: PLC0415

    return live("checkpoint", name, wait=wait)


@app.command(epilog="Example: maxrl-ops daemon --listen 127.0.0.1:9478")
def daemon(
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where /metrics is. [default: 127.0.0.1:9478]"),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Serve https with this certificate (PEM).")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="And its key.")] = None,
    client_ca: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Answer only clients with a certificate of this CA."),
    ] = None,
    insecure_listen: Annotated[
        bool,
        typer.Option("--insecure-listen", help="Serve others than this host without TLS."),
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs.")] = False,
) -> int:
    """Look after every run: export metrics, keep the history, and decide.

    It runs in the foreground; `start` brings one up in the background where none runs, unless
    MAXRL_OPS_NO_DAEMON is set. Runs go on without it. An address that is not loopback takes TLS or
    --insecure-listen. The environment gives the same: MAXRL_OPS_LISTEN, MAXRL_OPS_TLS_CERT,
    MAXRL_OPS_TLS_KEY, MAXRL_OPS_CLIENT_CA, MAXRL_OPS_INSECURE_LISTEN.
    """
    from maxrl_ops.cli.daemon import daemon as run_daemon  # noqa: PLC0415

    flags = {
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "client_ca": client_ca,
        "insecure_listen": insecure_listen,
    }
    return run_daemon(flags, is_stop=stop)


@app.command(epilog="Example: maxrl-ops doctor")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check what this host needs to train, and prove its sandbox by attacking it.

    Exits with 1 where something is missing or an attack gets through; each failing line says what
    to do.
    """
    from maxrl_ops.cli.doctor import doctor as run_doctor  # noqa: PLC0415

    return run_doctor(as_json=as_json)


export = typer.Typer(
    help="Write files for the world outside: a run's best model, Prometheus's files, units.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(export, name="export")


@export.command("model", epilog="Example: maxrl-ops export model rust-1 --to my-model")
def export_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")],
    to: Annotated[str, typer.Option(metavar="DIR", help="A directory that does not exist yet.")],
) -> int:
    """Write a run's best model as a Hugging Face directory.

    The best is the checkpoint with the highest held-out pass@1; where the model that the run began
    with had more, the output says so. from_pretrained loads it, and so does start --checkpoint.
    """
    from maxrl_ops.cli.export_model import export_model as run_export  # noqa: PLC0415

    return run_export(name, to)


RunbooksOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where alerts link to. [default: the runbooks written to DIR]"
    ),
]
ToOption = Annotated[str, typer.Option(metavar="DIR", help="Made where it does not exist.")]


@export.command("prometheus", epilog="Example: maxrl-ops export prometheus --to prometheus")
def export_prometheus(
    to: ToOption,
    runbooks: RunbooksOption = None,
    alertmanager: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Whom to tell of what fires.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Write an alertmanager.yml that sends alerts there."),
    ] = None,
    times: Annotated[
        float,
        typer.Option(
            metavar="FACTOR", help="Multiply all times of alerts: 0.01 to see one fire soon."
        ),
    ] = 1.0,
) -> int:
    """Write a Prometheus configuration for this host, with alert rules and their runbooks.

    It scrapes the daemon that runs here, else the default address.
    """
    from maxrl_ops.cli.export_monitoring import export_prometheus as run_export  # noqa: PLC0415

    return run_export(to, runbooks, alertmanager, webhook, times)


@export.command("grafana", epilog="Example: maxrl-ops export grafana --to grafana")
def export_grafana(
    to: ToOption,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Where Grafana finds Prometheus.")
    ] = "http://127.0.0.1:9090",
    runbooks: RunbooksOption = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Grafana's own alerts go. [default: MAXRL_OPS_ALERT_WEBHOOK of Grafana]",
        ),
    ] = None,
) -> int:
    """Write Grafana's dashboards and data source, and alerts for a Grafana that evaluates them.

    With an Alertmanager leave provisioning/alerting out, or every alert comes twice.
    """
    from maxrl_ops.cli.export_monitoring import export_grafana as run_export  # noqa: PLC0415

    return run_export(to, prometheus, runbooks, webhook)


@export.command("systemd", epilog="Example: sudo maxrl-ops export systemd --to /etc")
def export_systemd(
    to: Annotated[str, typer.Option(metavar="DIR", help="/etc, or where you look at them first.")],
    user: Annotated[
        str, typer.Option(metavar="NAME", help="Whom daemon and runs run as; made where missing.")
    ] = "maxrl",
) -> int:
    """Write systemd units for this host: the daemon's, one for runs, their user and directories.

    They name this installation's Python and the home: MAXRL_OPS_HOME, else /var/lib/maxrl-ops.
    Where they are installed for a home, start begins its runs as units.
    """
    from maxrl_ops.cli.export_systemd import export_systemd as run_export  # noqa: PLC0415

    return run_export(to, user)


@app.command(epilog="Example: maxrl-ops verify sum.rs reverse.rs")
def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Rust files.")],
    reward: Annotated[
        str, typer.Option(metavar="VALUE", help="The reward profile: tested or guide.")
    ] = "tested",
    reward_weights: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="What quality is worth on top of tested."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Judge Rust files as the task rust judges what a model writes.

    A file carries its own tests in a #[cfg(test)] module. Prints its verdict, its reward and what
    rustc says. Exit code 1: one is not correct.
    """
    from maxrl_ops.cli.verify import verify as run_verify  # noqa: PLC0415

    return run_verify(files, reward, reward_weights, as_json=as_json)


@app.command(epilog="Example: maxrl-ops demo --weight-temperature 2")
def demo(
    correctness_threshold: Annotated[
        str, typer.Option(metavar="VALUE", help="A sample is correct when its reward is above.")
    ] = "20",
    weight_temperature: Annotated[
        str, typer.Option(metavar="VALUE", help="Softmax temperature of the MaxRL weights.")
    ] = "1",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show GRPO beside MaxRL on five samples.

    They are the guide's; advantages, weights and losses are computed as the trainer does.
    """
    from maxrl_ops.cli.demo import demo as run_demo  # noqa: PLC0415

    return run_demo(correctness_threshold, weight_temperature, as_json=as_json)
