"""The database is stopped, frozen, killed, cut off, filled up, and loses commits, under load, on a server of its own.

While it lasts: 503 in JSON within a second, no hang, no call of a provider; what is under way is answered and settled
afterwards. Then: well within 5 s without a restart, books equal to the provider's bill, nothing held.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes import Behaviour
from tests.faults.books import connect
from tests.faults.lossy import LossyPostgres
from tests.faults.outage import BACK_WITHIN_S, REFUSED_WITHIN_S, Outage
from tests.faults.own_postgres import OwnPostgres
from tests.faults.storm import Storm, served
from tests.faults.tally import FULL, SEED, Tally
from tests.journeys.world import eventually
from tollgate import silence

pytestmark = pytest.mark.skipif("DATABASE_URL" not in os.environ, reason="it is about a database server")

DICE = random.Random(SEED)
SLOW = Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.5, delay_between_s=0.5)
SLOW_TAKES_S = 2.0


class House:
    """A database server, a gateway on it, and a provider, for all faults of this module."""

    def __init__(self, server: OwnPostgres, weather: Storm, port: int) -> None:
        self.server, self.weather, self.port = server, weather, port

    def suffer(self, case: str, fault: Callable[[Outage], Awaitable[None]], *, refuses: bool | None = True) -> None:
        """The fault under load, judged. `refuses`: whether some requests must be refused, or none; None: either."""
        tally = Tally(case)
        calls = len(self.weather.provider.bill())
        outage = Outage(self.weather, self.port)
        asyncio.run(outage.run(fault))
        outage.judge_statuses(tally, longest_answer_s=SLOW_TAKES_S)
        outage.judge_books(tally, calls)
        tally.close()
        assert refuses is None or bool(outage.refusals()) == refuses
        assert len(outage.answers()) > 10


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres() as server:
        yield server


@pytest.fixture(scope="module")
def weather(server: OwnPostgres) -> Iterator[Storm]:
    with Storm(server.url, webs=0, seed=SEED) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, delay_first_s=0.05))
        weather.provider.script("slow", SLOW)
        weather.budget(Decimal(1000))
        yield weather


@pytest.fixture(scope="module")
def house(server: OwnPostgres, weather: Storm) -> Iterator[House]:
    with served(weather.books, 1) as [port]:
        yield House(server, weather, port)


def lasting() -> float:
    """Seconds of a fault: in a long run also longer than a lease."""
    return DICE.choice([0.3, 1.0, 3.0, 8.0, 20.0]) * DICE.uniform(0.8, 1.2) if FULL else DICE.uniform(1.5, 3.0)


def during(begin: Callable[[], Any], end: Callable[[], Any]) -> Callable[[Outage], Awaitable[None]]:
    async def fault(_: Outage) -> None:
        await asyncio.to_thread(begin)
        await asyncio.sleep(lasting())
        await asyncio.to_thread(end)

    return fault


def test_stopped_and_started(house: House) -> None:
    house.suffer("database stopped", during(house.server.stop, house.server.start))


def test_all_else_says_503_too(house: House) -> None:
    """Models, the API, and the admin to somebody who is signed in."""
    headers = {"Authorization": f"Bearer {house.weather.keys[0]}", "Cookie": f"sessionid={'x' * 32}"}
    paths = ("/v1/models", "/api/v1/me", "/api/v1/llm/usage", "/admin/", "/health/ready")
    url = f"http://127.0.0.1:{house.port}"
    with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False) as client:
        assert [client.get(path, follow_redirects=True).status_code for path in paths] == [200] * 5
        house.server.stop()
        try:
            eventually(lambda: client.get("/v1/models").status_code == 503, what="the end of what is known by heart")
            for path in paths:
                answer = client.get(path)
                assert (answer.status_code, path) == (503, path)
                assert answer.elapsed.total_seconds() < REFUSED_WITHIN_S + 0.1  # `ready` waits a whole second
                assert "Traceback" not in answer.text
                if path.startswith(("/api", "/v1")):
                    assert answer.json()["error"]["code"] == "overloaded"
                    assert answer.headers["retry-after"] == "1"
        finally:
            house.server.start()
        eventually(lambda: client.get("/api/v1/me").status_code == 200, within_s=BACK_WITHIN_S)


def test_frozen_management_requests_do_not_hang(house: House) -> None:
    """Those that were asked before anybody could know wait for some seconds, all later ones are told at once."""
    headers = {"Authorization": f"Bearer {house.weather.keys[0]}", "Cookie": f"sessionid={'x' * 32}"}
    url = f"http://127.0.0.1:{house.port}"
    paths = ("/api/v1/me", "/api/v1/llm/usage", "/admin/")
    with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False, timeout=20) as client:
        assert [client.get(path, follow_redirects=True).status_code for path in paths] == [200] * 3
        house.server.freeze()
        try:
            first, *later = [client.get(path) for path in paths]
        finally:
            house.server.thaw()
        assert [answer.status_code for answer in (first, *later)] == [503] * 3
        assert [answer.json()["error"]["code"] for answer in (first, later[0])] == ["overloaded"] * 2
        assert "database is out of reach" in later[1].text  # JSON or a page, by who was first to know
        assert first.elapsed.total_seconds() < silence.SILENT_S + 1
        assert max(answer.elapsed.total_seconds() for answer in later) < REFUSED_WITHIN_S
        eventually(lambda: client.get("/api/v1/me").status_code == 200, within_s=BACK_WITHIN_S)
        assert [client.get(path, follow_redirects=True).status_code for path in paths] == [200] * 3


def test_frozen(house: House) -> None:
    house.suffer("database frozen", during(house.server.freeze, house.server.thaw))


def test_killed_and_restarted(house: House) -> None:
    house.suffer("database killed", during(house.server.kill, house.server.start))


def test_every_connection_cut_again_and_again(house: House) -> None:
    async def fault(_: Outage) -> None:
        cut = 0
        for _turn in range(60 if FULL else 15):
            cut += await asyncio.to_thread(house.server.cut, house.weather.books.name)
            await asyncio.sleep(DICE.uniform(0.02, 0.3))
        assert cut > 10

    house.suffer("connections cut", fault, refuses=None)


def test_somebody_else_has_all_connections(house: House) -> None:
    async def fault(_: Outage) -> None:
        filled = house.server.filled(house.weather.books.name)
        await asyncio.to_thread(filled.__enter__)
        await asyncio.sleep(lasting())
        await asyncio.to_thread(filled.__exit__, None, None, None)

    house.suffer("database full", fault)


def test_commits_are_lost_before_and_after_they_happen(server: OwnPostgres, weather: Storm) -> None:
    with (
        LossyPostgres(server.socket_folder, DICE) as lossy,
        lossy.instead(weather.books),
        served(weather.books, 1) as [port],
    ):

        async def fault(_: Outage) -> None:
            lossy.loses = 0.3
            await asyncio.sleep(max(3.0, lasting()))
            lossy.loses = 0.0

        House(server, weather, port).suffer("commits lost", fault)
        assert min(lossy.lost.values()) > 2, lossy.lost


def test_a_lock_on_one_keys_row_keeps_nobody_waiting(house: House) -> None:
    """When a key was last used is written once a minute by the one thread that reads all keys."""
    never_used = "SELECT count(*) FROM api_keys WHERE last_used_at IS NULL"

    async def fault(_: Outage) -> None:
        with connect(house.weather.books.url) as other:
            other.execute("UPDATE api_keys SET last_used_at = NULL")
            with other.transaction():
                other.execute("SELECT id FROM api_keys ORDER BY id LIMIT 1 FOR UPDATE")
                await asyncio.sleep(2.5)
                assert house.weather.books.query(never_used) == [(1,)]

    house.suffer("a key's row locked", fault, refuses=False)
    assert house.weather.books.query(never_used) == [(0,)]
