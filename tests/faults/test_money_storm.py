"""Budgets, usage, roll-ups and statements are equal to the last digit after everything at once: clients, `kill -9`,
late settles, price changes, own prices, markups and adjustments. `STORM_SEED=...` repeats it; the seed is printed.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.fakes import Behaviour
from tests.faults.books import ROOT
from tests.faults.storm import Storm
from tests.faults.test_storm import ON_POSTGRES, SEED, killed_while_they_ask, storm

UNIT = 10**10  # of a USD


def test_after_everything_at_once_all_books_say_the_same() -> None:
    with storm(3 if ON_POSTGRES else 2) as weather:
        everything_at_once(weather, seconds=8 if ON_POSTGRES else 6, enough=3 if ON_POSTGRES else 1)


def everything_at_once(weather: Storm, *, seconds: float, enough: int) -> str:
    """Weather for so long, in which each thing happens `enough` times; then all books are compared. What happened."""
    weather.provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.02, delay_between_s=0.01))
    weather.webs.start()
    with weather.watched() as watched, meddling(weather) as deeds:
        seen, kills = asyncio.run(killed_while_they_ask(weather, seconds, clients=48, every_s=(1, 2)))
    weather.wait_until_nothing_is_held()
    rows, late = usage(weather), late_figures(weather)
    figures = f"{kills} kills, {len(seen.answers)} answers, {dict(seen.others)}, {len(late)} settled late, {deeds}"
    print(figures)  # noqa: T201
    assert watched.disagreements == []
    answered = {request.hex: cost for request, cost in seen.answers.items()}
    assert {pk: rows[pk]["budget"] + late.get(pk, 0) for pk in answered} == answered
    assert [text for row in rows.values() if (text := wrong(weather, row))] == []
    # Whatever was recorded as complete the provider has billed, token for token.
    billed = Counter((entry.prompt_tokens, entry.completion_tokens) for entry in weather.provider.bill())
    assert Counter(row["tokens"] for row in rows.values() if row["status"] == "completed") - billed == Counter()
    all_books_agree(weather)
    often = {name: deeds.get(name, 0) for name in ("price", "own_price", "markup", "adjust", "sweep", "prove")}
    often |= {"kills": kills, "late": len(late), "prices": len({row["version"] for row in rows.values()})}
    assert min(often.values()) >= enough, often
    return figures


@contextlib.contextmanager
def meddling(weather: Storm) -> Iterator[dict[str, int]]:
    """A meddler beside what goes on within; afterwards the dictionary says how often it did what."""
    command = [sys.executable, "-m", "tests.faults.meddler", "meddle", str(SEED)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    meddler = subprocess.Popen(command, cwd=ROOT, env=weather.books.environment, **pipes)
    deeds: dict[str, int] = {}
    try:
        assert meddler.stdout is not None
        meddler.stdout.readline()  # it is ready
        yield deeds
    finally:
        said, complaints = meddler.communicate("\n", timeout=60)
        assert meddler.returncode == 0, complaints[-3000:]
        deeds.update(json.loads(said))


def usage(weather: Storm) -> dict[str, dict[str, Any]]:
    """Every usage row as the database has it, by its id in hex."""
    found = weather.books.query(
        "SELECT id, status, prompt_tokens, completion_tokens, price_version_id, cost_total_usd, billed_usd, budget_usd,"
        " terms, price_lines FROM llm_usage_logs"
    )
    rows = {}
    for pk, status, prompt, completion, version, cost, billed, budget, terms, lines in found:
        rows[plain(pk)] = {
            "status": status,
            "tokens": (prompt, completion),
            "version": plain(version),
            "cost": weather.books.usd(cost),
            "billed": weather.books.usd(billed),
            "budget": weather.books.usd(budget),
            "terms": terms if isinstance(terms, dict) else json.loads(terms),
            "lines": lines if isinstance(lines, list) else json.loads(lines),
        }
    return rows


def late_figures(weather: Storm) -> dict[str, Decimal]:
    """What was corrected of requests that settled after a sweep had charged them in full, by id in hex."""
    found = weather.books.query("SELECT request_id, budget_usd FROM billing_adjustments WHERE kind = 'system'")
    return {plain(pk): weather.books.usd(amount) for pk, amount in found}


def plain(pk: Any) -> str:
    """An id as SQLite keeps it."""
    return str(pk).replace("-", "")


def half_up(amount: Fraction) -> Decimal:
    return Decimal(int(amount * UNIT + Fraction(1, 2))).scaleb(-10)


def wrong(weather: Storm, row: dict[str, Any]) -> str:
    """What is wrong with a row's money, worked out again in fractions from its tokens and the price in the book."""
    if not row["lines"]:  # swept: charged in full, or nothing came
        return "" if row["status"] in {"expired", "failed", "cancelled"} else f"no lines: {row}"
    cost = half_up(of_tokens(book(weather, "llm_price_components", "version_id")[row["version"]], row["tokens"]))
    own = row["terms"].get("price_override")
    if own is not None:
        billed = half_up(
            of_tokens(book(weather, "llm_price_override_components", "override_id")[plain(own)], row["tokens"])
        )
    else:
        billed = half_up(Fraction(cost) * (100 + Fraction(row["terms"].get("markup_percent", "0"))) / 100)
    right = (cost, billed, billed)
    return "" if (row["cost"], row["billed"], row["budget"]) == right else f"{row}, expected {right}"


def of_tokens(rates: dict[str, Fraction], tokens: tuple[int, int]) -> Fraction:
    return rates["input"] * tokens[0] + rates["output"] * tokens[1]


def book(weather: Storm, table: str, column: str) -> dict[str, dict[str, Fraction]]:
    """USD a token by meter, of each price there ever was. Read once."""
    books: dict[str, dict[str, dict[str, Fraction]]] = weather.__dict__.setdefault("price_books", {})
    if table not in books:
        books[table] = {}
        found = weather.books.query(f"SELECT {column}, meter, unit_price_usd, unit_quantity FROM {table}")
        for pk, meter, price, quantity in found:
            books[table].setdefault(plain(pk), {})[meter] = Fraction(weather.books.usd(price)) / quantity
    return books[table]


def all_books_agree(weather: Storm) -> None:
    """Rows, windows, roll-ups and the statement, each summed by itself."""
    closed = close(weather)
    assert (closed["unlike"], closed["differences"]) == ([], [])
    sums = "sum(cost_total_usd), sum(billed_usd), sum(budget_usd)"
    [of_usage], [of_adjustments], [of_days] = (
        [[weather.books.usd(amount) for amount in row] for row in weather.books.query(f"SELECT {sums} FROM {table}")]
        for table in ("llm_usage_logs", "billing_adjustments", "billing_daily_usage")
    )
    together = [one + other for one, other in zip(of_usage, of_adjustments, strict=True)]
    assert of_days == together
    for period in ("day", "month"):
        [(spent,)] = weather.books.query(
            f"SELECT sum(spent) FROM billing_windows WHERE scope_kind = 'tenant' AND period = '{period}'"
        )
        assert weather.books.usd(spent) == together[2]
    totals = closed["document"]["totals"]
    assert [Decimal(totals["cost_usd"]), Decimal(totals["billed_usd"])] == together[:2]
    for part in ("days", "keys", "configs", "models"):
        assert sum(Decimal(row["billed_usd"]) for row in closed["document"][part]) == together[1]


def close(weather: Storm) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.meddler", "close"]
    done = subprocess.run(command, cwd=ROOT, env=weather.books.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
