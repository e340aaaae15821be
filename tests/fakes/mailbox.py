"""A mail server on a real socket: it keeps what it got, refuses `refused@...` and hangs up on `hangup@...`."""

import socketserver
import threading
from typing import Any, Self


class FakeMailServer:
    """Plain SMTP on 127.0.0.1. `mails` are the raw messages, as they came."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> Any:
        mails = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 fake")
                while line := self.rfile.readline().decode().strip():
                    if "hangup@" in line:
                        return
                    if line.upper() == "QUIT":
                        self._say("221 bye")
                        return
                    if line.upper() == "DATA":
                        self._say("354 go on")
                        mails.append("".join(iter(lambda: self.rfile.readline().decode(), ".\r\n")))
                    self._say("550 no such user" if "refused@" in line else "250 fine")

            def _say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        return Handler
