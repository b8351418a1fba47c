"""The commands that begin and end runs, and show how they are."""

from typing import Annotated, Any

import typer

from maxrl_ops.cli.common_options import GivenRunName, RunName
from maxrl_ops.cli.start_options import OWN, OWN_COMMAND, StartCommand, with_options

app = typer.Typer()


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


@app.command(
    short_help="Look at a log that somebody else's trainer writes.",
    epilog="Example: maxrl-ops attach --log ~/verl/train.log --name big",
)
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
    name: GivenRunName,
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


@app.command(
    short_help="Go on with a run that a reboot has cut off.",
    epilog="Example: maxrl-ops resume rust-1",
)
def resume(
    name: GivenRunName,
) -> int:
    """Go on with a run that a reboot, or the end of its supervisor, has cut off.

    It is the same run, from its newest checkpoint. One that is over is continued in a run of its
    own: start --from.
    """
    from maxrl_ops.cli.resume import resume as run_resume  # noqa: PLC0415

    return run_resume(name)


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
