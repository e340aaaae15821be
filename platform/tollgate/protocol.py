"""uvicorn's HTTP protocol with an end to how long and how large the head of a request may be (left alone it reads the
headers of a client that sends them for ever), and a stop that loses no request.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm.engine.admission import LAST_MOMENT_S  # not from runtime: a worker imports this before Django is set up

HEAD_S = 15.0  # from the connection, or a request's first byte, to the end of its headers
HEAD_BYTES = 64 * 1024
LINGER_S = 0.5
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_BODY = (
    b'{"error":{"message":"The headers are larger than 65,536 bytes, the most this gateway accepts.",'
    b'"type":"invalid_request_error","param":null,"code":"headers_too_large"}}'
)


_CLOSE = (b"connection", b"close")


class Protocol(HttpToolsProtocol):
    """One connection. Closes it when a head takes too long, answers 431 when it is too large. When the server stops, a
    request that is on its way gets a moment to arrive, and every answer says that the connection ends with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stopping = self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if not self._in_head:
            if self._head_timer is not None:
                self._head_is_over()
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _refuse(self) -> None:
        """Say why; what else comes is not looked at. Closing at once, with bytes still on their way, would reset the
        connection, and the client would lose the answer."""
        self._refused = True
        self.transport.write(_TOO_LARGE % (len(_BODY), _BODY))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._stopping:
            self.headers.append(_CLOSE)  # as if the client had asked for it: uvicorn says so in the answer then
        super().on_headers_complete()

    def shutdown(self) -> None:
        self._stopping = True
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr] # it is None at first
            self.loop.call_later(LAST_MOMENT_S, super().shutdown)
        else:
            self.headers.append(_CLOSE)
            super().shutdown()

    def _head_is_over(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
