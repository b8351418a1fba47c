"""The commands of `export`: files for the world outside."""

from typing import Annotated

import typer

from maxrl_ops.cli.common_options import GivenRunName

app = typer.Typer(
    help="Write files for the world outside: a run's best model, Prometheus's files, units.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("model", epilog="Example: maxrl-ops export model rust-1 --to my-model")
def export_model(
    name: GivenRunName,
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


@app.command(
    "prometheus",
    short_help="Write a Prometheus configuration, alerts and runbooks.",
    epilog="Example: maxrl-ops export prometheus --to prometheus",
)
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


@app.command(
    "grafana",
    short_help="Write Grafana's dashboards, data source and alerts.",
    epilog="Example: maxrl-ops export grafana --to grafana",
)
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


@app.command(
    "systemd",
    short_help="Write systemd units for this host.",
    epilog="Example: sudo maxrl-ops export systemd --to /etc",
)
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
