"""The server's side of TLS, with files that may be renewed while it serves."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from maxrl_ops.own_log import say

_REASONS = {
    "KEY_VALUES_MISMATCH": "the key is not the certificate's",
    "NO_START_LINE": "no PEM file",
    "NO_CERTIFICATE_OR_CRL_FOUND": "no certificate in it",
}


class TlsError(Exception):
    """A certificate or a key that cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        cert: The server's certificate, and those between it and its authority.
        key: Its key, not encrypted: nobody is there to type a password.
        client_ca: The authorities of whom we answer; None: of anybody.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


class Tls:
    """What makes a connection an encrypted one."""

    def __init__(self, files: TlsFiles) -> None:
        """Load `files`.

        Raises:
            TlsError: They cannot be used.
        """
        self._files = files
        self._stamps = _stamps(files)
        self._context = _context(files)

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection, encrypted once `do_handshake` has been called; it takes over the socket.

        Raises:
            OSError: The client has gone.
        """
        stamps = _stamps(self._files)
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = _context(self._files)
                say(f"daemon: {self._files.cert} was renewed")
            except TlsError as error:
                say(f"daemon: {error}; what was there before is used")
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def is_broken_by(self, error: BaseException | None) -> bool:
        """A connection ended by it was ended by its client."""
        return isinstance(error, ssl.SSLError)


def _stamps(files: TlsFiles) -> list[object]:
    found: list[object] = []
    for path in (files.cert, files.key, files.client_ca):
        try:
            status = path.stat() if path else None
        except OSError:
            status = None
        found.append(status and (status.st_ino, status.st_mtime_ns, status.st_size))
    return found


def _context(files: TlsFiles) -> ssl.SSLContext:
    for path in (files.cert, files.key, files.client_ca):
        try:
            if path is not None:
                # What ssl says of a file that it cannot open does not name it.
                path.open("rb").close()
        except OSError as error:
            raise TlsError(f"{path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without an answer of ours OpenSSL would ask the terminal for an encrypted key's password.
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
    except ssl.SSLError as error:
        why = _REASONS.get(str(error.reason), "no PEM files, or the key is encrypted")
        raise TlsError(f"{files.cert} and {files.key}: {why}") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            why = _REASONS.get(str(error.reason), "no PEM file of certificates")
            raise TlsError(f"{files.client_ca}: {why}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context
