"""/metrics, /healthz and /readyz: served by threads of their own, bounded."""

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from maxrl_ops.exporter import Exporter
from maxrl_ops.tls import Tls

_TIMEOUT_SECONDS = 10.0
_MOST_CONNECTIONS = 32
_NEVER_SECONDS = 86_400.0
_PLAIN = "text/plain; charset=utf-8"

# Says what is wrong, or None.
Check = Callable[[], str | None]


class _HttpServer(ThreadingHTTPServer):
    """Bounded: so many connections at once, each for so long."""

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
        tls: Tls | None,
    ):
        self.exporter, self.checks, self._tls = exporter, checks, tls
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's asks the resolver for our name, which nobody needs and which may hang.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # Here and not where connections are taken: a client that never shakes hands holds up
            # nobody else.
            connection = request if self._tls is None else self._tls.wrap(request)
            # For the connection as a whole: a timeout of each read never ends a client that drips.
            end = threading.Timer(_TIMEOUT_SECONDS, _cut, (connection,))
            end.daemon = True
            end.start()
            try:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
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
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ssl.SSLError):
            super().handle_error(request, client_address)


def _cut(connection: socket.socket) -> None:
    """End a connection under whoever reads or writes it; one that is closed already stays so."""
    with suppress(OSError):
        # The socket's own, also of an encrypted one: SSLSocket's forgets first that it is one, and
        # what is being written would go out as it is.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            accept = self.headers.get("Accept", "")
            self._send(200, *self.server.exporter.answer(accept), with_body)
        elif path in self.server.checks:
            problem = self.server.checks[path]()
            self._send(503 if problem else 200, f"{problem or 'ok'}\n".encode(), _PLAIN, with_body)
        else:
            words = b"there are /metrics, /healthz and /readyz\n"
            self._send(404, words, _PLAIN, with_body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # Every method without a handler is unknown to the base class.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(405, b"there are GET and HEAD\n", _PLAIN, with_body=True)
        else:
            super().send_error(code, message, explain)

    def _send(self, status: int, body: bytes, content_type: str, with_body: bool) -> None:
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "maxrl-ops"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Scrapes are not worth a line each."""


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
    tls: Tls | None = None,
) -> Server:
    """Serve /metrics, /healthz and /readyz there, encrypted by `tls`.

    Raises:
        OSError: The address is taken, or none of ours.
    """
    checks = {"/healthz": not_alive, "/readyz": not_ready}
    return Server(_HttpServer(address, exporter, checks, tls))
