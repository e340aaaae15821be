"""A provider that says nothing of its own: it answers every request with the bytes it was given, however wrong."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Self

SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class Recording:
    """An answer, byte for byte. `framing` is how its end is told; `pieces`: sizes of the writes, repeated to the end.
    `stays`: the connection is left open after the last byte, without an end."""

    body: bytes
    kind: str = SSE
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    framing: Literal["chunked", "length", "close"] = "chunked"
    pieces: tuple[int, ...] = (32_768,)
    stays: bool = False


class RecordedProvider:
    """On 127.0.0.1, one thread per connection. `sent` counts the bytes of bodies that went out."""

    def __init__(self) -> None:
        self.says = Recording(b"")
        self.sent = 0
        self.requests: list[bytes] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def play(self, recording: Recording) -> None:
        """Answer with this from now on."""
        self.says = recording
        self.sent = 0
        self.requests.clear()

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    owner: RecordedProvider


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # What is sent counts once it is out of our hands: the kernel's send buffer must not swallow megabytes.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        """Answer one request; False if the connection ends."""
        length = 0
        if not self.rfile.readline():
            return False
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        owner = self.server.owner
        owner.requests.append(self.rfile.read(length))
        self._answer(owner, owner.says)
        return not (owner.says.framing == "close" or owner.says.stays)

    def _answer(self, owner: RecordedProvider, said: Recording) -> None:
        headers = {"content-type": said.kind, **said.headers}
        if said.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif said.framing == "length":
            headers["content-length"] = str(len(said.body))
        else:
            headers["connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.wfile.write(f"HTTP/1.1 {said.status}\r\n{head}\r\n".encode("latin-1"))
        start = number = 0
        while start < len(said.body):
            piece = said.body[start : start + said.pieces[number % len(said.pieces)]]
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if said.framing == "chunked" else piece
            self.wfile.write(framed)
            owner.sent += len(piece)
            start += len(piece)
            number += 1
        if said.stays:
            self._wait_for_the_client()
        elif said.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def _wait_for_the_client(self) -> None:
        self.connection.settimeout(20)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if not self.connection.recv(65_536):
                    return
            except TimeoutError:
                return
