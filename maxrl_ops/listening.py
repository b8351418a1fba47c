"""Where the daemon serves, and how: from its command line and the environment.

Metrics tell what is trained here and how well. On loopback whoever is on this host may read them;
at any other address they are encrypted, unless somebody has said that they need not be.
"""

import argparse
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from maxrl_ops.wire.settings import (
    CLIENT_CA_ENV,
    INSECURE_LISTEN_ENV,
    LISTEN_ENV,
    TLS_CERT_ENV,
    TLS_KEY_ENV,
)
from maxrl_ops.wire.user_paths import expanded

if TYPE_CHECKING:
    from maxrl_ops.tls import Tls

DEFAULT_ADDRESS = ("127.0.0.1", 9478)
_LOCALHOST = "localhost"


class ListenError(Exception):
    """The command line or the environment is wrong; the message is one line."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; a default gives way to another port where it is taken."""

    host: str
    port: int
    is_default: bool = False

    @classmethod
    def parse(cls, text: str, source: str) -> "Address":
        """Read HOST:PORT.

        Raises:
            ListenError: It is not that.
        """
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
            raise ListenError(
                f"{source}={text!r} is not allowed: give HOST:PORT, as 127.0.0.1:9478"
            )
        try:
            # Where Python's resolver raises what is no OSError: of non-ASCII names, too long ones.
            host.encode("idna")
        except UnicodeError:
            raise ListenError(
                f"{source}={text!r} is not allowed: no host can be named so"
            ) from None
        return cls(host.strip("[]"), int(port))

    @property
    def is_loopback(self) -> bool:
        """Nobody but this host can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == _LOCALHOST


@dataclass(frozen=True, slots=True)
class Listening:
    """Where, and with what encryption, if any."""

    address: Address
    tls: "Tls | None" = None

    @property
    def scheme(self) -> str:
        """Of the URL."""
        return "http" if self.tls is None else "https"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ListenError(message)


def listening(arguments: list[str], env: Mapping[str, str]) -> Listening:
    """What the command line, else the environment, says.

    Raises:
        ListenError: It makes no sense, or is refused.
    """
    given = _parser().parse_args(arguments)
    address = Address(*DEFAULT_ADDRESS, is_default=True)
    if given.listen is not None:
        address = Address.parse(given.listen, "--listen")
    elif env.get(LISTEN_ENV):
        address = Address.parse(env[LISTEN_ENV], LISTEN_ENV)
    cert, key, client_ca = (
        expanded(found).absolute() if found else None
        for found in (
            given.tls_cert or env.get(TLS_CERT_ENV),
            given.tls_key or env.get(TLS_KEY_ENV),
            given.client_ca or env.get(CLIENT_CA_ENV),
        )
    )
    if cert is not None and key is not None:
        return Listening(address, _tls(cert, key, client_ca))
    if cert or key or client_ca:
        raise ListenError(
            "TLS takes --tls-cert and --tls-key, and --client-ca on top of both to answer only "
            "clients with a certificate"
        )
    if not address.is_loopback and not (given.insecure_listen or _allows_insecure(env)):
        raise ListenError(
            f"{address.host} is not loopback, and others can read there what is trained here: give "
            "--tls-cert and --tls-key, with --client-ca for some alone, or --insecure-listen"
        )
    return Listening(address)


def _tls(cert: Path, key: Path, client_ca: Path | None) -> "Tls":
    # OpenSSL is a tenth of the daemon's memory, and most daemons are on loopback.
    from maxrl_ops.tls import Tls, TlsError, TlsFiles  # noqa: PLC0415

    try:
        return Tls(TlsFiles(cert, key, client_ca))
    except TlsError as error:
        raise ListenError(str(error)) from None


def _allows_insecure(env: Mapping[str, str]) -> bool:
    text = env.get(INSECURE_LISTEN_ENV, "")
    if text.lower() not in {"", "false", "true"}:
        raise ListenError(f"{INSECURE_LISTEN_ENV}={text!r} is not allowed: give true or false")
    return text.lower() == "true"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m maxrl_ops.daemon", allow_abbrev=False)
    parser.add_argument("--listen", metavar="HOST:PORT", help="where /metrics is served")
    parser.add_argument("--tls-cert", metavar="FILE", help="serve https with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", help="and its key")
    parser.add_argument("--client-ca", metavar="FILE", help="answer clients of this CA alone")
    parser.add_argument(
        "--insecure-listen", action="store_true", help="let others read without TLS"
    )
    return parser
