"""/metrics, /healthz and /readyz: served by threads of their own, bounded.

Of HTTP only what that takes: the standard library's server loads its client, the mail parser and
OpenSSL, of which a daemon without TLS needs nothing.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

from maxrl_ops.exporter import Exporter

if TYPE_CHECKING:
    from maxrl_ops.tls import Tls

_TIMEOUT_SECONDS = 10.0
_MOST_CONNECTIONS = 32
_NEVER_SECONDS = 86_400.0
_LONGEST_LINE = 65_536
_MOST_HEADERS = 100
_PLAIN = "text/plain; charset=utf-8"

# Says what is wrong, or None.
Check = Callable[[], str | None]


class _HttpServer(ThreadingMixIn, TCPServer):
    """Bounded: so many connections at once, each for so long."""

    allow_reuse_address = True
    daemon_threads = True
    # Nobody waits for a slow client at the end.
    block_on_close = False
    # The default of 5 makes a burst wait for the kernel to try again, a second and more.
    request_queue_size = _MOST_CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        exporter: Exporter,
        checks: Mapping[str, Check],
        tls: "Tls | None",
    ):
        self.exporter, self.checks, self._tls = exporter, checks, tls
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # Here and not where connections are taken: a client that never shakes hands holds up
            # nobody else.
            encrypted = None if self._tls is None else self._tls.wrap(request)
            connection = request if encrypted is None else encrypted
            # For the connection as a whole: a timeout of each read never ends a client that drips.
            end = threading.Timer(_TIMEOUT_SECONDS, _cut, (connection,))
            end.daemon = True
            end.start()
            try:
                if encrypted is not None:
                    encrypted.do_handshake()
                super().process_request_thread(connection, client_address)
            finally:
                end.cancel()
                connection.close()
        except OSError:
            # Before anything was asked: no TLS, a version that is none, no certificate of ours.
            self.shutdown_request(request)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; anything else is said."""
        error = sys.exception()
        is_of_tls = self._tls is not None and self._tls.is_broken_by(error)
        if not (isinstance(error, ConnectionError | TimeoutError) or is_of_tls):
            super().handle_error(request, client_address)


def _cut(connection: socket.socket) -> None:
    """End a connection under whoever reads or writes it; one that is closed already stays so."""
    with suppress(OSError):
        # The socket's own, also of an encrypted one: SSLSocket's forgets first that it is one, and
        # what is being written would go out as it is.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _RequestError(Exception):
    """A request that nobody can answer; the message is one line for who made it."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(StreamRequestHandler):
    """One request, then the connection is closed, as HTTP/1.0 has it."""

    server: _HttpServer

    def handle(self) -> None:
        method = ""
        try:
            method, path = self._request()
            headers = self._headers()
            if method not in {"GET", "HEAD"}:
                raise _RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "there are GET and HEAD")
            answer = self._answer(path, headers.get("accept", ""))
        except _RequestError as error:
            answer = error.status, f"{error}\n".encode(), _PLAIN
        self._send(*answer, with_body=method != "HEAD")

    def _request(self) -> tuple[str, str]:
        """Method and path, without the query."""
        words = self._line(HTTPStatus.REQUEST_URI_TOO_LONG).split()
        if not words:
            # A client that has gone, or only looks whether somebody listens.
            raise ConnectionAbortedError
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            raise _RequestError(HTTPStatus.BAD_REQUEST, "that is no request of HTTP/1")
        if not words[2].startswith("HTTP/1."):
            raise _RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this is HTTP/1")
        return words[0], words[1].partition("?")[0]

    def _headers(self) -> dict[str, str]:
        """By name in lower case."""
        found: dict[str, str] = {}
        for _ in range(_MOST_HEADERS):
            line = self._line(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if not line:
                return found
            name, _, value = line.partition(":")
            known = found.get(name.lower())
            # One that comes twice is one list.
            found[name.lower()] = value.strip() if known is None else f"{known},{value.strip()}"
        raise _RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers")

    def _line(self, too_long: HTTPStatus) -> str:
        line = self.rfile.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise _RequestError(too_long, f"a line of more than {_LONGEST_LINE} bytes")
        return line.decode("latin-1").rstrip("\r\n")

    def _answer(self, path: str, accept: str) -> tuple[HTTPStatus, bytes, str]:
        """Status, body and content type."""
        if path == "/metrics":
            return HTTPStatus.OK, *self.server.exporter.answer(accept)
        if path in self.server.checks:
            problem = self.server.checks[path]()
            status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
            return status, f"{problem or 'ok'}\n".encode(), _PLAIN
        raise _RequestError(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str, *, with_body: bool) -> None:
        lines = [
            f"HTTP/1.0 {status.value} {status.phrase}",
            "Server: maxrl-ops",
            time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            *(["Allow: GET, HEAD"] if status == HTTPStatus.METHOD_NOT_ALLOWED else ()),
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        ]
        head = "".join(f"{line}\r\n" for line in lines) + "\r\n"
        # In one piece: what is sent in two may wait for the client's word on the first.
        self.wfile.write(head.encode() + (body if with_body else b""))


class Server:
    """A server on a thread of its own.

    Attributes:
        address: Host and port, the real one where 0 was asked for.
    """

    def __init__(self, http: _HttpServer) -> None:
        self.address: tuple[str, int] = (str(http.server_address[0]), int(http.server_address[1]))
        self._http = http
        # Without an interval in which it would look whether it is to end: `close` wakes it.
        self._thread = threading.Thread(
            target=http.serve_forever, args=(_NEVER_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        # Nobody can connect any more, and who waits for that wakes.
        self._http.socket.shutdown(socket.SHUT_RDWR)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def serve(
    exporter: Exporter,
    address: tuple[str, int],
    not_alive: Check,
    not_ready: Check,
    tls: "Tls | None" = None,
) -> Server:
    """Serve /metrics, /healthz and /readyz there, encrypted by `tls`.

    Raises:
        OSError: The address is taken, or none of ours.
    """
    checks = {"/healthz": not_alive, "/readyz": not_ready}
    return Server(_HttpServer(address, exporter, checks, tls))
