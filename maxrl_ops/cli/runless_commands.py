"""The commands that are about no run: `daemon`, `doctor`, `verify` and `demo`."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command(
    short_help="Look after every run: metrics, history, decisions.",
    epilog="Example: maxrl-ops daemon --listen 127.0.0.1:9478",
)
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


@app.command(
    short_help="Check what this host needs to train, and its sandbox.",
    epilog="Example: maxrl-ops doctor",
)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check what this host needs to train, and prove its sandbox by attacking it.

    Exits with 1 where something is missing or an attack gets through; each failing line says what
    to do.
    """
    from maxrl_ops.cli.doctor import doctor as run_doctor  # noqa: PLC0415

    return run_doctor(as_json=as_json)


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
