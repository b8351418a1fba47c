"""The commands that change a running training."""

from typing import Annotated

import typer

from maxrl_ops.cli.common_options import RunName, RunOption, WaitOption

app = typer.Typer()


@app.command(
    "set",
    short_help="Change a running training.",
    epilog="Example: maxrl-ops set n_samples=16 learning_rate=1e-5",
)
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


@app.command(
    short_help="Switch a running training to GRPO or MaxRL.",
    epilog="Example: maxrl-ops switch grpo",
)
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


@app.command(
    short_help="Let a training wait after its current iteration.",
    epilog="Example: maxrl-ops pause rust-1",
)
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
