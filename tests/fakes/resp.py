"""A stand-in for Redis on a socket: the handshake of a client, and the rate-limit script worked out in Python.

It knows nothing of the script's text: that the real one does the same is shown against a real server.
"""

import math
import socket
import socketserver
import threading
import time
from typing import Any, BinaryIO, Self

Counts = dict[str, int]
NOTHING: Counts = dict.fromkeys(("requests", "tokens", "requests before", "tokens before"), 0)


class FakeRedis:
    """Used as a context manager. `asked`: how many scripts were run; `most_keys`: in one of them."""

    def __init__(self) -> None:
        self.asked = 0
        self.most_keys = 0
        self._kept: dict[bytes, Counts] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.address[1]}/0"

    def count(self, keys: list[bytes], numbers: list[int]) -> list[int]:
        """What the script does."""
        with self._lock:
            self.asked += 1
            self.most_keys = max(self.most_keys, len(keys))
            now_ms = time.time_ns() // 1_000_000
            minute, left = now_ms // 60_000, 60_000 - now_ms % 60_000
            answer = [left]
            for index, key in enumerate(keys):
                answer += self._count_one(key, numbers[4 * index : 4 * index + 4], minute, left)
            return answer

    def _count_one(self, key: bytes, numbers: list[int], minute: int, left: int) -> list[int]:
        kept = self._kept.get(key, NOTHING | {"minute": minute})
        before = [kept["requests before"], kept["tokens before"]]
        count = [kept["requests"], kept["tokens"]]
        if kept["minute"] == minute - 1:
            before, count = count, [0, 0]
        elif kept["minute"] != minute:
            before, count = [0, 0], [0, 0]
        refused = 0
        for what in (1, 0):
            limit, cost = numbers[2 * what : 2 * what + 2]
            if limit >= 0 and math.floor(before[what] * left / 60_000) + count[what] + cost > limit:
                refused = what + 1
        if not refused:
            count = [count[0] + numbers[1], count[1] + numbers[3]]
            self._kept[key] = {
                "minute": minute, "requests": count[0], "tokens": count[1],
                "requests before": before[0], "tokens before": before[1],
            }  # fmt: skip
        return [refused, before[0], count[0], before[1], count[1]]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(owner: FakeRedis) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            super().setup()
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def handle(self) -> None:
            while command := _command(self.rfile):
                self.wfile.write(_answer(owner, command))

    return Handler


def _command(reader: BinaryIO) -> list[bytes]:
    """One command as its words; empty when the client has hung up."""
    line = reader.readline()
    words = []
    for _ in range(int(line[1:]) if line else 0):
        size = int(reader.readline()[1:])
        words.append(reader.read(size))
        reader.read(2)
    return words


def _answer(owner: FakeRedis, command: list[bytes]) -> bytes:
    name, *words = command
    if name.upper() == b"EVAL":
        keys = words[2 : 2 + int(words[1])]
        return _encoded(owner.count(keys, [int(word) for word in words[2 + len(keys) :]]))
    if name.upper() == b"HVALS":
        return _encoded([])  # no breaker is open
    return b"+PONG\r\n" if name.upper() == b"PING" else b"+OK\r\n"


def _encoded(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(_encoded(one) for one in value)
    return b":%d\r\n" % value
