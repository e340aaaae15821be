"""Breakers across processes: a dead provider costs almost nothing, one probe in all, a reset reaches everybody.

One server with two workers on PostgreSQL, two servers on SQLite; the same again with Redis between them.
"""

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from tests.fakes import Behaviour, FakeProvider
from tests.fakes.redis import FakeRedis
from tests.faults.books import Books, connect, given_postgres
from tests.faults.storm import served
from tests.journeys.world import eventually

PREPARE = """
from tests import cast
from llm.models import LLMModel, LLMProvider
first = LLMModel.objects.get(model_id="m")
spare = cast.make_provider("spare", {url!r})
cast.make_credential(spare)
cast.make_rule(first, "balanced")
cast.make_rule(cast.make_model(spare, "n"), "balanced", is_fallback=True)
print(cast.make_staff()[1])
"""


@dataclass
class House:
    """Two web processes of one installation, and the vendor of both models."""

    books: Books
    vendor: FakeProvider
    ports: list[int]
    key: str
    staff: str

    def ask(self, number: int, *, stream: bool = False) -> str:
        """The model that answered one request. Each has a connection of its own, so that both processes get some."""
        body = {"model": "balanced", "messages": [{"role": "user", "content": "x"}], "stream": stream}
        url = f"http://127.0.0.1:{self.ports[number % len(self.ports)]}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-model-used"]

    def calls(self) -> Counter[str]:
        return Counter(one.body["model"] for one in self.vendor.requests)

    def open_rows(self) -> dict[str, int]:
        return dict(self.books.query("SELECT key, openings FROM llm_breakers WHERE state <> 'closed'"))

    def execute(self, statement: str) -> None:
        """Change the database from outside."""
        if self.books.postgres:
            with connect(self.books.url) as database:
                database.execute(statement)
            return
        import sqlite3

        with contextlib.closing(sqlite3.connect(f"{self.books.folder.name}/storm.sqlite3", timeout=20)) as database:
            database.execute(statement)
            database.commit()


@contextlib.contextmanager
def house(redis_url: str = "") -> Iterator[House]:
    admin_url = given_postgres() if "DATABASE_URL" in os.environ else None
    with FakeProvider() as vendor, Books(admin_url) as books:
        key = books.run("prepare", vendor.base_url)["keys"][0]
        done = books.manage("shell", "-c", PREPARE.format(url=vendor.base_url))
        assert done.returncode == 0, done.stderr
        staff = done.stdout.strip().splitlines()[-1]
        servers = (1, 2) if books.postgres else (2, 1)
        with served(books, servers[0], workers=servers[1], REDIS_URL=redis_url) as ports:
            yield House(books, vendor, ports, key, staff)


def test_a_dead_provider_two_processes_and_their_database() -> None:
    with house() as here:
        dead_provider(here)
        here.execute("UPDATE llm_breakers SET until = opened_at WHERE state = 'open'")
        one_probe_in_all(here)
        a_reset_reaches_both(here)


def test_a_dead_provider_two_processes_and_redis() -> None:
    with FakeRedis() as redis, house(redis.url) as here:
        dead_provider(here)
        records = redis.hashes[b"tollgate:breakers"]
        for key, record in list(records.items()):
            records[key] = orjson.dumps(orjson.loads(record) | {"until": time.time() - 1})
        one_probe_in_all(here)
        a_reset_reaches_both(here)
        redis.stalled = True
        without_its_store(here)


def dead_provider(here: House) -> None:
    """200 requests, streamed and not, over both processes: at most 1.2 calls of a provider for each."""
    here.vendor.script("m", Behaviour(status=500))
    with ThreadPoolExecutor(4) as clients:
        used = list(clients.map(lambda number: here.ask(number, stream=number % 4 > 1), range(200)))
    assert used == ["n"] * 200
    calls, probes = here.calls(), max(here.open_rows().values()) - 1
    print(f"200 requests, {calls['m']} calls of the dead provider, {probes} of them probes")  # noqa: T201
    assert calls["n"] == 200
    # Three in a row in each process, what was under way at that moment with four clients, and the probes since.
    assert 3 <= calls["m"] <= 2 * 3 + 3 + probes
    assert calls.total() <= 240


def one_probe_in_all(here: House) -> None:
    """What is open is due now. While the one probe takes its time, nobody else is sent there."""
    here.vendor.script("m", Behaviour(delay_first_s=6.0))
    before, numbers = here.calls()["m"], itertools.count()
    with ThreadPoolExecutor(4) as clients:
        asked: list[Any] = []
        while here.calls()["m"] == before:
            asked.append(clients.submit(here.ask, next(numbers)))
            assert len(asked) < 1_000
            wait(asked, 0.05)
        eventually(lambda: sum(not one.done() for one in asked) == 1, what="all answers but the probe's")
        [probe] = [one for one in asked if not one.done()]
        others = [clients.submit(here.ask, next(numbers)) for _ in range(20)]
        assert {one.result() for one in others} == {"n"}
        assert not probe.done(), "this machine is too slow for this test"
        assert here.calls()["m"] == before + 1
        here.vendor.script("m", Behaviour())
        assert probe.result() == "m"
    everybody_returns(here)
    assert here.open_rows() == {}


def a_reset_reaches_both(here: House) -> None:
    here.vendor.script("m", Behaviour(status=500))
    numbers = itertools.count()
    eventually(lambda: here.ask(next(numbers)) and len(here.open_rows()) == 2, within_s=15, what="opening")
    eventually(lambda: nobody_asks(here), within_s=15, what="everybody's hearing of it")
    here.vendor.script("m", Behaviour())
    admin = f"http://127.0.0.1:{here.ports[0]}/api/v1/admin/llm/breakers"
    headers = {"Authorization": f"Bearer {here.staff}"}
    for row in httpx.get(f"{admin}?state=open", headers=headers).json()["results"]:
        assert httpx.post(f"{admin}/{row['id']}/reset", headers=headers).json()["state"] == "closed"
    print(f"back in all processes {everybody_returns(here):.2f} s after the reset")  # noqa: T201


def everybody_returns(here: House) -> float:
    """Wait until every process asks `m` again. Seconds from now to the last answer of another."""
    started, last, row = time.monotonic(), 0.0, 0
    while row < 8:
        row = row + 1 if here.ask(row) == "m" else 0
        if not row:
            last = time.monotonic() - started
            assert last < 8
    return last


def nobody_asks(here: House) -> bool:
    """Whether eight requests in a row leave `m` alone."""
    before = here.calls()["m"]
    for number in range(8):
        here.ask(number)
    return here.calls()["m"] == before


def without_its_store(here: House) -> None:
    """Redis takes commands and answers none: each process goes on by itself, and no request waits for it."""
    here.vendor.script("m", Behaviour(status=500))
    before, slowest = here.calls()["m"], 0.0
    for number in range(40):
        started = time.monotonic()
        assert here.ask(number) == "n"
        slowest = max(slowest, time.monotonic() - started)
    assert 3 <= here.calls()["m"] - before <= 6
    print(f"Redis does not answer: the slowest of 40 requests took {slowest * 1000:.0f} ms")  # noqa: T201
    assert slowest < 2.0
