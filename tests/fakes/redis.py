"""A Redis on a real socket (RESP3): the few commands that breakers use, and ways to be slow or gone."""

from __future__ import annotations

import socketserver
import threading
import time
from types import TracebackType
from typing import Any, Self


class FakeRedis:
    """`fake.url` is what REDIS_URL takes. `stalled`: it takes commands and answers none."""

    def __init__(self) -> None:
        self.stalled = False
        self.commands = 0
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.changes = 0  # of hashes: what WATCH compares
        self._strings: dict[bytes, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self, 0)
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._serve()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.down()

    def down(self) -> None:
        """Gone: connections break, new ones are refused. What it knows stays."""
        self._server.shutdown()
        self._server.server_close()
        self._server.break_all()

    def up(self) -> None:
        """Back, at the same address."""
        self._server = _Server(self, self.port)
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, name: bytes, words: list[bytes]) -> Any:
        with self._lock:
            return self._one(name, words)

    def _one(self, name: bytes, words: list[bytes]) -> Any:
        self.commands += 1
        found: Any = getattr(self, f"_{name.decode().lower()}", None)
        return b"-ERR unknown command\r\n" if found is None else found(*words)

    def all_or_nothing(self, queued: list[list[bytes]], seen: int | None) -> bytes:
        """EXEC: the answers of what was queued; nothing is done if a hash changed since `seen`."""
        with self._lock:
            if seen is not None and seen != self.changes:
                return _encoded(None)
            answers = [_encoded(self._one(words[0], words[1:])) for words in queued]
            return b"*%d\r\n" % len(answers) + b"".join(answers)

    def _client(self, *_: bytes) -> Any:
        return b"+OK\r\n"

    _select = _client

    def _hello(self, version: bytes, *_: bytes) -> Any:
        return b"%1\r\n$5\r\nproto\r\n:" + version + b"\r\n"

    def _ping(self) -> Any:
        return b"+PONG\r\n"

    def _hvals(self, key: bytes) -> Any:
        return list(self.hashes.get(key, {}).values())

    def _hget(self, key: bytes, field: bytes) -> Any:
        return self.hashes.get(key, {}).get(field)

    def _hset(self, key: bytes, field: bytes, value: bytes) -> Any:
        self.changes += 1
        fields = self.hashes.setdefault(key, {})
        new = field not in fields
        fields[field] = value
        return int(new)

    def _hdel(self, key: bytes, *fields: bytes) -> Any:
        self.changes += 1
        known = self.hashes.get(key, {})
        return sum(known.pop(field, None) is not None for field in fields)

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        words = [option.upper() for option in options]
        until = time.time() + int(words[words.index(b"PX") + 1]) / 1000
        if b"NX" in words and self._strings.get(key, (b"", 0.0))[1] > time.time():
            return None
        self._strings[key] = value, until
        return b"+OK\r\n"

    def _del(self, *keys: bytes) -> Any:
        return sum(self._strings.pop(key, None) is not None for key in keys)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, fake: FakeRedis, port: int) -> None:
        self.fake = fake
        self.open: set[Any] = set()
        super().__init__(("127.0.0.1", port), _Connection)

    def break_all(self) -> None:
        for request in list(self.open):
            self.shutdown_request(request)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.open.add(self.request)
        self.watched: int | None = None
        self.queued: list[list[bytes]] | None = None
        try:
            while (head := self.rfile.readline()).startswith(b"*"):
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                if not self.server.fake.stalled:
                    self.wfile.write(self._answer(words))
        except (OSError, ValueError):
            return
        finally:
            self.server.open.discard(self.request)

    def _answer(self, words: list[bytes]) -> bytes:
        fake, name = self.server.fake, words[0].upper()
        if name == b"EXEC":
            queued, seen = self.queued or [], self.watched
            self.queued = self.watched = None
            return fake.all_or_nothing(queued, seen)
        if name in (b"WATCH", b"UNWATCH"):
            self.watched = fake.changes if name == b"WATCH" else None
        elif name == b"MULTI":
            self.queued = []
        elif self.queued is None:
            return _encoded(fake.answer(words[0], words[1:]))
        else:
            self.queued.append(words)
            return b"+QUEUED\r\n"
        return b"+OK\r\n"


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"_\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in value)
    return value if value[:1] in b"+-%" else b"$%d\r\n%s\r\n" % (len(value), value)
