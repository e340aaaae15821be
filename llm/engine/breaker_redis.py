"""Breakers shared through Redis: one hash of records by key, and a key that expires for each probe under way.

It answers within a fifth of a second or counts as away. What is written goes to the table too, for staff to read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from llm.engine.breaker import CLOSED, HALF_OPEN, OPEN, PROBE_S, Record, lapsed
from llm.engine.breaker_store import Database, Store, StoreAway

HASH = "tollgate:breakers"
PROBE = "tollgate:breaker-probe:"
PATIENCE_S = 0.2


def store() -> Store:
    """What this installation shares its breakers through. Raises ImproperlyConfigured."""
    return _redis(settings.REDIS_URL) if settings.REDIS_URL else Database()


class Redis:
    def __init__(self, url: str) -> None:
        try:
            import redis  # optional: only where REDIS_URL is set
        except ImportError as error:
            raise ImproperlyConfigured(
                "REDIS_URL is set, and the Redis client is missing. Install requirements/redis.txt."
            ) from error
        # What is in the hash may be another version's, or anybody's.
        self._trouble = (redis.RedisError, OSError, ValueError, TypeError)
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        )
        self._table = Database()

    def read(self, now: float) -> list[Record]:
        with self._reachable():
            records = [Record(**orjson.loads(value)) for value in self._redis.hvals(HASH)]
            late = [record.key for record in records if lapsed(record, now)]
            if late:
                self._redis.hdel(HASH, *late)
        return [record for record in records if record.key not in late]

    def write(self, records: Sequence[Record], now: float) -> None:
        with self._reachable():
            for record in records:
                self._put(record)
        self._table.write(records, now)

    def claim(self, keys: Sequence[str], *, owner: str, now: float) -> list[Record] | None:
        with self._reachable():
            won: list[str] = []
            for key in keys:  # in one order, so that of two claims for the same one is complete
                if not self._redis.set(PROBE + key, owner, nx=True, px=int(PROBE_S * 1000)):
                    break
                won.append(key)
            known = [record for record in map(self._get, keys) if record is not None]
            if len(won) == len(known) == len(keys) and all(record.block(now) is None for record in known):
                for record in known:
                    probing = replace(record, state=HALF_OPEN, probe_owner=owner, probe_until=now + PROBE_S)
                    self._redis.hset(HASH, record.key, orjson.dumps(asdict(probing)))
                return None
            if won:
                self._redis.delete(*(PROBE + key for key in won))
        # Who holds a key has yet to write that it probes: the next look will show it.
        return [record if record.key in won else replace(record, probe_until=now + 1) for record in known]

    def _get(self, key: str) -> Record | None:
        return _known(self._redis.hget(HASH, key))

    def _put(self, record: Record) -> None:
        """Read and write as one: a process that writes at the same moment must not shorten an opening."""
        self._redis.transaction(partial(_change, record), HASH)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except self._trouble as error:
            raise StoreAway(f"Redis: {type(error).__name__}") from error


def _known(value: bytes | None) -> Record | None:
    return None if value is None else Record(**orjson.loads(value))


def _change(record: Record, pipe: Any) -> None:
    """What `transaction` does again if somebody changed the hash since it was read."""
    before = None if record.state == CLOSED else _known(pipe.hget(HASH, record.key))
    pipe.multi()
    if record.state == CLOSED:
        pipe.hdel(HASH, record.key)
    else:
        if before is not None and before.state == OPEN:
            record = replace(record, until=max(record.until, before.until))
        pipe.hset(HASH, record.key, orjson.dumps(asdict(record)))
    if record.state != HALF_OPEN:
        pipe.delete(PROBE + record.key)


@lru_cache(maxsize=4)
def _redis(url: str) -> Redis:
    """One pool of connections per address."""
    return Redis(url)
