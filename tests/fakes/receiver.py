"""A receiver of webhooks on a real socket: it keeps what it got and answers as it was told."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HANG = 0  # takes the request and says nothing until the receiver stops
DRIP = 1  # sends a byte of its answer's head twice a second, for ever


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """What docs/alerts.md tells receivers to do."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(expected, one) for one in self.headers["webhook-signature"].split(" "))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections come many at once


class FakeReceiver:
    """On 127.0.0.1, in threads of its own. Each request gets the next status told to `answer`, then 204."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.names: list[str | None] = []  # the host names that TLS clients asked for
        self._answers: deque[int] = deque()
        self._ends = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?of=tollgate"

    def answer(self, *statuses: int) -> None:
        self._answers.extend(statuses)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                status = receiver._answers.popleft() if receiver._answers else 204
                if status == HANG:
                    receiver._ends.wait(60)
                elif status == DRIP:
                    receiver._drip(self.wfile)
                else:
                    self.send_response(status)
                    self.send_header("location", "/elsewhere")
                    self.send_header("content-length", "0")
                    self.end_headers()

            def do_GET(self) -> None:
                receiver.received.append(Received(self.path, {}, b""))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler

    def _drip(self, out: Any) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nx: ")
        until = time.monotonic() + 60
        while time.monotonic() < until and not self._ends.wait(0.5):
            try:
                out.write(b"x")
            except OSError:
                return
