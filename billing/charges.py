"""What was used, and at which prices, by place: what statements are made of. Summed from usage rows by the database, or
kept in the roll-up of a closed day (`DailyCharge`), which says the same to the last digit.

Sums are exact on both databases: money as `UsdField`, quantities as integers.
"""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.db.models import Count, Max, Q, QuerySet, Sum, TextField
from django.db.models.functions import Cast

from billing.models import RolledDay, UsageRecord
from billing.pricing import STANDARD
from billing.rollup_models import DailyCharge
from billing.rows import as_date, as_uuid, truth

ZERO = Decimal(0)
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens")
_PLACE = ("billing_day", "key_id", "config_id", "provider_slug", "model_name", "used_byok")
_NAMES = {"key_id": "key_name", "config_id": "config_name"}  # of whom in the place


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


def _units() -> dict[Unit, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Used:
    """The usage of one place. `cost` is the provider's list price; `unitemised` is the part of it of rows without price
    lines (charged in full after a crash, or booked by `log_usage`), `own_list` the part that is billed at the tenant's
    own prices instead, as `own` (of it `own_unitemised` without lines). `prepaid` is the part of `billed` that prepaid
    credit paid. The names are the last that any request of the day had, wherever it belongs."""

    requests: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    cost: Decimal = ZERO
    billed: Decimal = ZERO
    budget: Decimal = ZERO
    lost: Decimal = ZERO
    prepaid: Decimal = ZERO
    unitemised: Decimal = ZERO
    own_list: Decimal = ZERO
    own: Decimal = ZERO
    own_unitemised: Decimal = ZERO
    units: dict[Unit, int] = field(default_factory=_units)
    own_units: dict[Unit, int] = field(default_factory=_units)
    key_name: str = ""
    config_name: str = ""

    def add(self, other: "Used") -> None:
        """Add another's sums. Names stay as they are."""
        self.requests += other.requests
        for name in TOKENS:
            self.tokens[name] += other.tokens[name]
        for name in MONEY:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, others in ((self.units, other.units), (self.own_units, other.own_units)):
            for unit, quantity in others.items():
                mine[unit] += quantity


MONEY: dict[str, str] = {
    "cost": "cost_total_usd",
    "billed": "billed_usd",
    "budget": "budget_usd",
    "lost": "lost_cost_usd",
    "prepaid": "prepaid_usd",
    "unitemised": "unitemised_usd",
    "own_list": "own_price_list_usd",
    "own": "own_price_usd",
    "own_unitemised": "own_price_unitemised_usd",
}
Charges = dict[tuple[uuid.UUID, Place], Used]


def of(*, tenant_id: uuid.UUID, days: Sequence[date], from_rows: bool = False) -> dict[Place, Used]:
    """A tenant's charges of these days: closed ones from their roll-ups, the rest from the rows. With `from_rows` only
    those come from roll-ups whose usage is pruned. Ask in a snapshot."""
    marks = RolledDay.objects.filter(billing_day__in=days, charges__isnull=False)
    if from_rows:
        marks = marks.filter(pruned_at__isnull=False)
    rolled = set(marks.values_list("billing_day", flat=True))
    live = [day for day in days if day not in rolled]
    found = rolled_up(tenant_id=tenant_id, days=rolled)
    if live:
        found |= of_rows(tenant_id=tenant_id, days=live)
    return {place: used for (_, place), used in found.items()}


def rolled_up(*, tenant_id: uuid.UUID | None, days: Iterable[date]) -> Charges:
    """What the roll-ups of these days say, of one tenant or (None) of all."""
    # The lines come as text: a JSON column's own decoding is four times slower than orjson.
    lines = (Cast("lines", TextField()), Cast("own_lines", TextField()))
    rows = DailyCharge.objects.filter(billing_day__in=list(days)).order_by()
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    found: Charges = {}
    for row in rows.values_list(
        "tenant_id", *_PLACE, *_NAMES.values(), "requests", *TOKENS, *MONEY.values(), *lines
    ).iterator():
        tenant, *values = row
        place, values = Place(*values[: len(_PLACE)]), values[len(_PLACE) :]
        key_name, config_name, requests, *values = values
        used = _used(requests, values[: len(TOKENS)], values[len(TOKENS) : -2])
        used.key_name, used.config_name = key_name, config_name
        used.units, used.own_units = _unpacked(values[-2]), _unpacked(values[-1])
        found[tenant, place] = used
    return found


def _used(requests: int, tokens: Iterable[Any], money: Iterable[Decimal | None]) -> Used:
    """Of columns in the order of TOKENS and of MONEY."""
    used = Used(requests=requests, tokens={name: int(value) for name, value in zip(TOKENS, tokens, strict=True)})
    for name, amount in zip(MONEY, money, strict=True):
        setattr(used, name, amount or ZERO)
    return used


def as_rows(charges: Charges) -> list[DailyCharge]:
    """What a roll-up keeps of them."""
    return [
        DailyCharge(
            tenant_id=tenant_id,
            **dict(zip(_PLACE, place, strict=True)),
            key_name=used.key_name,
            config_name=used.config_name,
            requests=used.requests,
            **used.tokens,
            **{column: getattr(used, name) for name, column in MONEY.items()},
            lines=_packed(used.units),
            own_lines=_packed(used.own_units),
        )
        for (tenant_id, place), used in charges.items()
    ]


def _packed(units: dict[Unit, int]) -> list[list[Any]]:
    return [
        [unit.meter, unit.priced_as, f"{unit.price:f}", unit.per, units[unit], unit.service_tier]
        for unit in sorted(units)
    ]


def _unpacked(text: str) -> dict[Unit, int]:
    units = _units()
    for meter, priced_as, price, per, quantity, service_tier in orjson.loads(text):
        units[Unit(meter, priced_as, Decimal(price), per, service_tier)] = quantity
    return units


def of_rows(*, tenant_id: uuid.UUID | None, days: Sequence[date]) -> Charges:
    """What the usage rows of these days come to, of one tenant or (None) of all: two passes, three where a tenant has
    prices of its own. Memory goes by combination of tenant, day, key, config and model."""
    found: Charges = defaultdict(Used)
    last: dict[tuple[uuid.UUID, date, str, uuid.UUID], tuple[str, str]] = {}
    own = False
    for row in _sums(tenant_id, days).iterator():
        place = Place(*(row[name] for name in _PLACE))
        one = _used(row["count_rows"], (row[f"sum_{name}"] for name in TOKENS), (row[f"of_{name}"] for name in MONEY))
        found[row["tenant_id"], place].add(one)
        own = own or row["count_own"] > 0
        for of, name in _NAMES.items():
            if row[of] is not None:
                who, said = (row["tenant_id"], place.day, of, row[of]), (row["last_id"], row[name])
                last[who] = max(last.get(who, said), said)
    for (tenant, place), used in found.items():
        for of, name in _NAMES.items():
            _, said_last = last.get((tenant, place.day, of, getattr(place, of)), ("", ""))
            setattr(used, name, said_last)
    for tenant, place, unit, quantity in _lines(tenant_id, days, own=False):
        found[tenant, place].units[unit] += quantity
    if own:
        for tenant, place, unit, quantity in _lines(tenant_id, days, own=True):
            found[tenant, place].own_units[unit] += quantity
    return found


def _sums(tenant_id: uuid.UUID | None, days: Sequence[date]) -> QuerySet[Any, dict[str, Any]]:
    own = Q(used_byok=False, terms__has_key="price_override")
    money = {
        "cost": Sum("cost_total_usd"),
        "billed": Sum("billed_usd"),
        "budget": Sum("budget_usd"),
        "lost": Sum("lost_cost_usd"),
        "prepaid": Sum("billed_usd", filter=Q(is_prepaid=True)),
        "unitemised": Sum("cost_total_usd", filter=Q(price_lines=[])),
        "own_list": Sum("cost_total_usd", filter=own),
        "own": Sum("billed_usd", filter=own),
        "own_unitemised": Sum("billed_usd", filter=own & ~Q(terms__has_key="lines")),
    }
    rows = UsageRecord.objects.filter(billing_day__in=days).order_by()
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    sums: QuerySet[Any, dict[str, Any]] = rows.values("tenant_id", *_PLACE, *_NAMES.values()).annotate(
        count_rows=Count("pk"),
        count_own=Count("pk", filter=own),
        last_id=Max(Cast("pk", TextField())),  # as text: PostgreSQL has no greatest uuid
        **{f"sum_{name}": Sum(name) for name in TOKENS},
        **{f"of_{name}": total for name, total in money.items()},
    )
    return sums


# The price lines of all rows, summed by place, meter and unit price; those of the tenant's own prices stand in `terms`.
_POSTGRES = (
    "SELECT u.tenant_id, u.billing_day, u.key_id, u.config_id, u.provider_slug, u.model_name, u.used_byok,"
    " line->>'meter', line->>'priced_as', line->>'unit_price_usd', line->>'unit_quantity',"
    " line->>'service_tier', SUM((line->>'quantity')::numeric)"
    " FROM llm_usage_logs u CROSS JOIN LATERAL jsonb_array_elements("
)
_SQLITE = (
    "SELECT u.tenant_id, u.billing_day, u.key_id, u.config_id, u.provider_slug, u.model_name, u.used_byok,"
    " json_extract(line.value, '$.meter'), json_extract(line.value, '$.priced_as'),"
    " json_extract(line.value, '$.unit_price_usd'), json_extract(line.value, '$.unit_quantity'),"
    " json_extract(line.value, '$.service_tier'), SUM(json_extract(line.value, '$.quantity'))"
    " FROM llm_usage_logs u, json_each("
)
# Put together of our own texts only, once: no value is ever composed into a statement.
_DAYS_SQLITE = "WHERE u.billing_day IN (SELECT value FROM json_each(%s))"
_SOURCES = {
    ("postgresql", False): _POSTGRES + "u.price_lines) AS line WHERE u.billing_day = ANY(%s)",
    ("postgresql", True): _POSTGRES + "u.terms->'lines') AS line WHERE u.billing_day = ANY(%s) AND NOT u.used_byok",
    ("sqlite", False): _SQLITE + "u.price_lines) AS line " + _DAYS_SQLITE,
    ("sqlite", True): _SQLITE + "u.terms, '$.lines') AS line " + _DAYS_SQLITE + " AND NOT u.used_byok",
}
_BY_ALL = " GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
_OF_ALL = {key: source + _BY_ALL for key, source in _SOURCES.items()}
_OF_ONE = {key: source + " AND u.tenant_id = %s" + _BY_ALL for key, source in _SOURCES.items()}


def _lines(
    tenant_id: uuid.UUID | None, days: Sequence[date], *, own: bool
) -> Iterator[tuple[uuid.UUID, Place, Unit, int]]:
    """One without a price or a count is left out: what it cost is then in what the document calls rounding."""
    vendor = connection.vendor
    on_postgres = vendor == "postgresql"
    values: list[Any] = [list(days) if on_postgres else json.dumps([day.isoformat() for day in days])]
    statement = (_OF_ALL if tenant_id is None else _OF_ONE)[vendor, own]
    if tenant_id is not None:
        values.append(tenant_id if on_postgres else tenant_id.hex)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        for tenant, day, key, config, provider, model, own_key, *line in cursor:
            meter, priced_as, price, per, service_tier, quantity = line
            if price is None or per is None or quantity is None:
                continue
            place = Place(as_date(day), _id(key), _id(config), provider, model, truth(own_key))
            exact = Decimal(str(price)).normalize()
            unit = Unit(str(meter), str(priced_as or meter), exact, int(per), str(service_tier or STANDARD))
            yield as_uuid(tenant), place, unit, int(quantity)


def _id(value: Any) -> uuid.UUID | None:
    return None if value is None else as_uuid(value)
