"""Counts shared through Redis: the real script on a real server where there is one, and a stand-in everywhere."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis as client
from django.core.exceptions import ImproperlyConfigured

from llm.engine import shared_limits
from llm.engine.limits import Limits
from llm.engine.shared_limits import SharedCounts
from llm.errors import RateLimited
from tests.fakes.line import Line
from tests.fakes.resp import FakeRedis
from tests.journeys.world import eventually
from tests.llm.test_limits import caller

REAL = os.environ.get("REDIS_TEST_URL", "redis://127.0.0.1:6379/0")


def there_is_a_real_one() -> bool:
    try:
        return bool(client.Redis.from_url(REAL, socket_timeout=1).ping())
    except (client.RedisError, OSError):
        return False


@pytest.fixture(params=["stand-in", "real"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "stand-in":
        with FakeRedis() as fake:
            yield fake.url
    elif there_is_a_real_one():
        yield REAL
    else:
        pytest.skip("no Redis at REDIS_TEST_URL or 127.0.0.1:6379")


@pytest.fixture
async def both(url: str, settings: Any) -> AsyncIterator[tuple[Limits, Limits]]:
    """Two processes' limits, both connected, early in a minute of the server's."""
    settings.REDIS_URL = url
    settings.REDIS_TIMEOUT_S = 5
    settings.WEB_WORKERS = 2
    two = Limits(), Limits()
    for limits in two:
        assert limits.shared is not None
        limits.shared.start()
    await until_shared(*two)
    await asyncio.to_thread(eventually, lambda: time.time() % 60 < 50, within_s=11)
    yield two
    for limits in two:
        assert limits.shared is not None
        await limits.shared.stop()


async def until_shared(*every: Limits) -> None:
    here = lambda: all(limits.shared and not limits.shared.away for limits in every)  # noqa: E731
    await asyncio.to_thread(eventually, here, within_s=10)


async def test_two_processes_count_as_one(both: tuple[Limits, Limits]) -> None:
    who = caller(rate_limit_rpm=5, rate_limit_tpm=1_000)
    left = []
    for turn in range(5):
        requests, tokens = await both[turn % 2].count(who, tokens=100)
        left.append((requests.limit, requests.remaining, tokens.limit, tokens.remaining))
    assert left == [(5, 4 - turn, 1_000, 900 - 100 * turn) for turn in range(5)]
    with pytest.raises(RateLimited) as refused:
        await both[1].count(who, tokens=100)
    # The first of the five is forgotten when a fifth of the next minute is over.
    rest_s = 60 - time.time() % 60
    assert refused.value.retry_after == pytest.approx(rest_s, abs=2.5)
    assert "5 requests per minute. Wait" in refused.value.message


async def test_who_is_refused_for_tokens_has_spent_no_request(both: tuple[Limits, Limits]) -> None:
    who = caller(rate_limit_rpm=3, rate_limit_tpm=100)
    await both[0].count(who, tokens=60)
    for _ in range(5):
        with pytest.raises(RateLimited, match="100 tokens per minute"):
            await both[1].count(who, tokens=60)
    requests, tokens = await both[0].count(who, tokens=40)
    assert (requests.remaining, tokens.remaining) == (1, 0)


async def test_hundreds_at_once_are_counted_exactly_and_in_a_few_round_trips(both: tuple[Limits, Limits]) -> None:
    who, other = caller(rate_limit_rpm=70), caller(rate_limit_rpm=1_000)
    found = await asyncio.gather(
        *(both[turn % 2].count((who, other)[turn // 2 % 2], tokens=1) for turn in range(600)), return_exceptions=True
    )
    assert sum(isinstance(one, tuple) and one[0].limit == 70 for one in found) == 70
    assert sum(isinstance(one, RateLimited) for one in found) == 230
    assert sum(isinstance(one, tuple) and one[0].limit == 1_000 for one in found) == 300


async def test_a_key_without_limits_does_not_ask(both: tuple[Limits, Limits]) -> None:
    assert await both[0].count(caller(), tokens=1) == ()


async def test_the_last_minute_fades_on_the_real_server_too(settings: Any) -> None:
    """The real script, put a minute forward by the row it keeps; the stand-in's arithmetic is the other opinion."""
    if not there_is_a_real_one():
        pytest.skip("no Redis at REDIS_TEST_URL or 127.0.0.1:6379")
    server, key = client.Redis.from_url(REAL), uuid.uuid4()
    name = f"tollgate:rate:{key}"
    counts = SharedCounts(REAL)
    with FakeRedis() as fake:
        for requests, tokens, minutes in ((40, 900, 0), (40, 900, 1), (7, 1, 1), (40, 900, 2), (40, 900, -1)):
            clock, _ = server.time()
            kept = {"minute": clock // 60 - minutes, "requests": requests, "tokens": tokens}
            before = {"requests_before": 3, "tokens_before": 50}
            server.hset(name, mapping=kept | before)
            fake._kept[name.encode()] = {**kept, "requests before": 3, "tokens before": 50}
            numbers = [50, 1, 1_000, 100]
            asked: Any = server.eval(shared_limits._SCRIPT, 1, name, *numbers)
            expected = fake.count([name.encode()], numbers)
            assert asked[0] == pytest.approx(expected[0], abs=200)
            assert asked[1:] == expected[1:]
        assert 0 < server.ttl(name) <= 120
        server.delete(name)
    await counts.stop()


async def test_an_answer_that_is_late_is_not_waited_for(settings: Any) -> None:
    """A socket that takes connections and says nothing."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        settings.REDIS_URL = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        settings.WEB_WORKERS = 4
        limits = Limits()
        assert limits.shared is not None
        limits.shared.start()
        who = caller(rate_limit_rpm=10, rate_limit_tpm=100)
        started = time.monotonic()
        requests, tokens = await limits.count(who, tokens=90)
        assert time.monotonic() - started < settings.REDIS_TIMEOUT_S
        # The share of one process; a request for which there is room in the whole limit takes the share and passes.
        assert (requests.limit, requests.remaining, tokens.limit, tokens.remaining) == (2, 1, 25, 0)
        with pytest.raises(RateLimited, match=r"25 tokens per minute to each process while .* Wait \d+ s"):
            await limits.count(who, tokens=1)
        with pytest.raises(RateLimited, match="This request alone is over the key's 100 tokens per minute"):
            await limits.count(who, tokens=101)
        await limits.shared.stop()


def test_a_share_is_at_least_one(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    settings.WEB_WORKERS = 100
    [standing] = asyncio.run(Limits().count(caller(rate_limit_rpm=7), tokens=1))
    assert (standing.limit, standing.remaining) == (1, 0)


@pytest.mark.parametrize("wrong", ["http://redis", "redis"])
def test_an_address_that_is_none_is_refused_at_the_start_without_being_told(settings: Any, wrong: str) -> None:
    settings.REDIS_URL = wrong
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL must be"):
        Limits()


def test_what_waits_when_the_process_ends_is_let_go() -> None:
    async def story() -> Any:
        with FakeRedis() as fake, Line(fake.address) as line:
            counts = SharedCounts(f"redis://127.0.0.1:{line.port}/0")
            counts.start()
            await asyncio.to_thread(eventually, lambda: not counts.away, within_s=10)
            line.delay_s = 2.0
            asking = asyncio.create_task(counts.hit(uuid.uuid4(), [1, 1, -1, 1]))
            await asyncio.sleep(0)
            await counts.stop()
            return await asking

    assert asyncio.run(story()) is None
