"""Budgets, usage, roll-ups, credit and statements are equal to the last digit after everything at once: clients of
three tenants, `kill -9`, late settles, prices, own prices, markups, adjustments, correction runs and expiring credit.
`STORM_SEED=...` repeats it; the seed is printed.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.fakes import Behaviour
from tests.faults.accounts import Ledger, effects_of, plain, read, wrong, wrongly_corrected
from tests.faults.books import ROOT
from tests.faults.storm import Storm
from tests.faults.test_storm import ON_POSTGRES, killed_while_they_ask, storm

PATIENCE_S = 60.0  # of a machine with much else to do


def test_after_everything_at_once_all_books_say_the_same() -> None:
    with storm(3 if ON_POSTGRES else 2) as weather:
        everything_at_once(weather, seconds=5, enough=1)


def everything_at_once(weather: Storm, *, seconds: float, enough: int) -> str:
    """Weather for so long, and again until what each deed did was billed `enough` times; then all books are compared.
    What happened."""
    weather.provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_first_s=0.02, delay_between_s=0.01,
                                           prompt_tokens=61, usage={"cached_tokens": 23}))  # fmt: skip
    with meddling(weather) as deeds, weather.watched() as watched:
        seen, kills = asyncio.run(killed_while_they_ask(weather, seconds, clients=48, every_s=(1, 2)))
        patience = time.monotonic() + PATIENCE_S
        while min(effects_of(read(weather)).values()) < enough and time.monotonic() < patience:
            more, killed = asyncio.run(killed_while_they_ask(weather, seconds / 3, clients=48, every_s=(1, 2)))
            seen, kills = seen.with_(more), kills + killed
    weather.wait_until_nothing_is_held()
    ledger = read(weather)
    effects = effects_of(ledger)
    figures = f"{kills} kills, {len(seen.answers)} answers, {dict(seen.others)}, done {deeds}, found {effects}"
    print(figures)  # noqa: T201
    assert watched.disagreements == []
    answered = {request.hex: cost for request, cost in seen.answers.items()}
    late = {one.request: one.money[2] for one in ledger.adjustments if one.kind == "system"}
    assert {pk: ledger.rows[pk].money[2] + late.get(pk, 0) for pk in answered} == answered
    assert [said for row in ledger.rows.values() if (said := wrong(ledger, row))] == []
    assert [said for one in ledger.adjustments if one.run and (said := wrongly_corrected(ledger, one))] == []
    # Whatever was recorded as complete the provider has billed, token for token.
    billed = Counter(
        (entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens) for entry in weather.provider.bill()
    )
    assert Counter(row.tokens for row in ledger.rows.values() if row.status == "completed") - billed == Counter()
    all_books_agree(weather, ledger)
    assert min(effects.values()) >= enough, effects
    assert min(kills, deeds.get("prove", 0), deeds.get("roll_up", 0)) >= 1, (kills, deeds)
    return figures


@contextlib.contextmanager
def meddling(weather: Storm) -> Iterator[dict[str, int]]:
    """The web processes, and beside what goes on within a meddler with tenants of its own; afterwards the dictionary
    says how often it did what."""
    command = [sys.executable, "-m", "tests.faults.meddler", "meddle", str(weather.seed)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    meddler = subprocess.Popen(command, cwd=ROOT, env=weather.books.environment, **pipes)
    deeds: dict[str, int] = {}
    try:
        weather.webs.start()
        assert meddler.stdout is not None
        ready = meddler.stdout.readline()
        weather.keys += json.loads(ready)["keys"] if ready else []
        yield deeds
    finally:
        said, complaints = meddler.communicate("\n", timeout=60)
        assert meddler.returncode == 0, complaints[-3000:]
        deeds.update(json.loads(said))


def all_books_agree(weather: Storm, ledger: Ledger) -> None:
    """Rows, windows, roll-ups, credit and the statement of each tenant, each summed by itself."""
    closed = close(weather)
    assert closed["differences"] == []
    assert set(closed["tenants"]) == set(ledger.zones)
    days, scopes, entries = of_days(weather), of_windows(weather), of_credit(weather)
    for tenant, one in closed["tenants"].items():
        money = [*ledger.rows.values(), *ledger.adjustments]
        mine = [each for each in money if each.tenant == tenant]
        together = tuple(map(sum, zip(*(each.money for each in mine), strict=True)))
        assert days[tenant] == together
        for key in {each.key for each in mine if each.key}:
            of_key = sum(each.money[2] for each in mine if each.key == key)
            assert {scopes["key", key, period] for period in ("day", "month")} == {of_key}
        assert {scopes["tenant", tenant, period] for period in ("day", "month")} == {together[2]}
        drawn = sum(each.money[1] for each in mine if each.prepaid)
        assert scopes.get(("credit", tenant, "ever"), 0) == drawn
        assert Decimal(one["credit"]) == entries.get(tenant, 0) - drawn
        totals = one["document"]["totals"]
        figures = tuple(Decimal(totals[name]) for name in ("cost_usd", "billed_usd", "prepaid_usd", "due_usd"))
        assert figures == (together[0], together[1], drawn, together[1] - drawn)
        assert one["unlike"] == []
        for part in ("days", "keys", "configs", "models"):
            assert sum(Decimal(row["billed_usd"]) for row in one["document"][part]) == together[1]


def of_days(weather: Storm) -> dict[str, tuple[Decimal, ...]]:
    """By tenant, what its days were rolled up to."""
    sums = "sum(cost_total_usd), sum(billed_usd), sum(budget_usd)"
    rows = weather.books.query(f"SELECT tenant_id, {sums} FROM billing_daily_usage GROUP BY tenant_id")
    return {plain(tenant): tuple(map(weather.books.usd, money)) for tenant, *money in rows}


def of_windows(weather: Storm) -> dict[tuple[str, str, str], Decimal]:
    """By kind, id and period, what was spent."""
    rows = weather.books.query(
        "SELECT scope_kind, scope_id, period, sum(spent) FROM billing_windows GROUP BY scope_kind, scope_id, period"
    )
    return {(kind, plain(pk), period): weather.books.usd(spent) for kind, pk, period, spent in rows}


def of_credit(weather: Storm) -> dict[str, Decimal]:
    """By tenant, what its grants, corrections and expiries come to: the credit's window has to say the same."""
    entries = weather.books.query("SELECT tenant_id, sum(amount) FROM billing_credit_entries GROUP BY tenant_id")
    granted = weather.books.query("SELECT scope_id, granted FROM billing_windows WHERE scope_kind = 'credit'")
    found = {plain(tenant): weather.books.usd(amount) for tenant, amount in entries}
    assert {plain(tenant): weather.books.usd(amount) for tenant, amount in granted} == found
    return found


def close(weather: Storm) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.meddler", "close"]
    done = subprocess.run(command, cwd=ROOT, env=weather.books.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
