"""What a tenant used in a month: its charges, from roll-ups where days are closed, and each adjustment."""

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, Sum

from billing import charges, periods
from billing.charges import Place, Used
from billing.models import Adjustment, UsageRecord
from billing.snapshot import reading

ZERO = Decimal(0)
# A month with more adjustments than this (a correction run) shows those that say the same in one line.
MOST_ADJUSTMENTS = 1_000


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
    own_key: bool
    reason: str
    author: str
    cost: Decimal
    billed: Decimal
    prepaid: Decimal


@dataclass(slots=True, kw_only=True)
class Figures:
    """A tenant's month as the ledger has it."""

    used: dict[Place, Used]
    adjusted: list[Adjusted]

    @property
    def requests(self) -> int:
        return sum(used.requests for used in self.used.values())

    @property
    def adjustments(self) -> int:
        return sum(one.count for one in self.adjusted)

    def names(self, kind: str) -> dict[Any, str]:
        """The names of keys or configs (`kind` is `key` or `config`) by id, as the last request said them."""
        last: dict[Any, tuple[date, str]] = {}
        for place, used in self.used.items():
            one = getattr(place, f"{kind}_id")
            if one is not None:
                said = (place.day, getattr(used, f"{kind}_name"))
                last[one] = max(last.get(one, said), said)
        return {one: name for one, (_, name) in last.items()}


def read(*, tenant_id: uuid.UUID, month: date, from_rows: bool = False) -> Figures:
    """Everything of one moment. `from_rows`: not from roll-ups, unless the rows are pruned."""
    days = periods.days_of(month)
    with reading():
        used = charges.of(tenant_id=tenant_id, days=days, from_rows=from_rows)
        return Figures(used=used, adjusted=_adjusted(tenant_id, days))


def number(*, tenant_id: uuid.UUID, month: date) -> tuple[int, int]:
    """How many usage rows and adjustments the month has now."""
    usage, adjusted = (
        model._default_manager.filter(tenant_id=tenant_id, billing_day__in=periods.days_of(month)).count()
        for model in (UsageRecord, Adjustment)
    )
    return usage, adjusted


def _adjusted(tenant_id: uuid.UUID, days: list[date]) -> list[Adjusted]:
    rows = Adjustment.objects.filter(tenant_id=tenant_id, billing_day__in=days).order_by()
    columns = ("billing_day", "kind", "key_id", "config_id", "provider_slug", "model_name", "used_byok",
               "reason", "author")  # fmt: skip
    sums = {
        "count_rows": Count("pk"),
        "sum_cost": Sum("cost_total_usd"),
        "sum_billed": Sum("billed_usd"),
        "sum_prepaid": Sum("billed_usd", filter=Q(is_prepaid=True)),
    }
    found = list(rows.values(*columns, "pk", "request_id").annotate(**sums)[: MOST_ADJUSTMENTS + 1])
    if len(found) > MOST_ADJUSTMENTS:
        found = list(rows.values(*columns).annotate(**sums))
    listed = [(str(row.get("pk", "")), _one(row)) for row in found]
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
        own_key=row["used_byok"],
        reason=row["reason"],
        author=row["author"],
        cost=row["sum_cost"],
        billed=row["sum_billed"],
        prepaid=row["sum_prepaid"] or ZERO,
    )


def _order(one: Adjusted) -> tuple[str, ...]:
    said = (one.day, one.kind, one.key_id, one.config_id, one.provider, one.model, one.reason, one.author, one.own_key)
    return tuple(map(str, said))
