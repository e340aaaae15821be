"""The ledger of a money storm, read from outside in plain SQL, and every amount in it worked out again in fractions."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.faults.storm import Storm

UNIT = 10**10  # of a USD
Money = tuple[Decimal, Decimal, Decimal]  # list price, billed, counted in budgets
Rates = dict[str, Fraction]  # USD a token, by meter


@dataclass(frozen=True, kw_only=True)
class Row:
    """One usage row. `tokens`: prompt, of it cached, completion. `own_price`: the id of the tenant's own, if that is
    what it owes. `lines`: whether its bill says what was counted."""

    id: str
    tenant: str
    key: str
    status: str
    tokens: tuple[int, int, int]
    version: str
    money: Money
    terms: dict[str, str]
    own_price: str
    lines: bool
    byok: bool
    prepaid: bool
    day: str
    accepted: datetime


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """One adjustment; of a correction run `seen` says how many the request had before."""

    tenant: str
    key: str
    request: str
    kind: str
    money: Money
    prepaid: bool
    run: str
    seen: int


@dataclass(kw_only=True)
class Ledger:
    """The ledger, and each price there ever was by its id: of the list, of a tenant, of a correction run."""

    rows: dict[str, Row]
    adjusted: dict[str, list[Adjusted]]  # by request
    prices: dict[str, Rates]
    zones: dict[str, ZoneInfo]  # by tenant
    own_ended: list[datetime]  # when tenants' own prices were over
    expiries: int  # of credit

    @property
    def adjustments(self) -> list[Adjusted]:
        return [one for found in self.adjusted.values() for one in found]


def read(weather: Storm) -> Ledger:
    query = weather.books.query
    adjusted = defaultdict(list)
    for one in _adjustments(weather):
        adjusted[one.request].append(one)
    ended = query("SELECT effective_to FROM llm_price_overrides WHERE effective_to IS NOT NULL")
    [(expiries,)] = query("SELECT count(*) FROM billing_credit_entries WHERE kind = 'expiry'")
    return Ledger(
        rows={row.id: row for row in _rows(weather)},
        adjusted=adjusted,
        prices=_prices(weather),
        zones={plain(pk): ZoneInfo(name) for pk, name in query("SELECT id, timezone FROM tenants")},
        own_ended=[moment(at) for (at,) in ended],
        expiries=expiries,
    )


def _rows(weather: Storm) -> Iterator[Row]:
    usd = weather.books.usd
    for (
        pk,
        tenant,
        key,
        status,
        prompt,
        cached,
        completion,
        version,
        said,
        lines,
        byok,
        prepaid,
        day,
        at,
        *money,
    ) in weather.books.query(
        "SELECT id, tenant_id, key_id, status, prompt_tokens, cached_tokens, completion_tokens, price_version_id,"
        " terms, price_lines, used_byok, is_prepaid, billing_day, created_at, cost_total_usd, billed_usd,"
        " budget_usd FROM llm_usage_logs"
    ):
        cost, billed, budget = map(usd, money)
        terms = parsed(said)
        yield Row(
            id=plain(pk), tenant=plain(tenant), key=plain(key), status=status, tokens=(prompt, cached, completion),
            version=plain(version), money=(cost, billed, budget), terms=terms, lines=bool(parsed(lines)),
            own_price=plain(terms.get("price_override")), byok=bool(byok), prepaid=bool(prepaid), day=str(day),
            accepted=moment(at),
        )  # fmt: skip


def _adjustments(weather: Storm) -> Iterator[Adjusted]:
    usd = weather.books.usd
    for tenant, key, request, kind, prepaid, run, seen, cost, billed, budget in weather.books.query(
        "SELECT a.tenant_id, key_id, a.request_id, kind, is_prepaid, correction_id, i.adjustments, cost_total_usd,"
        " a.billed_usd, a.budget_usd FROM billing_adjustments a LEFT JOIN llm_correction_items i"
        " ON i.run_id = correction_id AND i.request_id = a.request_id"
    ):
        yield Adjusted(
            tenant=plain(tenant), key=plain(key), request=plain(request), kind=kind, prepaid=bool(prepaid),
            money=(usd(cost), usd(billed), usd(budget)), run=plain(run), seen=seen or 0,
        )  # fmt: skip


def _prices(weather: Storm) -> dict[str, Rates]:
    found: dict[str, Rates] = defaultdict(dict)
    for table, of in (("llm_price_components", "version_id"), ("llm_price_override_components", "override_id")):
        rows = weather.books.query(f"SELECT {of}, meter, unit_price_usd, unit_quantity FROM {table}")
        for pk, meter, price, quantity in rows:
            found[plain(pk)][meter] = Fraction(weather.books.usd(price)) / quantity
    for pk, components in weather.books.query("SELECT id, components FROM llm_correction_runs"):
        found[plain(pk)] = {one["meter"]: Fraction(one["usd_per_1m"]) / 10**6 for one in parsed(components)}
    return found


def plain(pk: Any) -> str:
    """An id as SQLite keeps it; empty for none."""
    return "" if pk is None else str(pk).replace("-", "")


def parsed(document: Any) -> Any:
    return json.loads(document) if isinstance(document, str) else document


def moment(at: Any) -> datetime:
    return at if isinstance(at, datetime) else datetime.fromisoformat(at).replace(tzinfo=UTC)


# --- worked out again, in fractions -----------------------------------------------------------------------------------


def effects_of(ledger: Ledger) -> dict[str, int]:
    """How often each deed shows in what was billed. A change of price counts when both were billed at."""
    rows = [row for row in ledger.rows.values() if row.lines]
    own = [row for row in rows if row.own_price]
    listed = [row for row in rows if not row.own_price and not row.byok]
    with_own_prices = {row.tenant for row in own}
    again = min(ledger.own_ended, default=datetime.max.replace(tzinfo=UTC))
    runs = [one for one in ledger.adjustments if one.run]
    return {
        "list price changes": len({row.version for row in listed}) - 1,
        "own prices": len({row.own_price for row in own}),
        "at own prices": len(own),
        "at list price again": sum(row.tenant in with_own_prices and row.accepted > again for row in listed),
        "markup changes": len({row.terms.get("markup_percent") for row in listed}) - 1,
        "fee changes": len({row.terms.get("byok_fee_percent") for row in rows if row.byok}) - 1,
        "cached": sum(row.tokens[1] > 0 for row in rows),
        "from credit": sum(row.prepaid for row in rows),
        "credit expired": ledger.expiries,
        "adjusted": sum(one.kind == "staff" and not one.run for one in ledger.adjustments),
        "settled late": sum(one.kind == "system" for one in ledger.adjustments),
        "correction runs": len({one.run for one in runs}),
        "corrected": len(runs),
        "corrected of each tenant": min(sum(one.tenant == tenant for one in runs) for tenant in ledger.zones),
    }


def half_up(amount: Fraction) -> Decimal:
    return Decimal(int(amount * UNIT + Fraction(1, 2))).scaleb(-10)


def of_tokens(rates: Rates, tokens: tuple[int, int, int]) -> Decimal:
    """What so many tokens cost; where cached ones have no price they cost what others do."""
    prompt, cached, completion = tokens
    cache_read = rates.get("cache_read", rates["input"])
    return half_up(rates["input"] * (prompt - cached) + cache_read * cached + rates["output"] * completion)


def by_terms(row: Row, cost: Decimal) -> Money:
    """From a list price to the money of a request, by its markup, or its fee with the tenant's own provider key."""
    name = "byok_fee_percent" if row.byok else "markup_percent"
    share = Fraction(row.terms.get(name, "0")) / 100
    if row.byok:
        fee = half_up(Fraction(cost) * share)
        return cost, fee, cost + fee
    billed = half_up(Fraction(cost) * (1 + share))
    return cost, billed, billed


def wrong(ledger: Ledger, row: Row) -> str:
    """What is wrong with a row's day or money; empty if nothing is."""
    day = row.accepted.astimezone(ledger.zones[row.tenant]).date()
    if row.day != str(day):
        return f"{row}, expected on {day}"
    if not row.lines:  # swept: charged in full, or nothing came
        return "" if row.status in {"expired", "failed", "cancelled"} else f"no lines: {row}"
    right = by_terms(row, of_tokens(ledger.prices[row.version], row.tokens))
    if row.own_price:
        billed = of_tokens(ledger.prices[row.own_price], row.tokens)
        right = (right[0], billed, billed)
    return "" if row.money == right else f"{row}, expected {right}"


def wrongly_corrected(ledger: Ledger, one: Adjusted) -> str:
    """What is wrong with an adjustment of a correction run: with its row, and what that was adjusted by before, it
    comes to what the run's price makes of the tokens. Where a tenant's own price decides, only the list price is
    corrected."""
    row = ledger.rows[one.request]
    if not row.lines:
        return f"{one}, of what nobody counted"
    right = by_terms(row, of_tokens(ledger.prices[one.run], row.tokens))
    others = [other for other in ledger.adjusted[one.request] if other is not one]
    runs = [other.money for other in others if other.run and other.seen < one.seen]
    rest = [other.money for other in others if not other.run]
    # Which of the rest came before is not written anywhere, only how many.
    earlier = itertools.combinations(rest, one.seen - len(runs))
    sums = {tuple(map(sum, zip(row.money, one.money, *runs, *some, strict=True))) for some in earlier}
    good = right in sums
    if row.own_price:
        good = one.money[1:] == (0, 0) and right[0] in {cost for cost, _, _ in sums}
    return "" if good else f"{one} of {row}, expected {right}, found {sums}"
