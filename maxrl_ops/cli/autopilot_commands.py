"""The commands about the autopilot: what it did and may do, and what it goes by."""

from typing import Annotated

import typer

from maxrl_ops.cli.common_options import RunName, WaitOption

app = typer.Typer()

IntentArgument = Annotated[
    str | None, typer.Argument(metavar="[INTENT]", help="Which, as `decisions` shows it.")
]


@app.command(
    short_help="Let a suggestion of the autopilot's come into force.",
    epilog="Example: maxrl-ops approve rust-1",
)
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


@app.command(
    short_help="Stop the autopilot of the whole host at once.", epilog="Example: maxrl-ops freeze"
)
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


@app.command(
    short_help="Show what was changed, by whom, why, and what came of it.",
    epilog="Example: maxrl-ops decisions rust-1 --why-not",
)
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


@app.command(
    short_help="Print the policy that the rules go by.",
    epilog="Example: maxrl-ops policy > policy.toml",
)
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


@app.command(
    short_help="Tell what a policy would have made of recorded logs.",
    epilog="Example: maxrl-ops backtest rust-1 old.log --policy strict.toml",
)
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
