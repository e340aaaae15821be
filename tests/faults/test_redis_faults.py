"""Rate limits shared through Redis: three processes keep one limit; Redis stopped, slow or flapping fails no request.

Against a stand-in for Redis; what the script does on a real one is in tests/llm/test_shared_limits.py.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from llm.engine import runtime, shared_limits
from tests.conftest import Gateway
from tests.fakes.line import Line
from tests.fakes.resp import FakeRedis
from tests.faults.books import given_postgres
from tests.faults.storm import Storm, ask, served
from tests.faults.tally import FULL, SEED, Tally
from tests.journeys.world import Customer, World, emptied, eventually

ON_POSTGRES = "DATABASE_URL" in os.environ
LIMIT, WORKERS = 300_000, 3  # more than a long run can send
ADDED_S = 0.1  # what a request may wait for Redis


def test_three_processes_keep_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, tally = 150, Tally("one limit, three processes")
    with FakeRedis() as fake, Storm(given_postgres() if ON_POSTGRES else None, webs=0, seed=SEED) as weather:
        monkeypatch.setenv("REDIS_URL", fake.url)
        monkeypatch.setenv("REDIS_TIMEOUT_S", "5")  # the machine is busy, and a process that gives up counts alone
        weather.books.change(f"UPDATE api_keys SET rate_limit_rpm = {limit}")
        with served(weather.books, 3) as ports:
            while time.time() % 60 > 45:  # a new minute lets some more in
                time.sleep(0.1)
            told = asyncio.run(everybody_asks(weather.keys[0], ports, 3 * limit))
        accepted = [headers for status, headers in told if status == 200]
        refused = [headers for status, headers in told if status == 429]
        tally.runs = len(told)
        with tally.checking("statuses"):
            assert limit <= len(accepted) <= limit * 1.03, Counter(status for status, _ in told)
            assert len(accepted) + len(refused) == 3 * limit
            assert {headers["x-ratelimit-limit-requests"] for headers in accepted} == {str(limit)}
            left = sorted(int(headers["x-ratelimit-remaining-requests"]) for headers in accepted)
            assert left[-limit:] == list(range(limit))  # each number once: they counted as one
            assert all(1 <= int(headers["retry-after"]) <= 61 for headers in refused)
        with tally.checking("charges"):
            assert weather.books.standing()[0] == weather.billed()
            assert len(weather.provider.bill()) == len(accepted)
        tally.close()


async def everybody_asks(key: str, ports: list[int], count: int) -> list[tuple[int, dict[str, str]]]:
    """Status and headers of so many requests, 30 at a time, in turn at each process."""
    places = asyncio.Semaphore(30)

    async def one(session: aiohttp.ClientSession, port: int) -> tuple[int, dict[str, str]]:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with places, session.post(url, json=ask(10, 5, stream=False), headers=headers) as answer:
            await answer.read()
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(one(session, ports[number % len(ports)]) for number in range(count)))


# --- one process, and a line to Redis that breaks ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with FakeRedis() as fake, Line(fake.address) as line:
        yield line


@pytest.fixture(scope="module")
def stage(line: Line, django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """The stage of the journeys, with Redis at the other end of the line, as one of three processes."""
    url = f"redis://:secret-of-redis@127.0.0.1:{line.port}/0"
    with django_db_blocker.unblock(), override_settings(REDIS_URL=url, WEB_WORKERS=WORKERS):
        runtime.reset()
        gateway = Gateway()
        gateway.start()
        made = World(gateway)
        try:
            yield made
        finally:
            made.stop()
            gateway.stop()
            emptied()
    runtime.reset()


@dataclass
class Asking:
    """A customer that asks again and again; each answer is judged."""

    customer: Customer
    tally: Tally
    slowest_ms: float = 0.0

    def once(self) -> int:
        """The limit that was in force."""
        answer = self.customer.ask(max_tokens=5)
        self.tally.runs += 1
        with self.tally.checking("statuses"):
            assert answer.status_code == 200, answer.text
        self.slowest_ms = max(self.slowest_ms, float(answer.headers["x-overhead-ms"]))
        return int(answer.headers["x-ratelimit-limit-requests"])

    def until(self, limit: int) -> float:
        """Seconds until that limit is in force."""
        started = time.monotonic()
        while self.once() != limit:
            assert time.monotonic() - started < 10
        return time.monotonic() - started


@pytest.fixture
def asking(request: pytest.FixtureRequest, world: World, line: Line) -> Iterator[Asking]:
    line.delay_s = 0.0
    line.mend()
    asking = Asking(world.customer(key={"rate_limit_rpm": LIMIT}), Tally(request.node.name.replace("_", " ")[5:]))
    asking.until(LIMIT)
    yield asking
    line.delay_s = 0.0
    line.mend()
    asking.tally.recovery_s = asking.until(LIMIT)
    tally = asking.tally
    with tally.checking("charges"):
        assert len(asking.customer.rows()) == tally.runs
        assert asking.customer.spent() == sum(row.budget_usd for row in asking.customer.rows())
    print(f"overhead at most {asking.slowest_ms:.0f} ms")  # noqa: T201
    tally.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of the shared counts; breakers speak for themselves."""
    return [record.getMessage() for record in caplog.records if record.name == shared_limits.__name__]


def test_redis_stopped(asking: Asking, line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    line.cut()
    asking.until(LIMIT // WORKERS)
    for _ in range(30):
        assert asking.once() == LIMIT // WORKERS
    [once] = said(caplog)
    assert once.startswith("Redis does not answer (ConnectionError)")
    assert "at 1/3 each" in once
    line.mend()
    asking.until(LIMIT)
    assert said(caplog) == [once, "Redis answers again: rate limits are shared by all processes"]
    assert "secret-of-redis" not in caplog.text


def test_redis_slow(asking: Asking, line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    line.delay_s = 2.0
    started = time.monotonic()
    assert asking.once() == LIMIT // WORKERS
    for _ in range(30):
        assert asking.once() == LIMIT // WORKERS
    assert time.monotonic() - started < 31 * (ADDED_S + 0.5)  # a busy machine; each would be 2 s
    assert len(said(caplog)) == 1


def test_redis_flapping(asking: Asking, line: Line) -> None:
    limits: Counter[int] = Counter()
    for _ in range(40 if FULL else 8):
        line.cut()
        for _ in range(5):
            limits[asking.once()] += 1
        line.mend()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            limits[asking.once()] += 1
    assert set(limits) <= {LIMIT, LIMIT // WORKERS}
    assert limits[LIMIT // WORKERS] > 0


def test_each_process_refuses_beyond_its_share_while_redis_is_away(asking: Asking, world: World, line: Line) -> None:
    """Refused by words that say why, with a wait that is true."""
    few = world.customer(key={"rate_limit_rpm": 6})
    line.cut()
    asking.until(LIMIT // WORKERS)
    eventually(lambda: time.time() % 60 < 50, within_s=12)
    assert [few.ask().status_code for _ in range(4)] == [200, 200, 429, 429]
    answer = few.ask()
    assert "2 requests per minute to each process while their shared count is out of reach" in answer.text
    assert int(answer.headers["retry-after"]) <= 60 + 30
    assert len(few.rows()) == 2
    assert django_settings.WEB_WORKERS == WORKERS
