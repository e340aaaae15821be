"""Is this process alive, and should it be sent work?

`/health/live` answers as long as the event loop turns. `/health/ready` answers 200 only if the database answers within
a second, has every migration this code knows, holds a catalog, and the process is not draining; else 503 naming what
fails.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from llm.models import LLMProvider

DATABASE_DEADLINE_S = 1.0
LIVE, READY = "/health/live", "/health/ready"

_draining = threading.Event()
# Once the schema is complete it stays so for this process: its code does not gain migrations while it runs.
_migrated = threading.Event()


def drain() -> None:
    """From now on `/health/ready` says no. Called when the process is told to stop."""
    _draining.set()


def drain_on_stop_signal(also: Callable[[], None]) -> None:
    """Drain, and do `also`, as soon as SIGTERM or SIGINT arrives, then let the server's own handler go on.

    Called at start-up in each web process, after the server has set its handlers, whichever server it is. A server's
    shutdown event comes too late: only once the last connection is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may set handlers; a server in another thread is a test's
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None, before: object = previous) -> None:
            drain()
            also()
            if callable(before):
                before(received, frame)

        if callable(previous):  # by default the signal ends the process at once: nothing to drain for
            signal.signal(number, handle)


def is_draining() -> bool:
    """Whether the process has been told to stop."""
    return _draining.is_set()


def reset() -> None:
    """Forget what was seen (for tests)."""
    _draining.clear()
    _migrated.clear()


def unapplied_migrations() -> list[str]:
    """Migrations the code has and the database lacks, as `app.name`, in the order they would run."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


async def live(request: HttpRequest) -> JsonResponse:
    """200 while the process can answer at all."""
    return _response(*await probe(request.path))


async def ready(request: HttpRequest) -> JsonResponse:
    """200 if the process should be sent work, else 503. Each check is `ok` or says what is wrong."""
    return _response(*await probe(request.path))


async def probe(path: str) -> tuple[int, dict[str, Any]]:
    """Status and body for `/health/live` or `/health/ready`. `asgi.py` answers with it in front of Django: load
    balancers probe by address, which the Host check and the redirect to TLS would refuse.
    """
    if path == LIVE:
        return 200, {"status": "ok"}
    checks = await _database_checks()
    checks["draining"] = "the process has been told to stop" if is_draining() else "ok"
    failing = sorted(name for name, result in checks.items() if result != "ok")
    body = {"status": "unavailable" if failing else "ok", "failing": failing, "checks": checks}
    return 503 if failing else 200, body


def _response(status: int, body: dict[str, Any]) -> JsonResponse:
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})


async def _database_checks() -> dict[str, str]:
    """The three checks that need the database, in a thread of their own so that a hanging one cannot hold the loop."""
    try:
        async with asyncio.timeout(DATABASE_DEADLINE_S):
            return await sync_to_async(_look, thread_sensitive=False)()
    except TimeoutError:
        return {"database": f"no answer within {DATABASE_DEADLINE_S:g} s"}


def _look() -> dict[str, str]:
    checks = {"database": "ok"}
    try:
        if not _migrated.is_set():
            missing = unapplied_migrations()
            if missing:
                return checks | {"migrations": f"{len(missing)} unapplied, first {missing[0]}: run manage.py migrate"}
            _migrated.set()
        checks["migrations"] = "ok"
        checks["catalog"] = "ok" if LLMProvider.objects.exists() else "no provider: run manage.py bootstrap"
    except DatabaseError:
        # The driver's message may name hosts and users; a probe is open to anyone.
        return {"database": "unreachable"}
    finally:
        # Back to the pool: this thread may not run again for hours.
        connection.close()
    return checks
