"""What one web process keeps while it runs: the ledger's thread, the provider connections, the counters, the refusals,
what is known of providers' health.

`RUNTIME` is started and stopped by the lifespan of the data path; tests reset it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from billing.ledger import Ledger
from llm.engine import oauth, refusals, snapshot, tenant_state
from llm.engine.admission import LAST_MOMENT_S, Admission
from llm.engine.health import Health
from llm.engine.http import Client
from llm.engine.idempotency import Idempotency
from llm.engine.limits import Limits
from tenants import auth
from tenants.errors import Unavailable

logger = logging.getLogger(__name__)

CONFIG_LIMITS = "SELECT id, budget_limit_daily, budget_limit_monthly FROM llm_configs WHERE id"
MAX_REFUSALS_WAITING = 1_000
SETTLE_S = 7.0  # a settlement waits 5 s for the database
RETRY_SHARE = 0.2
RETRY_RESERVE = 10.0


class Runtime:
    """One process's moving parts. Everything that journeys share is here and nowhere else."""

    def __init__(self) -> None:
        self.ledger = Ledger({"config": CONFIG_LIMITS})
        self.admission = Admission()
        self.limits = Limits(self.admission)
        self.idempotency = Idempotency()
        self.health = Health()
        self._stopping = self._closed = False
        self.streams = 0  # answers promised to clients whose provider is still sending
        self._client: Client | None = None
        self._journeys: dict[asyncio.Task[Any], Callable[[], None]] = {}
        self._refusals: deque[refusals.Refusal] = deque(maxlen=MAX_REFUSALS_WAITING)
        self._writer: asyncio.Task[None] | None = None
        self._retries = RETRY_RESERVE

    @property
    def client(self) -> Client:
        """This loop's connections to providers."""
        if self._client is None:
            self._client = Client()
        return self._client

    async def start(self) -> None:
        """Once per process. The database may be away: then the watch finds the catalog when it is back."""
        self._stopping = self._closed = False
        self.ledger.start()
        self.admission.start()
        if self.limits.shared is not None:
            self.limits.shared.start()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, auth.off_the_loop, snapshot.WATCH.look)
        self.health.start()
        snapshot.WATCH.start(self.health.look)

    def drain(self) -> None:
        """The process has been told to stop: what comes later than a last moment is refused, and what is still under
        way at the end of the grace period is cut, with an error event and a settlement. Called on the event loop."""
        if not self._stopping:
            self._stopping = True
            loop = asyncio.get_running_loop()
            loop.call_later(LAST_MOMENT_S + 1, self._close)  # once connections that were idle have closed
            loop.call_later(settings.GRACE_PERIOD_S, self._cut)

    def admit(self) -> None:
        """Raises Unavailable if this process takes no more requests now: it is stopping, or has too much to do."""
        if self._closed:
            raise Unavailable("This server is shutting down. Send the request again.")
        self.admission.check(self.under_way)

    def _close(self) -> None:
        self._closed = True

    def _cut(self) -> None:
        for stop in list(self._journeys.values()):
            stop()

    async def stop(self) -> None:
        """Cut what is left, wait for its settlement, then commit what waits."""
        self._stopping = self._closed = True
        self.admission.stop()
        self._cut()
        if self._journeys:
            await asyncio.wait(self._journeys, timeout=SETTLE_S)
        for task in list(self._journeys):
            task.cancel()
        if self._writer is not None and not self._writer.done():
            await asyncio.wait({self._writer}, timeout=2.0)
        self._writer = None  # it belongs to this loop; a process that starts again has another
        if self.limits.shared is not None:
            await self.limits.shared.stop()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.ledger.stop)
        await loop.run_in_executor(None, snapshot.WATCH.stop)
        await self.health.stop()
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        tenant_state.forget()
        oauth.TOKENS.clear()
        auth.CALLERS.clear()

    def spawn(self, journey: Coroutine[Any, Any, Any], *, stop: Callable[[], None]) -> "asyncio.Task[Any]":
        """A task that outlives its client's connection. Kept here, since the loop keeps only a weak reference; `stop`
        ends it early when the process must."""
        task = asyncio.get_running_loop().create_task(journey)
        self._journeys[task] = stop
        task.add_done_callback(self._ended)
        return task

    @property
    def under_way(self) -> int:
        """Journeys that are not settled yet."""
        return len(self._journeys)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._journeys.pop(task, None)

    def earn_retry(self) -> None:
        """A new request allows a fifth of a retry: retries stay below 20 % of live traffic."""
        self._retries = min(RETRY_RESERVE, self._retries + RETRY_SHARE)

    def may_retry(self) -> bool:
        if self._retries < 1.0:
            return False
        self._retries -= 1.0
        return True

    def refuse(self, refusal: refusals.Refusal) -> None:
        """Keep a refused request's decision, off the request path. Bounded: under a flood the oldest are dropped."""
        self._refusals.append(refusal)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_refusals())

    async def _write_refusals(self) -> None:
        loop = asyncio.get_running_loop()
        while self._refusals:
            batch = [self._refusals.popleft() for _ in range(len(self._refusals))]
            try:
                await loop.run_in_executor(None, auth.off_the_loop, lambda batch=batch: refusals.write(batch))
            except DatabaseError as error:
                logger.warning("%s refusals could not be kept: %s", len(batch), type(error).__name__)


RUNTIME = Runtime()


def reset() -> Runtime:
    """A fresh runtime, for tests."""
    global RUNTIME  # noqa: PLW0603 - tests only
    RUNTIME = Runtime()
    snapshot.WATCH.reset()
    tenant_state.forget()
    oauth.TOKENS.clear()
    auth.CALLERS.clear()
    return RUNTIME
