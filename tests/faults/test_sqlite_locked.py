"""Somebody else's write transaction locks SQLite, for one second and for ten: requests wait or are told 503, nothing is
lost."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from tests.fakes import Behaviour
from tests.faults.outage import Outage
from tests.faults.storm import Storm, served
from tests.faults.tally import SEED, Tally

pytestmark = pytest.mark.skipif("DATABASE_URL" in os.environ, reason="it is about SQLite")


@pytest.fixture(scope="module")
def weather() -> Iterator[Storm]:
    with Storm(None, webs=0, seed=SEED) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, delay_first_s=0.05))
        weather.provider.script("slow", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.5))
        weather.budget(Decimal(1000))
        yield weather


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_locked_file(weather: Storm, seconds: int) -> None:
    async def fault(_: Outage) -> None:
        with closing(sqlite3.connect(f"{weather.books.folder.name}/storm.sqlite3", timeout=20)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
            other.rollback()

    tally, calls = Tally(f"SQLite locked for {seconds} s"), len(weather.provider.bill())
    with served(weather.books, 1) as [port]:
        outage = Outage(weather, port)
        asyncio.run(outage.run(fault))
    outage.judge_statuses(tally, longest_answer_s=1.0)
    outage.judge_books(tally, calls)
    tally.close()
    assert len(outage.answers()) > 10
    assert outage.refusals() or seconds == 1
