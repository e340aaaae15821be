"""Requests and tokens per minute of all processes together, counted in Redis where REDIS_URL is set.

Everything that waits is counted by one call of one script: the round trip under way is the tick, as in the ledger's
group commit, so that a process has one question under way however many requests come, and the event loop waits for
none. The minute is Redis's, so that the clocks of processes need not agree. If Redis does not answer at once, each
process counts for itself (`llm.engine.limits`) and this one looks every second whether it is back.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

CONNECT_S = 1.0
LOOK_S = 1.0
MAX_BATCH = 256  # keeps the script below a millisecond: nobody else is served meanwhile

# For each API key (KEYS) a hash of this minute's and the last one's counts. ARGV has for each key the limit and the
# cost in requests, then in tokens; a limit of -1 is none. Counted are both or neither. The answer: the milliseconds
# left of the minute, then for each key which limit refused it (0: none) and the counts of both, last minute first.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local minute = math.floor(now / 60000)
local left = 60000 - now % 60000
local answer = {left}
for i, key in ipairs(KEYS) do
  local kept = redis.call('HMGET', key, 'minute', 'requests', 'tokens', 'requests_before', 'tokens_before')
  for field = 1, 5 do kept[field] = tonumber(kept[field]) or 0 end
  local passed = minute - kept[1]
  local count, before = {kept[2], kept[3]}, {kept[4], kept[5]}
  if passed == 1 then before, count = count, {0, 0} elseif passed ~= 0 then before, count = {0, 0}, {0, 0} end
  local refused = 0
  for what = 2, 1, -1 do
    local limit, cost = tonumber(ARGV[4 * i - 5 + 2 * what]), tonumber(ARGV[4 * i - 4 + 2 * what])
    if limit >= 0 and math.floor(before[what] * left / 60000) + count[what] + cost > limit then refused = what end
  end
  if refused == 0 then
    for what = 1, 2 do count[what] = count[what] + tonumber(ARGV[4 * i - 4 + 2 * what]) end
    redis.call('HSET', key, 'minute', minute, 'requests', count[1], 'tokens', count[2],
      'requests_before', before[1], 'tokens_before', before[2])
    redis.call('EXPIRE', key, 120)
  end
  for _, number in ipairs({refused, before[1], count[1], before[2], count[2]}) do table.insert(answer, number) end
end
return answer
"""


class Counted:
    """What Redis said of one request: `refused` for its requests (1), its tokens (2) or not at all (0); the counts."""

    __slots__ = ("_counts", "left_s", "refused")

    def __init__(self, left_s: float, refused: int, counts: Sequence[int]) -> None:
        self.left_s, self.refused, self._counts = left_s, refused, counts

    def of(self, place: int) -> tuple[int, int]:
        """(the last minute's, this one's) count of requests (0) or tokens (1)."""
        return self._counts[2 * place], self._counts[2 * place + 1]


class SharedCounts:
    """One process's way to the counters of all. It belongs to the event loop that starts it."""

    def __init__(self, url: str) -> None:
        """Raises ImproperlyConfigured where the client is not installed, or the URL is none of its."""
        try:
            import redis.asyncio.retry  # optional: only where REDIS_URL is set
            import redis.backoff  # the same
        except ImportError as error:
            raise ImproperlyConfigured(
                "REDIS_URL is set, and the Redis client is missing. Install requirements/redis.txt."
            ) from error
        try:
            once = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
            self._redis: Any = redis.asyncio.Redis.from_url(
                url, protocol=2, socket_connect_timeout=CONNECT_S, retry=once
            )
        except ValueError as error:
            raise ImproperlyConfigured("REDIS_URL must be redis://, rediss:// or unix://.") from error
        # An answer that is none of ours counts as none.
        self._trouble = (redis.RedisError, OSError, TimeoutError, ValueError, TypeError, LookupError)
        self.away = True  # until it has answered once
        self._told_away = False
        self._waiting: list[tuple[UUID, Sequence[int], asyncio.Future[Counted | None]]] = []
        self._trip: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        self.away = True
        for task in (self._watch, self._trip):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._let_go(self._waiting)
        await self._redis.aclose()

    async def hit(self, key_id: UUID, numbers: Sequence[int]) -> Counted | None:
        """Count a request of an API key: `numbers` are the limit and the cost in requests, then in tokens, -1 for no
        limit. None if Redis is out of reach, at the latest after REDIS_TIMEOUT_S and the round trip before."""
        if self.away:
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Counted | None] = loop.create_future()
        self._waiting.append((key_id, numbers, future))
        if self._trip is None or self._trip.done():
            self._trip = loop.create_task(self._trips())
        return await future

    async def _trips(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                await self._ask(batch)
            except self._trouble as error:
                self._lose(error)
            finally:
                self._let_go(batch)  # those that have no answer

    async def _ask(self, batch: Sequence[Any]) -> None:
        keys = [f"tollgate:rate:{key_id}" for key_id, _, _ in batch]
        numbers = [number for _, numbers, _ in batch for number in numbers]
        async with asyncio.timeout(settings.REDIS_TIMEOUT_S):
            left_ms, *counts = await self._redis.eval(_SCRIPT, len(keys), *keys, *numbers)
        for index, (_, _, future) in enumerate(batch):
            refused, *of_key = counts[5 * index : 5 * index + 5]
            if not future.done():
                future.set_result(Counted(left_ms / 1000, refused, of_key))

    def _let_go(self, batch: Sequence[Any]) -> None:
        for _, _, future in batch:
            if not future.done():
                future.set_result(None)

    def _lose(self, error: BaseException) -> None:
        """From now on nobody waits for Redis. Said once, until it is back; without its URL, which may hold a secret."""
        if not self._told_away:
            logger.warning(
                "Redis does not answer (%s): until it does, each process counts rate limits for itself, at 1/%s each",
                type(error).__name__,
                settings.WEB_WORKERS,
            )
        self.away = self._told_away = True
        waiting, self._waiting = self._waiting, []
        self._let_go(waiting)

    async def _look(self) -> None:
        """Every second while it is away: does it answer, and quickly enough?"""
        while True:
            if self.away:
                try:
                    await self._redis.ping()  # connects, which may take longer than an answer
                    await self._ask([])
                except self._trouble as error:
                    await self._redis.connection_pool.disconnect()
                    self._lose(error)
                else:
                    self.away = False
                    if self._told_away:
                        logger.warning("Redis answers again: rate limits are shared by all processes")
                    self._told_away = False
            await asyncio.sleep(LOOK_S)
