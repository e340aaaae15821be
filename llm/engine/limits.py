"""Requests and tokens per minute per API key; requests at once per key, tenant and provider. Counted per process.

With N web processes a key gets at most N times its rate: budgets are the strict limit, these are for fairness.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

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


class Limits:
    """One process's counters."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._windows = SlidingWindowCounterRateLimiter(self._storage)
        self._under_way: dict[UUID, int] = {}

    def count(self, caller: Caller, *, tokens: int) -> tuple[Standing, ...]:
        """Count one request of so many estimated tokens. Raises RateLimited with the true time to wait."""
        standings = []
        for what, limit, cost in (
            ("requests", caller.rate_limit_rpm, 1),
            ("tokens", caller.rate_limit_tpm, tokens),
        ):
            if limit is not None:
                standings.append(self._hit(caller, what, limit, cost))
        return tuple(standings)

    def _hit(self, caller: Caller, what: str, limit: int, cost: int) -> Standing:
        if limit == 0 or cost > limit:
            raise RateLimited(
                f"This request alone is over the key's {limit} {what} per minute. Send less, or raise the limit."
            )
        item = RateLimitItemPerMinute(limit)
        name = item.key_for(str(caller.key_id), what)
        accepted = self._windows.hit(item, str(caller.key_id), what, cost=cost)
        previous, _, current, current_s = self._storage.get_sliding_window(name, MINUTE_S)
        window = Window(previous=previous, current=current, left_s=current_s - MINUTE_S)
        if not accepted:
            wait_s = math.floor(window.wait(limit, cost)) + 1
            raise RateLimited(
                f"This key may send {limit} {what} per minute. Wait {wait_s} s, or raise the limit.",
                retry_after=float(wait_s),
            )
        return Standing(what=what, limit=limit, remaining=window.remaining(limit), reset_s=window.wait(limit, limit))

    @contextmanager
    def one_more(self, caller: Caller) -> Iterator[None]:
        """Hold one of the key's and one of the tenant's places while the block runs. Raises RateLimited if all are
        taken."""
        assert caller.tenant_id is not None
        self._take(caller.key_id, caller.max_concurrency, "This key")
        try:
            self._take(caller.tenant_id, settings.MAX_IN_FLIGHT_PER_TENANT, "Your organisation")
            try:
                yield
            finally:
                self._leave(caller.tenant_id)
        finally:
            self._leave(caller.key_id)

    @contextmanager
    def at_provider(self, provider: Provider) -> Iterator[None]:
        """Hold one of this process's places at a provider. Raises ProviderBusy if all are taken: another may do."""
        if self._under_way.get(provider.id, 0) >= settings.MAX_IN_FLIGHT_PER_PROVIDER:
            raise ProviderBusy
        self._under_way[provider.id] = self._under_way.get(provider.id, 0) + 1
        try:
            yield
        finally:
            self._leave(provider.id)

    def _take(self, owner: UUID, most: int, who: str) -> None:
        under_way = self._under_way.get(owner, 0)
        if under_way >= most:
            raise RateLimited(
                f"{who} has {under_way} requests under way, the most it may. Wait for one to end.", retry_after=1.0
            )
        self._under_way[owner] = under_way + 1

    def _leave(self, owner: UUID) -> None:
        left = self._under_way[owner] - 1
        if left:
            self._under_way[owner] = left
        else:
            del self._under_way[owner]
