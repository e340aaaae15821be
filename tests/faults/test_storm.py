"""Nobody overspends: hundreds of clients, several processes, killed again and again. tests/soak/storm.py is longer."""

import asyncio
import os
import time
from decimal import Decimal

import aiohttp

from tests.fakes import Behaviour
from tests.faults.books import given_postgres
from tests.faults.storm import Seen, Storm, ask, most, one, served

SEED = int(os.environ.get("STORM_SEED", "1"))
ON_POSTGRES = "DATABASE_URL" in os.environ
CLIENTS = 256 if ON_POSTGRES else 64


def storm(webs: int) -> Storm:
    print(f"STORM_SEED={SEED}")  # noqa: T201 - to run it again
    return Storm(given_postgres() if ON_POSTGRES else None, webs=webs, seed=SEED)


def test_of_all_clients_at_three_processes_exactly_k_are_admitted() -> None:
    """The provider bills the whole hold, nothing is killed: k requests fit, so k are answered."""
    characters, cap, k = 836, 200, 300 if ON_POSTGRES else 100
    with storm(0) as weather, served(weather.books, 3 if ON_POSTGRES else 2) as ports:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, prompt_tokens=characters + 64, chunks=4))
        each = most(characters, cap)
        weather.budget(k * each + each / 2)
        with weather.watched() as watched:
            plan = lambda number: [(characters, cap, bool((number + turn) % 2)) for turn in range(2 * k // CLIENTS)]  # noqa: E731
            seen = asyncio.run(weather.clients(CLIENTS, ports, plan))
        assert dict(seen.others) == {"429": CLIENTS * (2 * k // CLIENTS) - k}
        assert len(seen.answers) == k
        assert set(seen.answers.values()) == {each}
        assert weather.books.held() == (0, 0)
        assert weather.billed() == k * each
        assert weather.books.standing()[0] == k * each
        assert (watched.overshoot <= 0, watched.disagreements, watched.looks > 3) == (True, [], True)
        assert weather.books.run("audit") == []


def test_processes_killed_again_and_again_never_overspend_and_lose_nothing_that_was_answered() -> None:
    kills_after_answers, seconds = (20, 6.0) if ON_POSTGRES else (5, 3.0)
    with storm(3 if ON_POSTGRES else 2) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.02, delay_between_s=0.01))
        weather.webs.start()
        weather.budget(Decimal(1000))
        asyncio.run(kill_after_each(weather, kills_after_answers))
        # From here on the budget runs out while processes die.
        spent = sum(weather.books.standing()[:2])
        weather.budget(spent + (350 if ON_POSTGRES else 150) * most(1000, 500))
        with weather.watched() as watched:
            seen, kills = asyncio.run(killed_while_they_ask(weather, seconds))
        took = weather.wait_until_nothing_is_held()
        spent, held, used, _ = weather.books.standing()
        billed = weather.billed()
        figures = f"{kills} kills, {len(seen.answers)} answers, {dict(seen.others)}, spent {spent} >= billed {billed}"
        print(f"{figures}, quiet after {took:.1f} s")  # noqa: T201
        assert watched.disagreements == []
        assert watched.overshoot <= 0
        assert spent <= weather.limit
        assert (spent, held) == (used, 0)
        assert billed <= spent
        rows = weather.books.rows()
        assert {request: rows.get(request) for request in seen.answers} == {
            request: ("completed", cost) for request, cost in seen.answers.items()
        }
        assert kills > 3
        done = weather.books.manage("reconcile", "--check")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert asyncio.run(what_is_left_can_be_spent(weather)) < most(10, 10)


async def kill_after_each(weather: Storm, times: int) -> None:
    """`kill -9` of all processes the moment an answer's last byte is here: it is recorded at its true cost."""
    for number in range(times):
        seen = Seen()
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{weather.webs.port}"
            await one(session, url, weather.keys[0], ask(50 + number, 20, stream=bool(number % 2)), seen)
            while weather.webs.kill(weather.random):
                pass
        [(request, cost)] = seen.answers.items()
        assert weather.books.rows()[request] == ("completed", cost)
    assert weather.billed() == weather.books.standing()[0]
    assert len(weather.books.rows()) == times


async def killed_while_they_ask(
    weather: Storm, seconds: float, *, clients: int = CLIENTS, every_s: tuple[float, float] = (0.3, 1.0)
) -> tuple[Seen, int]:
    """`clients` ask for so long, while a process is killed every so often. What they saw, and the number of kills."""
    until = time.monotonic() + seconds

    def plan(number: int):
        while time.monotonic() < until:
            yield weather.random.randrange(1, 1000), weather.random.randrange(1, 500), weather.random.random() < 0.5

    seen, kills = await asyncio.gather(
        weather.clients(clients, [weather.webs.port], plan), weather.killing(until, every_s)
    )
    return seen, kills


async def what_is_left_can_be_spent(weather: Storm) -> Decimal:
    """Ever smaller requests until the smallest is refused: what is left then is less than one hold."""
    for characters, cap in ((1000, 400), (400, 40), (10, 10)):
        while True:
            seen = await weather.clients(1, [weather.webs.port], lambda _, ask=(characters, cap, False): [ask])
            if not seen.answers:
                assert seen.refused == 1, seen.others
                break
    return weather.left()
