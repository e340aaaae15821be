"""THE JOURNEY of one request: plan, reserve, call, answer, settle. Read this first.

    open(caller, request) -> Reply

It runs in a task of its own that outlives the client's connection: views get cancelled and generators that were never
started skip their `finally`, but a hold must always be resolved. Nothing is promised to the client before the
provider's first good event, so until then every failure is a true HTTP status and may fall back. Settling happens once,
before the last byte of the answer is handed to the wire. A killed process is covered by the ledger's sweeper.
"""

import asyncio
import logging
import random
import time
import weakref
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing.errors import BudgetExceeded
from llm.calls import Call, Completed
from llm.engine import attempt, bookkeeping, metrics, refusals, runtime, snapshot, tenant_state
from llm.engine.booking import Booking
from llm.engine.bookkeeping import Attempt
from llm.engine.callers import route_caller
from llm.engine.channel import Channel, Ending
from llm.engine.health import Passage
from llm.engine.http import NeverSent
from llm.engine.limits import Standing
from llm.errors import ByokRejected, GatewayFailed, NoRoute, ProviderError, UpstreamAuthFailed, UpstreamRateLimited
from llm.routing.plan import plan
from llm.types import ChatRequest, Credential, Decision, Target, TenantState
from tenants.auth import Caller
from tenants.errors import TollgateError, Unavailable

logger = logging.getLogger(__name__)
MAX_ATTEMPTS = 3


class ClientGoneError(Exception):
    """The client left while the provider was being asked."""


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer that may be promised to the client: status 200 and these facts for its headers.

    A whole answer is in `completed`, settled. A stream comes through `channel`; whoever reads it calls `abandon` if it
    stops before the end.
    """

    request_id: str
    target: Target
    was_fallback: bool
    overhead_ms: float
    standings: tuple[Standing, ...]
    dropped: tuple[str, ...]
    completed: Completed | None = None
    usage: dict[str, Any] | None = None
    cost_usd: Decimal | None = None
    service_tier: str = ""  # the one that is billed, once that is known
    channel: Channel | None = None
    # Weak, since the journey keeps its reply: a cycle would leave every request to the garbage collector. One that is
    # under way is kept alive by the runtime, and one that has ended has nothing to abandon.
    journey: "weakref.ref[Journey]" = field(repr=False)

    def abandon(self) -> None:
        """The client is gone."""
        journey = self.journey()
        if journey is not None:
            journey.abandon()


async def open(caller: Caller, request: ChatRequest) -> Reply:  # noqa: A001 - the journey's verb
    """Serve a request up to the point where an answer may be promised.

    Raises TollgateError: everything that a client can be told with a true status. Cancelling it means the client left.
    """
    try:
        runtime.RUNTIME.admit()
    except Unavailable as error:
        metrics.refused(error.code, error.status, stream=request.stream)
        raise
    journey = Journey(caller, request)
    journey.start()
    try:
        return await journey.opened
    except asyncio.CancelledError:
        journey.abandon()
        raise


class Journey:
    """One request under way."""

    def __init__(self, caller: Caller, request: ChatRequest) -> None:
        self.caller = caller
        self.request = request
        self.runtime = runtime.RUNTIME
        self.opened: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.gone = False
        self._task: asyncio.Task[None] | None = None
        self._at_provider = False
        self._standings: tuple[Standing, ...] = ()
        self._wait_s: float | None = None  # the shortest Retry-After of the providers that limit requests
        self._booking: Booking | None = None
        self._channel: Channel | None = None

    def start(self) -> None:
        self._task = self.runtime.spawn(self._run(), stop=self.stop)

    def abandon(self) -> None:
        """The client is gone: stop asking the provider. Settling goes on."""
        if self.gone:
            return
        self.gone = True
        if self._channel is not None:
            self._channel.close()
        if self._at_provider and self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """The process must end: tell the client, and settle what was produced. Settling itself is not disturbed."""
        if self._at_provider and self._task is not None:
            self._task.cancel()

    # --- the order of things ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self.runtime.limits.one_more(self.caller), self._only_once():
                await self._serve()
        except TollgateError as error:
            self._refuse(error)
        except ClientGoneError:
            self._answer_nobody()
        except asyncio.CancelledError:
            self._refuse(Unavailable("This server was shut down before the answer was complete."))
            raise
        except Exception as error:  # a bug: the client is told so, and the hold was resolved on the way here
            logger.exception("Request %s failed inside the gateway", self.request.id)
            self._refuse(GatewayFailed(), error)

    def _only_once(self) -> AbstractContextManager[None]:
        if self.request.idempotency is None:
            return nullcontext()
        key, digest = self.request.idempotency
        return self.runtime.idempotency.once(self.caller.key_id, key, digest)

    async def _serve(self) -> None:
        self._standings = await self.runtime.limits.count(self.caller, tokens=self._counted_tokens())
        tenant: TenantState = await tenant_state.TENANTS.get(self.caller.tenant_id)
        self.runtime.earn_retry()
        decision = self._plan(tenant)
        booking = Booking(self.runtime.ledger, self.caller, self.request, tenant, decision)
        await booking.reserve()
        self._booking = booking
        try:
            await self._call_and_answer(booking)
        except ClientGoneError:
            await booking.settle_gone()
            raise
        except TollgateError as error:
            await booking.settle_failed(error)
            raise
        except BaseException:
            await booking.settle_failed(GatewayFailed())
            raise
        finally:
            booking.let_go()

    async def _call_and_answer(self, booking: Booking) -> None:
        """Try the targets in order until one answers."""
        targets = list(booking.decision.targets)
        index = booking.decision.targets.index(booking.target)
        while True:
            try:
                await self._attempt(booking)
                return
            except ProviderError as error:
                self._keep_shortest_wait(error)
                instead = await _own_key_after(error, booking.target)
                if self._channel is not None or len(booking.attempts) >= MAX_ATTEMPTS:
                    raise
                if instead is not None:
                    booking.use(instead)
                    continue
                if isinstance(error, NeverSent) and index + 1 == len(targets) and self.runtime.may_retry():
                    await self._at_the_provider(_jitter(len(booking.attempts)))
                    continue
                if not error.fallback:
                    raise
                index = await self._next_target(booking, index + 1, error)

    def _keep_shortest_wait(self, error: ProviderError) -> None:
        """Of several providers that limit requests, the client is told the one that is free first."""
        if isinstance(error, UpstreamRateLimited):
            waits = [wait for wait in (self._wait_s, error.retry_after) if wait is not None]
            self._wait_s = error.retry_after = min(waits, default=None)

    async def _next_target(self, booking: Booking, index: int, error: ProviderError) -> int:
        """The next target that the budgets allow. Raises `error` if there is none."""
        targets = booking.decision.targets
        while index < len(targets):
            if await booking.move_to(targets[index]):
                return index
            index += 1
        raise error

    async def _attempt(self, booking: Booking) -> None:
        call = booking.call()
        progress = attempt.Progress()
        booking.progress = progress
        record = Attempt(booking.target)
        booking.attempts.append(record)
        passage = self.runtime.health.passage(booking.target, trickle=booking.decision.trickle)
        started = time.perf_counter()
        try:
            await passage.enter()
            with self.runtime.limits.at_provider(booking.target.model.provider):
                await self._ask(booking, call, record, passage)
        except ProviderError as raised:
            passage.error = raised
            error = _as_own(raised, booking.target)
            record.status, record.code = error.status, error.code
            if isinstance(error, UpstreamAuthFailed):
                slug, name = booking.target.model.provider.slug, _key_name(booking.target)
                logger.error("Provider %s refuses the platform's key “%s”: replace it", slug, name)
            ours = booking.target.key_source != "byok"  # what a tenant's own key lost is the tenant's, at its provider
            if ours and progress.sent and self._channel is None and error.code not in _NOT_BILLED:
                record.lost_usd = bookkeeping.lost_cost(booking.target, self.request)
            if error is not raised:
                raise error from raised
            raise
        finally:
            passage.leave(answered=record.status == 200)
            record.latency_ms = round((time.perf_counter() - started) * 1000)

    async def _ask(self, booking: Booking, call: Call, record: Attempt, passage: Passage) -> None:
        """Call the provider and hand its answer on, settled. Raises ProviderError."""
        progress = booking.progress
        if self.request.stream:
            stream = await self._at_the_provider(attempt.begin(self.runtime.client, call, progress))
            record.status = 200
            passage.heard()
            self._promise(booking)
            channel = self._channel
            assert channel is not None
            self.runtime.streams += 1
            try:
                await self._at_the_provider(attempt.pump(stream, channel, progress))
            finally:
                self.runtime.streams -= 1
                await stream.hang_up()  # a client that left in between: the pump never started
            usage, _ = await booking.settle_done()
            channel.end(Ending(usage=usage, service_tier=booking.service_tier))
        else:
            completed = await self._at_the_provider(attempt.complete(self.runtime.client, call, progress))
            record.status = 200
            usage, cost = await booking.settle_done()
            reply = self._reply(booking, completed=completed, usage=usage, cost_usd=cost)
            reply.service_tier = booking.service_tier
            self._resolve(reply)

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _counted_tokens(self) -> int:
        estimate: int = self.request.size.estimate
        return max(1, estimate + (self.request.route.max_tokens or 0))

    def _plan(self, tenant: TenantState) -> Decision:
        catalog = snapshot.WATCH.current
        if catalog is None:
            raise Unavailable("The gateway's catalog is not loaded yet. Try again shortly.")
        return plan(
            catalog,
            route_caller(self.caller),
            tenant,
            self.request.route,
            state=self.runtime.health.state(time.time()),
            now=self.request.now,
        )

    async def _at_the_provider(self, work: Any) -> Any:
        """Wait for the provider, unless the client leaves or the process must stop.

        Raises ClientGoneError, or Unavailable when this task was cancelled by the process.
        """
        if self.gone:
            work.close()
            raise ClientGoneError
        self._at_provider = True
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if self.gone:
                raise ClientGoneError from None
            raise Unavailable("This server was shut down before the answer was complete.") from None
        finally:
            self._at_provider = False

    def _promise(self, booking: Booking) -> None:
        """The first good event is in hand: the client may have its status line."""
        booking.promised = True
        self._channel = Channel()
        self._channel.closed = self.gone
        self._resolve(self._reply(booking, channel=self._channel))

    def _reply(self, booking: Booking, **answer: Any) -> Reply:
        progress = booking.progress
        failed_ms = sum(one.latency_ms for one in booking.attempts[:-1])
        overhead_s = time.perf_counter() - self.request.received - progress.upstream_s - failed_ms / 1000
        metrics.OVERHEAD.observe(overhead_s)
        return Reply(
            request_id=str(self.request.id),
            target=booking.target,
            was_fallback=booking.target is not booking.decision.targets[0],
            overhead_ms=round(overhead_s * 1000, 2),
            standings=self._standings,
            dropped=progress.dropped,
            journey=weakref.ref(self),
            **answer,
        )

    def _resolve(self, reply: Reply) -> None:
        if self.opened.done():
            self.abandon()
        else:
            self.opened.set_result(reply)

    def _refuse(self, error: TollgateError, cause: BaseException | None = None) -> None:
        """Tell the client: by status while nothing was promised, in the stream after."""
        if self._channel is not None:
            self._channel.end(Ending(error=error))
        elif not self.opened.done():
            if cause is not None:
                error.__cause__ = cause
            self.opened.set_exception(error)
        if self._booking is None:
            metrics.refused(error.code, error.status, stream=self.request.stream)
            if isinstance(error, (NoRoute, BudgetExceeded)):
                self.runtime.refuse(refusals.of(self.caller, self.request, error))

    def _answer_nobody(self) -> None:
        if self._channel is not None:
            self._channel.end(Ending())
        elif not self.opened.done():
            self.opened.cancel()


# Answers that say no before any work was done: vendors do not bill them.
_NOT_BILLED = frozenset({"upstream_rejected", "upstream_auth_failed", "byok_rejected", "upstream_rate_limited"})


def _as_own(error: ProviderError, target: Target) -> ProviderError:
    """An error with the tenant's own key is the tenant's to mend: named, and never answered with the platform's key."""
    if target.key_source != "byok" or not isinstance(error, (UpstreamAuthFailed, ByokRejected)):
        return error
    refusal = f"The provider refuses your own key, the stored one named “{_key_name(target)}”."
    if isinstance(error, ByokRejected) and not error.invalid:
        return ByokRejected(f"{refusal} Its account has no credit: top it up, or replace the key.", invalid=False)
    return ByokRejected(f"{refusal} Replace it, or remove it.")


async def _own_key_after(error: ProviderError, target: Target) -> Credential | None:
    """If the tenant's own key was refused: what to try instead, because it was rotated a moment ago."""
    if not isinstance(error, ByokRejected) or not error.invalid or target.credential is None:
        return None
    return await tenant_state.after_refusal(target.credential)


def _key_name(target: Target) -> str:
    return "" if target.credential is None else target.credential.name


async def _jitter(attempts: int) -> None:
    """Full jitter before a retry: up to 100 ms, doubled each time."""
    await asyncio.sleep(random.uniform(0, 0.1 * 2 ** (attempts - 1)))  # noqa: S311 - not a secret
