"""Nobody overdraws prepaid credit: the storm of test_storm.py on it, with a grant that expires in the middle."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from decimal import Decimal

from tests.fakes import Behaviour
from tests.faults.storm import Storm, Watched, most, served
from tests.faults.test_storm import CLIENTS, ON_POSTGRES, killed_while_they_ask, storm


@contextlib.contextmanager
def credit_watched(weather: Storm) -> Iterator[Watched]:
    """Compare the credit's window with its rows and with what was granted, each time in one statement."""
    found, stop = Watched(), threading.Event()

    def look() -> None:
        while not stop.wait(0.005):
            granted, spent, held, drawn, on_hold = weather.books.credit()
            found.looks += 1
            found.overshoot = max(found.overshoot, spent + held - granted)
            if (spent, held) != (drawn, on_hold):
                found.disagreements.append(f"window {spent} + {held}, rows {drawn} + {on_hold}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_of_all_clients_exactly_as_many_are_admitted_as_the_credit_covers() -> None:
    characters, cap, k = 836, 200, 300 if ON_POSTGRES else 100
    each = most(characters, cap)
    with storm(0) as weather:
        weather.books.run("grant", str(k * each + each / 2))
        with served(weather.books, 3 if ON_POSTGRES else 2) as ports:
            weather.provider.script("m", Behaviour(bill_whole_cap=True, prompt_tokens=characters + 64, chunks=4))
            with credit_watched(weather) as watched:
                plan = lambda number: [(characters, cap, bool((number + turn) % 2)) for turn in range(2 * k // CLIENTS)]  # noqa: E731
                seen = asyncio.run(weather.clients(CLIENTS, ports, plan))
        assert dict(seen.others) == {"429": CLIENTS * (2 * k // CLIENTS) - k}
        assert len(seen.answers) == k
        assert weather.billed() == k * each
        assert weather.books.credit() == (k * each + each / 2, k * each, 0, k * each, 0)
        assert (watched.overshoot <= 0, watched.disagreements, watched.looks > 3) == (True, [], True)
        assert weather.books.run("audit") == []


def test_processes_killed_again_and_again_never_overdraw_and_the_books_add_up() -> None:
    seconds = 6.0 if ON_POSTGRES else 3.0
    each = most(1000, 500)
    with storm(3 if ON_POSTGRES else 2) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.02, delay_between_s=0.01))
        weather.webs.start()
        weather.books.run("grant", str((250 if ON_POSTGRES else 60) * each))
        soon = 20_000 * each  # more than any machine draws until then
        weather.books.run("grant", str(soon), str(seconds / 2 + 1))  # drawn first, and gone in the middle
        with credit_watched(weather) as watched:
            seen, kills = asyncio.run(killed_while_they_ask(weather, seconds))
        weather.wait_until_nothing_is_held()
        granted, spent, held, drawn, _ = weather.books.credit()
        billed = weather.billed()
        figures = f"{kills} kills, {len(seen.answers)} answers, {dict(seen.others)}, granted {granted}"
        print(f"{figures}, spent {spent} >= billed {billed}, {watched.looks} looks")  # noqa: T201
        assert watched.disagreements == []
        assert watched.overshoot <= 0
        assert (spent, held) == (drawn, 0)
        assert billed <= spent <= granted
        assert granted < soon  # the second grant has expired
        assert Decimal(0) < spent
        assert kills > 1
        rows = weather.books.rows()
        assert {request: rows.get(request) for request in seen.answers} == {
            request: ("completed", cost) for request, cost in seen.answers.items()
        }
        done = weather.books.manage("reconcile", "--check")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
