"""A stand-in in front of PostgreSQL that hangs up at COMMIT: before the server has seen it, or after it was done."""

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from tests.faults.books import Books

SOCKET = ".s.PGSQL.5432"


class LossyPostgres:
    """Used as a context manager. `loses`: the share of commits that are lost, from now on; `lost` counts them."""

    def __init__(self, behind: Path, dice: random.Random) -> None:
        self.loses = 0.0
        self.lost: Counter[str] = Counter(before=0, after=0)
        self._behind, self._dice = behind / SOCKET, dice
        self._folder = TemporaryDirectory(prefix="tollgate-lossy-")
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "LossyPostgres":
        self._listener.bind(f"{self._folder.name}/{SOCKET}")
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._folder.cleanup()

    @contextlib.contextmanager
    def instead(self, books: Books) -> Iterator[None]:
        """Processes that are started inside the block go through here."""
        real = books.url
        books.url = f"postgresql://postgres@/{books.name}?host={quote(self._folder.name, safe='')}"
        try:
            yield
        finally:
            books.url = real

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._behind))
                pair: Any = _Pair(self, client, server)
                threading.Thread(target=pair.upwards, daemon=True).start()
                threading.Thread(target=pair.downwards, daemon=True).start()

    def fate(self) -> str:
        """Of one commit: "" is none, else "before" or "after"."""
        if self._dice.random() >= self.loses:
            return ""
        fate = self._dice.choice(["before", "after"])
        self.lost[fate] += 1
        return fate


class _Pair:
    """One client's connection and the server's."""

    def __init__(self, owner: LossyPostgres, client: socket.socket, server: socket.socket) -> None:
        self._owner, self._client, self._server = owner, client, server
        self._fate = ""

    def upwards(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65_536):
                if b"COMMIT\0" in data:
                    self._fate = self._owner.fate()
                if self._fate == "before":
                    break
                self._server.sendall(data)
        if self._fate != "after":
            self._hang_up()

    def downwards(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(65_536):
                if self._fate == "after":
                    break
                self._client.sendall(data)
        self._hang_up()

    def _hang_up(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
