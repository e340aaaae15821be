"""Several processes' worth of breakers on one store, the table and Redis in turn.

What one knows all know after a look; there is one probe in all; without the store each goes on by itself.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.db.models import F

from llm.engine.health import Health, Passage
from llm.errors import ProviderDown, UpstreamFailed, UpstreamRateLimited
from llm.models import LLMBreaker
from llm.types import Target
from tests.fakes.redis import FakeRedis
from tests.llm.routing_world import card, credential, model, provider

pytestmark = pytest.mark.django_db(transaction=True)


def target(model_id: str = "gpt-4o", name: str = "main") -> Target:
    asked = model(provider("openai"), model_id)
    return Target(model=asked, credential=credential(name), key_source="platform", output_cap=100, card=card())


@pytest.fixture(params=["database", "redis"])
def redis(request: pytest.FixtureRequest, settings: Any) -> Iterator[FakeRedis | None]:
    if request.param == "database":
        settings.REDIS_URL = ""
        yield None
        return
    with FakeRedis() as fake:
        settings.REDIS_URL = fake.url
        yield fake


async def started() -> Health:
    made = Health()
    made.start()
    return made


async def rest(*several: Health) -> None:
    """Until everything is written, then everybody looks."""
    for one in several:
        until = time.monotonic() + 5
        while not one.at_rest:
            assert time.monotonic() < until
            await asyncio.to_thread(one.look)  # as the catalog's watch does every second: what failed is tried again
            await asyncio.sleep(0.005)
    for one in several:
        await asyncio.to_thread(one.look)
    await asyncio.sleep(0)


async def call(health: Health, error: Any = None, *, of: Target | None = None) -> Passage:
    passage = health.passage(of or target(), trickle=False)
    await passage.enter()
    passage.error = error
    passage.leave(answered=error is None)
    return passage


async def fail(health: Health, times: int = 3) -> None:
    for _ in range(times):
        await call(health, UpstreamFailed("x"))


def blocked(health: Health) -> set[str]:
    return set(health.state(time.time()).blocks)


BOTH = {"openai", "openai/gpt-4o"}


def move(redis: FakeRedis | None, seconds: float) -> None:
    """Let so much time pass for what the store knows."""
    if redis is not None:
        records = redis.hashes[b"tollgate:breakers"]
        for key, value in list(records.items()):
            record = orjson.loads(value)
            records[key] = orjson.dumps(record | {"until": record["until"] - seconds})
    LLMBreaker.objects.update(until=F("until") - timedelta(seconds=seconds))


async def test_what_one_opens_the_other_hears_and_so_for_the_closing(redis: FakeRedis | None) -> None:
    one, other = await started(), await started()
    try:
        await fail(one)
        assert (blocked(one), blocked(other)) == (BOTH, set())
        await rest(one, other)
        assert (blocked(one), blocked(other)) == (BOTH, BOTH)
        with pytest.raises(ProviderDown):
            await call(other)
        await asyncio.to_thread(move, redis, 11)
        await rest(one, other)
        assert (blocked(one), blocked(other)) == (set(), set())
        await call(other)
        await rest(other, one)
        assert await asyncio.to_thread(lambda: {row.state for row in LLMBreaker.objects.all()}) == {"closed"}
        assert not one.any_open
        assert not other.any_open
    finally:
        await one.stop()
        await other.stop()


async def test_a_call_let_in_before_the_opening_was_heard_of_does_not_close_it(redis: FakeRedis | None) -> None:
    one, other = await started(), await started()
    try:
        await fail(one)
        under_way = other.passage(target(), trickle=False)  # begun after the opening
        await under_way.enter()
        await rest(one, other)
        under_way.leave(answered=True)
        await rest(other, one)
        assert (blocked(one), blocked(other)) == (BOTH, BOTH)
    finally:
        await one.stop()
        await other.stop()


async def test_one_probe_in_all(redis: FakeRedis | None) -> None:
    several = [await started() for _ in range(4)]
    try:
        await fail(several[0])
        await rest(*several)
        await asyncio.to_thread(move, redis, 11)
        await rest(*several)

        async def enter(health: Health) -> Passage | None:
            passage = health.passage(target(), trickle=False)
            try:
                await passage.enter()
            except ProviderDown:
                return None
            return passage

        entered = await asyncio.gather(*(enter(health) for health in several for _ in range(5)))
        [probe] = [one for one in entered if one is not None]
        await rest(*several)
        assert all(blocked(health) == BOTH for health in several)
        probe.leave(answered=False)  # it found nothing out
        await rest(*several)
        assert await enter(several[3]) is not None
    finally:
        for health in several:
            await health.stop()


async def test_a_longer_wait_of_another_process_is_not_shortened(redis: FakeRedis | None) -> None:
    one, other = await started(), await started()
    try:
        await call(one, UpstreamRateLimited("x", retry_after=60))
        await call(other, UpstreamRateLimited("x", retry_after=30))
        await rest(one, other)
        for health in (one, other):
            [block] = health.state(time.time()).key_blocks.values()
            assert block.limited
            assert block.until - time.time() == pytest.approx(60, abs=5)
            await call(health, of=target("o3"))
            await call(health, of=target(name="second"))
    finally:
        await one.stop()
        await other.stop()


@pytest.mark.parametrize("how", ["slow", "gone"])
async def test_without_redis_each_goes_on_by_itself_says_so_once_and_catches_up(
    settings: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "llm.engine.health")
    with FakeRedis() as redis:
        settings.REDIS_URL = redis.url
        one, other = await started(), await started()
        try:
            await rest(one)
            if how == "slow":
                redis.stalled = True
            else:
                redis.down()
            began = time.perf_counter()
            await fail(one)
            assert blocked(one) == BOTH
            assert time.perf_counter() - began < 0.19  # nobody waits for it
            for _ in range(3):
                await asyncio.to_thread(one.look)
                await asyncio.sleep(0)
            said = [record.getMessage() for record in caplog.records if "shared" in record.getMessage()]
            assert len(said) == 1
            assert said[0].startswith("Breakers cannot be shared, each process goes on by itself: Redis: ")
            for breaker in one._open.values():
                breaker.until = time.time()
            one._turns_at = 0.0
            began = time.perf_counter()
            probe = one.passage(target(), trickle=False)
            await probe.enter()  # a probe of its own
            assert time.perf_counter() - began < 0.19
            probe.error = UpstreamFailed("x")
            probe.leave(answered=False)
            redis.stalled = False
            if how == "gone":
                redis.up()
            await asyncio.to_thread(one.look)
            await asyncio.sleep(0)
            await rest(one, other)
            assert blocked(other) == BOTH
            assert "Breakers are shared between processes again" in caplog.text
        finally:
            await one.stop()
            await other.stop()
            if how == "slow":
                redis.stalled = False
