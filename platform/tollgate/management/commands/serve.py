"""`manage.py serve`: the web server alone."""

import signal
import socket
import sys
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.utils import timezone
from uvicorn.supervisors import Multiprocess

from llm.catalog.loader import follow_litellm
from tollgate import health, metrics
from tollgate.protocol import Protocol

WORKER_S = 60  # a worker not ready, or not heard, for so long is replaced; 5 s are few on a busy machine
KEEP_ALIVE_S = 75  # longer than the 60 s of common load balancers, so that they close idle connections, not we


class Command(BaseCommand):
    help = "Run the web server on HOST and PORT with WEB_WORKERS processes; SIGTERM stops it cleanly."

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse on unapplied migrations or a taken port, then serve until told to stop."""
        # Once stopped, uvicorn raises the signal again for whoever handled it before; by default that would kill the
        # process with status 143 after a perfectly clean stop. Before uvicorn listens for it, this ends the start-up.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: sys.exit(0))
        refuse_unapplied_migrations()
        follow_litellm(now=timezone.now())  # on or off, as this environment says
        connection.close()
        listener = listen(settings.HOST, settings.PORT)
        config = uvicorn.Config(
            "tollgate.asgi:application",
            host=settings.HOST,
            port=settings.PORT,
            workers=settings.WEB_WORKERS,
            http=Protocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,  # Django has configured logging by the time the application is imported
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.FORWARDED_ALLOW_IPS,
            backlog=2048,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_worker_healthcheck=WORKER_S,
            # The data path cuts what is left at the end of the grace period, with an error event; this comes after.
            timeout_graceful_shutdown=settings.GRACE_PERIOD_S + 5,
        )
        if settings.WEB_WORKERS > 1:
            metrics.share(port=settings.PORT)
            Processes(config, sockets=[listener]).run()
            return
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise CommandError("The server did not start. The reason is in the log lines above.")


class Processes(Multiprocess):
    """uvicorn's parent of the web processes, which replaces one that died; the metrics of those gone are told so."""

    _seen: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Called every half second."""
        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes if process.pid is not None}
        for pid in self._seen - pids:
            metrics.forget(pid)
        self._seen = pids


def refuse_unapplied_migrations() -> None:
    """Raise CommandError if the database lacks migrations, or cannot be asked."""
    try:
        missing = health.unapplied_migrations()
    except DatabaseError as error:
        raise CommandError(f"The database cannot be reached; check DATABASE_URL. It said: {error}") from error
    finally:
        connection.close()
    if missing:
        raise CommandError(
            f"The database has {len(missing)} unapplied migrations, the first is {missing[0]}. "
            "Run `manage.py migrate`, then start again."
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; CommandError says what to do if it is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # now, so that two servers started together cannot both believe they have the port
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what listens there, or choose another port: "
            f"PORT={port + 1 if port < 65_535 else 8084}"
        ) from error
    listener.set_inheritable(True)
    return listener
