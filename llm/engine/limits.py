"""Requests and tokens per minute per API key; requests at once per key, tenant and provider.

With REDIS_URL all processes share the counts per minute; while Redis is away each counts for itself, up to its share of
the limit. Without it each process counts up to the whole limit, so that of N a key gets at most N times its rate. All
else is counted per process. Budgets are the strict limit, these are for fairness.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from llm.engine.admission import Admission
from llm.engine.shared_limits import Counted, SharedCounts
from llm.errors import ProviderBusy, RateLimited
from llm.types import Provider
from tenants.auth import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One limit after a request was counted: what `x-ratelimit-*` tells."""

    what: str  # "requests" | "tokens"
    limit: int
    remaining: int
    reset_s: float


MINUTE_S = 60
# What a tenant may always have under way, however busy this process is: less would leave a core idle now and then.
LEAST_SHARE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One sliding count: what the clock's last minute had, what this one has, and the seconds it has left."""

    previous: int
    current: int
    left_s: float

    def remaining(self, limit: int) -> int:
        return max(0, limit - math.floor(self.previous * self.left_s / MINUTE_S + self.current))

    def wait(self, limit: int, cost: int) -> float:
        """Seconds until `cost` more are let in, if nobody else asks: the last minute's count fades evenly."""
        room = limit - cost + 1  # the weighted count has to fall below it
        if self.current < room:
            faded_s = MINUTE_S * (room - self.current) / self.previous if self.previous else self.left_s
            return max(0.0, self.left_s - faded_s)
        return self.left_s + MINUTE_S * (1 - room / self.current)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one request asks of one limit. Raises RateLimited if it alone is more."""

    what: str  # "requests" | "tokens"
    limit: int
    cost: int
    where: str = ""  # the limit is a share: why

    def __post_init__(self) -> None:
        if self.limit == 0 or self.cost > self.limit:
            raise RateLimited(
                f"This request alone is over the key's {self.limit} {self.what} per minute."
                " Send less, or raise the limit."
            )

    def share(self) -> "Ask":
        """One process's part. A request that the whole limit has room for takes all of it, and is not refused for
        good."""
        limit = max(1, self.limit // settings.WEB_WORKERS)
        return Ask(what=self.what, limit=limit, cost=min(self.cost, limit), where=_ON_ITS_OWN)

    def refusal(self, window: Window) -> RateLimited:
        wait_s = math.floor(window.wait(self.limit, self.cost)) + 1
        return RateLimited(
            f"This key may send {self.limit} {self.what} per minute{self.where}. Wait {wait_s} s, or raise the limit.",
            retry_after=float(wait_s),
        )

    def standing(self, window: Window) -> Standing:
        limit = self.limit
        return Standing(
            what=self.what, limit=limit, remaining=window.remaining(limit), reset_s=window.wait(limit, limit)
        )


_ON_ITS_OWN = " to each process while their shared count is out of reach"
_WHAT = ("requests", "tokens")


class Limits:
    """One process's counters, and its way to the shared ones."""

    def __init__(self, admission: Admission | None = None) -> None:
        """`admission` knows whether requests wait for this process, so that one tenant's many delay another's few."""
        self._admission = admission or Admission()
        self._storage = MemoryStorage()
        self._windows = SlidingWindowCounterRateLimiter(self._storage)
        self._under_way: dict[UUID, int] = {}
        self._tenants: dict[UUID, int] = {}  # requests under way, by tenant
        self.shared = SharedCounts(settings.REDIS_URL) if settings.REDIS_URL else None

    async def count(self, caller: Caller, *, tokens: int) -> tuple[Standing, ...]:
        """Count one request of so many estimated tokens. Raises RateLimited with the true time to wait."""
        limits = ((caller.rate_limit_rpm, 1), (caller.rate_limit_tpm, tokens))
        asks = [
            Ask(what=what, limit=limit, cost=cost)
            for what, (limit, cost) in zip(_WHAT, limits, strict=True)
            if limit is not None
        ]
        if self.shared is not None and asks:
            numbers = [number for limit, cost in limits for number in (-1 if limit is None else limit, cost)]
            counted = await self.shared.hit(caller.key_id, numbers)
            if counted is not None:
                return _standings(asks, counted)
            asks = [ask.share() for ask in asks]
        return tuple([self._hit(caller, ask) for ask in asks])

    def _hit(self, caller: Caller, ask: Ask) -> Standing:
        item = RateLimitItemPerMinute(ask.limit)
        name = item.key_for(str(caller.key_id), ask.what)
        accepted = self._windows.hit(item, str(caller.key_id), ask.what, cost=ask.cost)
        previous, _, current, current_s = self._storage.get_sliding_window(name, MINUTE_S)
        window = Window(previous=previous, current=current, left_s=current_s - MINUTE_S)
        if not accepted:
            raise ask.refusal(window)
        return ask.standing(window)

    @contextmanager
    def one_more(self, caller: Caller) -> Iterator[None]:
        """Hold one of the key's and one of the tenant's places while the block runs. Raises RateLimited if all are
        taken."""
        tenant_id = caller.tenant_id
        assert tenant_id is not None
        _take(self._under_way, caller.key_id, caller.max_concurrency, "This key")
        try:
            _take(self._tenants, tenant_id, self._most_per_tenant(), "Your organisation")
            try:
                yield
            finally:
                _leave(self._tenants, tenant_id)
        finally:
            _leave(self._under_way, caller.key_id)

    def _most_per_tenant(self) -> int:
        """While requests wait for the processor nobody may have more of them than an equal share, so that a tenant
        that floods waits for itself. Whoever is alone has all of it."""
        most: int = settings.MAX_IN_FLIGHT_PER_TENANT
        if len(self._tenants) < 2 or not self._admission.busy:
            return most
        share = sum(self._tenants.values()) // len(self._tenants)
        return min(most, max(LEAST_SHARE, share))

    @contextmanager
    def at_provider(self, provider: Provider) -> Iterator[None]:
        """Hold one of this process's places at a provider. Raises ProviderBusy if all are taken: another may do."""
        if self._under_way.get(provider.id, 0) >= settings.MAX_IN_FLIGHT_PER_PROVIDER:
            raise ProviderBusy
        self._under_way[provider.id] = self._under_way.get(provider.id, 0) + 1
        try:
            yield
        finally:
            _leave(self._under_way, provider.id)


def _take(places: dict[UUID, int], owner: UUID, most: int, who: str) -> None:
    under_way = places.get(owner, 0)
    if under_way >= most:
        raise RateLimited(
            f"{who} has {under_way} requests under way, the most it may now. Wait for one to end.", retry_after=1.0
        )
    places[owner] = under_way + 1


def _leave(places: dict[UUID, int], owner: UUID) -> None:
    left = places[owner] - 1
    if left:
        places[owner] = left
    else:
        del places[owner]


def _standings(asks: Iterable[Ask], counted: Counted) -> tuple[Standing, ...]:
    """What all processes together counted. Raises RateLimited if that was too much."""
    standings = []
    for ask in asks:
        place = _WHAT.index(ask.what)
        previous, current = counted.of(place)
        window = Window(previous=previous, current=current, left_s=counted.left_s)
        if counted.refused == place + 1:
            raise ask.refusal(window)
        standings.append(ask.standing(window))
    return tuple(standings)
