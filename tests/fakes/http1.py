"""Just enough HTTP/1.1 on asyncio streams, with control over every byte and an eye on the client."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from .behaviour import Behaviour

HEAD_LIMIT = 1 << 20
SIOCOUTQNSD = 0x894B  # Linux: bytes of the send queue not yet sent
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STALL_S = 3600.0


class ClientGoneError(Exception):
    """The client closed its side before the answer ended."""


class Peer(asyncio.StreamReaderProtocol):
    """One connection. `gone` is set as soon as the client's FIN or reset arrives, even while we write or wait."""

    def __init__(self, serve: Callable[[Peer], None], lost: Callable[[Peer], None]) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=HEAD_LIMIT, loop=loop)
        super().__init__(self.reader, self._connected, loop=loop)
        self.gone = asyncio.Event()
        self._serve, self._lost = serve, lost

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._serve(self)

    def eof_received(self) -> bool:
        """The client said FIN: whatever we still send is not wanted."""
        self.gone.set()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Both sides are closed, or a reset came."""
        self.gone.set()
        super().connection_lost(exc)
        self._lost(self)

    async def pause(self, seconds: float) -> None:
        """Sleep, unless the client goes: ClientGoneError at once."""
        if seconds > 0 and not self.gone.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), seconds)
        if self.gone.is_set():
            raise ClientGoneError

    async def reset(self) -> None:
        """Close with RST, after what was written has left for the client."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            for _ in range(500):
                queued = struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, bytes(4)))[0]
                if queued == 0 and self.writer.transport.get_write_buffer_size() == 0:
                    break
                await asyncio.sleep(0.002)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(slots=True)
class Request:
    """A parsed request; header names are lower case, `path` has no query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


async def read_request(peer: Peer) -> Request | None:
    """The next request of the connection; None when there is no more, or it is no HTTP."""
    reader = peer.reader
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            peer.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunked(reader)
        else:
            length = int(headers.get("content-length") or 0)
            body = await reader.readexactly(length) if length else b""
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
        return None
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method, target.partition("?")[0], headers, body, keep)


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(parts)


class Reply:
    """Writes one response up to its cut. `cut` is true once the last permitted byte is out."""

    def __init__(self, peer: Peer, behaviour: Behaviour, *, keep_alive: bool) -> None:
        self.peer = peer
        self.behaviour = behaviour
        self.keep_alive = keep_alive
        self.room = behaviour.cut_after_bytes
        self.cut = self.room == 0

    def fits(self, before: int, payload: int) -> int:
        """How many bytes of a payload will go out if `before` bytes come ahead of it."""
        if self.room is None:
            return payload
        return max(0, min(payload, self.room - before))

    async def send(self, data: bytes) -> None:
        """Write, or write what the cut permits. Raises ClientGoneError."""
        if self.peer.gone.is_set():
            raise ClientGoneError
        if self.room is not None:
            data = data[: self.room]
            self.room -= len(data)
            self.cut = self.room == 0
        if not data:
            return
        writer = self.peer.writer
        writer.write(data)
        if writer.transport.get_write_buffer_size():
            try:
                await writer.drain()
            except OSError:
                raise ClientGoneError from None

    def head(self, status: int, headers: dict[str, str]) -> bytes:
        """The bytes of a response's head."""
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if not self.keep_alive:
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def end_cut(self) -> None:
        """Leave the client the way the script says."""
        how = self.behaviour.cut_how
        self.keep_alive = False
        if how == "stall":
            await self.peer.pause(_STALL_S)
        elif how == "reset":
            await self.peer.reset()
        else:
            self.peer.writer.close()
