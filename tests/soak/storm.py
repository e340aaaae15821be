"""The long storm: k of k, `kill -9` after each of many answers, hours of it if you like; then prices, markups,
adjustments and late settles beside it. Prints seed and figures.

.venv/bin/python -m tests.soak.storm --seed 7 --seconds 120 [--answers 200] [--clients 256] [--webs 3] [--sqlite]
"""

import argparse
import asyncio
import random
import sys
import time
from decimal import Decimal

from tests.fakes import Behaviour
from tests.faults.books import given_postgres
from tests.faults.storm import Seen, Storm, most, served
from tests.faults.test_money_storm import everything_at_once
from tests.faults.test_storm import kill_after_each, what_is_left_can_be_spent
from tests.postgres import database_url

CALM_S = 20.0  # of weather between two looks at an empty house


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60.0, help="of killing, besides the quiet after each round")
    parser.add_argument("--answers", type=int, default=200, help="each followed by kill -9")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--webs", type=int, default=3)
    parser.add_argument("--sqlite", action="store_true")
    return parser.parse_args()


def k_of_k(admin: str | None, chosen: argparse.Namespace) -> None:
    characters, cap, k = 836, 200, 1000
    with Storm(admin, webs=0, seed=chosen.seed) as weather, served(weather.books, chosen.webs) as ports:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, prompt_tokens=characters + 64, chunks=4))
        each = most(characters, cap)
        weather.budget(k * each + each / 2)
        turns = 2 * k // chosen.clients
        started = time.monotonic()
        with weather.watched() as watched:
            seen = asyncio.run(
                weather.clients(
                    chosen.clients, ports, lambda n: [(characters, cap, bool((n + turn) % 2)) for turn in range(turns)]
                )
            )
        took = time.monotonic() - started
        overshoot = max(Decimal(0), watched.overshoot)
        say(f"k of k: {len(seen.answers)} of {k} answered, {dict(seen.others)}, overshoot {overshoot}, {took:.1f} s")
        assert (len(seen.answers), seen.refused) == (k, turns * chosen.clients - k)
        assert watched.overshoot <= 0
        assert watched.disagreements == []
        assert weather.billed() == weather.books.standing()[0] == k * each
        assert weather.books.run("audit") == []


def killed(admin: str | None, chosen: argparse.Namespace) -> None:
    with Storm(admin, webs=chosen.webs, seed=chosen.seed) as weather:
        weather.provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.02, delay_between_s=0.01))
        weather.webs.start()
        weather.budget(Decimal(100_000))
        asyncio.run(kill_after_each(weather, chosen.answers))
        say(f"kill -9 after each of {chosen.answers} answers: recorded {weather.books.standing()[0]} == billed")
        left = chosen.seconds
        while left > 0:
            left -= one_round(weather, min(CALM_S, left), chosen)
        done = weather.books.manage("reconcile", "--check")
        say(done.stdout.strip())
        assert done.returncode == 0, done.stderr


def everything(admin: str | None, chosen: argparse.Namespace) -> None:
    """Prices, markups, adjustments and late settles too, for a third of the time."""
    with Storm(admin, webs=chosen.webs, seed=chosen.seed) as weather:
        said = everything_at_once(weather, seconds=max(10.0, chosen.seconds / 3), enough=3)
        say(f"everything at once: {said}; rows, windows, roll-ups and statement agree")


def one_round(weather: Storm, seconds: float, chosen: argparse.Namespace) -> float:
    """Weather until the budget is gone and beyond, then quiet."""
    weather.budget(weather.books.standing()[0] + weather.random.randrange(200, 1500) * most(1000, 500))
    until = time.monotonic() + seconds

    def plan(number: int):
        while time.monotonic() < until:
            yield weather.random.randrange(1, 1000), weather.random.randrange(1, 500), weather.random.random() < 0.5

    async def both() -> tuple[Seen, int]:
        return tuple(await asyncio.gather(
            weather.clients(chosen.clients, [weather.webs.port], plan), weather.killing(until, (0.2, 0.9))
        ))  # fmt: skip

    with weather.watched() as watched:
        seen, kills = asyncio.run(both())
    quiet = weather.wait_until_nothing_is_held()
    spent, held, used, _ = weather.books.standing()
    billed, rows = weather.billed(), weather.books.rows()
    left = asyncio.run(what_is_left_can_be_spent(weather))
    say(
        f"{seconds:.0f} s: {kills} kills, {len(seen.answers)} answers, {dict(seen.others)}, {watched.looks} looks, "
        f"overshoot {max(Decimal(0), watched.overshoot)}, spent {spent} >= billed {billed}, "
        f"quiet after {quiet:.1f} s, left {left}"
    )
    assert (watched.overshoot <= 0, watched.disagreements) == (True, [])
    assert billed <= spent <= weather.limit
    assert (spent, held) == (used, 0)
    for request, cost in seen.answers.items():
        assert rows.get(request) == ("completed", cost), request
    return seconds


def main() -> None:
    chosen = options()
    say(f"--seed {chosen.seed}")
    admin = None
    if not chosen.sqlite:
        import os

        os.environ["DATABASE_URL"] = database_url()
        admin = given_postgres()
    k_of_k(admin, chosen)
    killed(admin, chosen)
    everything(admin, chosen)


if __name__ == "__main__":
    main()
