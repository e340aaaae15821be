"""Lists by what is seldom used. A list is read from the newest request on until a page is full, which by a rare model
is the whole table; roll-ups know on which days there is something to find.
"""

import uuid
from collections.abc import Iterator
from datetime import date

from django.db.models import Min, Q, QuerySet, Sum

from billing import periods
from billing.models import RolledDay, UsageRecord
from billing.sums import days_of, rolled_up

# So many are looked up by their ids; of more a page is soon full.
FEW = 2000


def narrowed(rows: QuerySet[UsageRecord], *, tenant_id: uuid.UUID | None, only: Q) -> QuerySet[UsageRecord]:
    """The same rows, by their ids if they are few. `rows` are already those of `only`, which asks for dimensions of
    roll-ups.

    What is in no roll-up yet, the newest requests included, is looked for in the rows.
    """
    columns = set(_columns(only))
    if "model_name" in columns:
        columns.add("provider_slug")  # with the provider, the index on models finds it
    if not RolledDay.objects.exists():
        return rows.filter(provider_slug__in=_slugs()) if "model_name" in columns else rows
    days = days_of(date.min, date.max)
    of_days, of_months = rolled_up(columns, tenant_id=tenant_id, days=days)
    monthly = of_months.filter(days.months, only).values_list("month").annotate(number=Sum("requests"))
    months = {month: number for month, number in monthly if number}
    if sum(months.values()) > FEW:
        return rows
    within = [day for month in months for day in periods.days_of(month)]
    daily = of_days.filter(days.rest | (days.rolled & Q(billing_day__in=within)), only)
    slug = ("provider_slug",) if "provider_slug" in columns else ()
    found = [row for row in daily.values_list("billing_day", *slug).annotate(number=Sum("requests")) if row[-1]]
    if sum(row[-1] for row in found) > FEW:
        return rows
    on_days = rows.filter(billing_day__in={row[0] for row in found})
    if slug:
        on_days = on_days.filter(provider_slug__in={row[1] for row in found})
    ids: set[uuid.UUID] = set()
    for part in (on_days, *days.of_rows(rows)):
        ids.update(part.order_by().values_list("pk", flat=True)[: FEW + 1])
    return rows if len(ids) > FEW else rows.filter(pk__in=ids)


def _columns(asked: Q) -> Iterator[str]:
    for one in asked.children:
        if isinstance(one, Q):
            yield from _columns(one)
        elif isinstance(one, tuple):
            yield one[0].partition("__")[0]


def _slugs() -> list[str]:
    """Every provider that ever served a request: one step of the index on models each, however many rows there are."""
    found: list[str] = []
    slug: str | None = UsageRecord.objects.aggregate(first=Min("provider_slug"))["first"]
    while slug is not None:
        found.append(slug)
        slug = UsageRecord.objects.filter(provider_slug__gt=slug).aggregate(first=Min("provider_slug"))["first"]
    return found
