"""What a tenant used in a month, summed by the database: memory goes by combination of day, key, config and model.

Sums are exact on both databases: money as `UsdField`, quantities as integers.
"""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Q, Sum

from billing import periods
from billing.models import Adjustment, UsageRecord
from billing.pricing import STANDARD
from billing.rows import as_date, as_uuid, truth
from billing.snapshot import reading

ZERO = Decimal(0)
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens")
# A month with more adjustments than this (a correction run) shows those that say the same in one line.
MOST_ADJUSTMENTS = 1_000


class Place(NamedTuple):
    """Where a charge belongs. `own_key`: the tenant's own provider key paid the provider."""

    day: date
    key_id: uuid.UUID | None
    config_id: uuid.UUID | None
    provider: str
    model: str
    own_key: bool


class Unit(NamedTuple):
    """What is counted, and its price: `price` USD for `per` units. `priced_as` differs after a declared fallback."""

    meter: str
    priced_as: str
    price: Decimal
    per: int
    service_tier: str = STANDARD


@dataclass(slots=True)
class Used:
    """The usage of one place. `cost` is the provider's list price; `unitemised` is the part of it of rows without price
    lines (charged in full after a crash, or booked by `log_usage`)."""

    requests: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    cost: Decimal = ZERO
    billed: Decimal = ZERO
    unitemised: Decimal = ZERO
    units: dict[Unit, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """An adjustment, or (`count` above 1, without a request) several that say the same."""

    day: date
    kind: str
    count: int
    request_id: uuid.UUID | None
    key_id: uuid.UUID | None
    config_id: uuid.UUID | None
    provider: str
    model: str
    reason: str
    author: str
    cost: Decimal
    billed: Decimal


@dataclass(slots=True, kw_only=True)
class Figures:
    """A tenant's month as the ledger has it. Names of keys and configs are the last that the usage rows say."""

    used: dict[Place, Used]
    adjusted: list[Adjusted]
    key_names: dict[uuid.UUID, str]
    config_names: dict[uuid.UUID, str]

    @property
    def requests(self) -> int:
        return sum(used.requests for used in self.used.values())

    @property
    def adjustments(self) -> int:
        return sum(one.count for one in self.adjusted)


def read(*, tenant_id: uuid.UUID, month: date) -> Figures:
    """Everything of one moment."""
    days = periods.days_of(month)
    figures = Figures(used=defaultdict(Used), adjusted=[], key_names={}, config_names={})
    with reading():
        _add_sums(figures, tenant_id, days)
        for place, unit, quantity in _units(tenant_id, days):
            figures.used[place].units[unit] += quantity
        figures.adjusted = _adjusted(tenant_id, days)
    return figures


def number(*, tenant_id: uuid.UUID, month: date) -> tuple[int, int]:
    """How many usage rows and adjustments the month has now."""
    usage, adjusted = (
        model._default_manager.filter(tenant_id=tenant_id, billing_day__in=periods.days_of(month)).count()
        for model in (UsageRecord, Adjustment)
    )
    return usage, adjusted


def _add_sums(figures: Figures, tenant_id: uuid.UUID, days: list[date]) -> None:
    columns = ("billing_day", "key_id", "config_id", "provider_slug", "model_name", "used_byok")
    sums = {f"sum_{name}": Sum(name) for name in (*TOKENS, "cost_total_usd", "billed_usd")}
    found = (
        UsageRecord.objects.filter(tenant_id=tenant_id, billing_day__in=days)
        .order_by()
        .values(*columns, "key_name", "config_name")
        .annotate(
            count_rows=Count("pk"), sum_unitemised=Sum("cost_total_usd", filter=Q(price_lines=[])), **sums
        )
    )  # fmt: skip
    named: dict[tuple[str, uuid.UUID], tuple[date, str]] = {}
    for row in found.iterator():
        used = figures.used[Place(*(row[name] for name in columns))]
        used.requests += row["count_rows"]
        for name in TOKENS:
            used.tokens[name] += int(row[f"sum_{name}"])
        used.cost += row["sum_cost_total_usd"]
        used.billed += row["sum_billed_usd"]
        used.unitemised += row["sum_unitemised"] or ZERO
        for kind in ("key", "config"):
            if row[f"{kind}_id"] is not None:
                last = (row["billing_day"], row[f"{kind}_name"])
                place = (kind, row[f"{kind}_id"])
                named[place] = max(named.get(place, last), last)
    for (kind, one), (_, name) in named.items():
        (figures.key_names if kind == "key" else figures.config_names)[one] = name


_LINES_POSTGRES = (
    "SELECT u.billing_day, u.key_id, u.config_id, u.provider_slug, u.model_name, u.used_byok,"
    " line->>'meter', line->>'priced_as', line->>'unit_price_usd', line->>'unit_quantity',"
    " line->>'service_tier', SUM((line->>'quantity')::numeric)"
    " FROM llm_usage_logs u CROSS JOIN LATERAL jsonb_array_elements(u.price_lines) AS line"
    " WHERE u.tenant_id = %s AND u.billing_day = ANY(%s)"
    " GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
)
_LINES_SQLITE = (
    "SELECT u.billing_day, u.key_id, u.config_id, u.provider_slug, u.model_name, u.used_byok,"
    " json_extract(line.value, '$.meter'), json_extract(line.value, '$.priced_as'),"
    " json_extract(line.value, '$.unit_price_usd'), json_extract(line.value, '$.unit_quantity'),"
    " json_extract(line.value, '$.service_tier'), SUM(json_extract(line.value, '$.quantity'))"
    " FROM llm_usage_logs u, json_each(u.price_lines) AS line"
    " WHERE u.tenant_id = %s AND u.billing_day IN (SELECT value FROM json_each(%s))"
    " GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
)


def _units(tenant_id: uuid.UUID, days: list[date]) -> Iterator[tuple[Place, Unit, int]]:
    """The price lines of all rows, summed by place, meter and unit price. One without a price or a count is left out:
    what it cost is then in what the document calls rounding."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_LINES_POSTGRES, [tenant_id, days])
        else:
            cursor.execute(_LINES_SQLITE, [tenant_id.hex, json.dumps([day.isoformat() for day in days])])
        for day, key, config, provider, model, own, meter, priced_as, price, per, service_tier, quantity in cursor:
            if price is None or per is None or quantity is None:
                continue
            place = Place(as_date(day), _id(key), _id(config), provider, model, truth(own))
            usd, tier = Decimal(str(price)).normalize(), str(service_tier or STANDARD)
            unit = Unit(str(meter), str(priced_as or meter), usd, int(per), tier)
            yield place, unit, int(quantity)


def _id(value: Any) -> uuid.UUID | None:
    return None if value is None else as_uuid(value)


def _adjusted(tenant_id: uuid.UUID, days: list[date]) -> list[Adjusted]:
    rows = Adjustment.objects.filter(tenant_id=tenant_id, billing_day__in=days).order_by()
    columns = ("billing_day", "kind", "key_id", "config_id", "provider_slug", "model_name", "reason", "author")
    each = ("pk", "request_id") if rows[: MOST_ADJUSTMENTS + 1].count() <= MOST_ADJUSTMENTS else ()
    found = rows.values(*columns, *each).annotate(
        count_rows=Count("pk"), sum_cost=Sum("cost_total_usd"), sum_billed=Sum("billed_usd")
    )
    listed = [(str(row.get("pk", "")), _one(row)) for row in found.iterator()]
    return [one for _, one in sorted(listed, key=lambda pair: (_order(pair[1]), pair[0]))]


def _one(row: dict[str, Any]) -> Adjusted:
    return Adjusted(
        day=row["billing_day"],
        kind=row["kind"],
        count=row["count_rows"],
        request_id=row.get("request_id"),
        key_id=row["key_id"],
        config_id=row["config_id"],
        provider=row["provider_slug"],
        model=row["model_name"],
        reason=row["reason"],
        author=row["author"],
        cost=row["sum_cost"],
        billed=row["sum_billed"],
    )


def _order(one: Adjusted) -> tuple[str, ...]:
    return tuple(
        map(str, (one.day, one.kind, one.key_id, one.config_id, one.provider, one.model, one.reason, one.author))
    )
