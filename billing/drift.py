"""Where our cost and a provider's differ: by what its answers said, and by its invoice. USD; days are UTC, as theirs.

Our side is the provider's list price as we reckon it (`cost_total_usd`), never what tenants are billed. What lost
attempts cost is not in it: an invoice that is higher by that much is right.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from typing import Any

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing import periods
from billing.models import Adjustment, RolledDay, UsageRecord
from tenants.errors import InvalidValue

ZERO = Decimal(0)
Place = tuple[str, date | None]
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """A difference is beyond it if it is more than `percent` of theirs and more than `usd`."""

    percent: Decimal = Decimal(1)
    usd: Decimal = Decimal("0.01")

    def beyond(self, ours: Decimal, theirs: Decimal) -> bool:
        return abs(ours - theirs) > max(self.usd, abs(theirs) * self.percent / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model on a day (None: the whole month). `requests` are ours."""

    model: str
    day: date | None
    requests: int
    ours: Decimal
    theirs: Decimal
    beyond: bool

    @property
    def difference(self) -> Decimal:
        return self.ours - self.theirs

    @property
    def percent(self) -> Decimal | None:
        """The difference in percent of theirs, to two places; None where they charge nothing."""
        if not self.theirs:
            return None
        return (self.difference * 100 / self.theirs).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every model and day, and all together. Small differences of one sign show in the total alone."""

    rows: list[Row]
    total: Row

    @property
    def beyond(self) -> int:
        return sum(row.beyond for row in (*self.rows, self.total))


def reported(*, month: date, provider: str | None, tolerance: Tolerance) -> Report:
    """Our cost against the cost that providers named in their answers; requests without one are left out."""
    rows = _of_month(month).filter(reported_cost_usd__isnull=False)
    if provider:
        rows = rows.filter(provider_slug=provider)
    ours: dict[Place, tuple[int, Decimal]] = {}
    theirs: dict[Place, Decimal] = {}
    found = rows.values("provider_slug", "model_name", "day").annotate(
        number=Count("pk"), ours=Sum("cost_total_usd"), theirs=Sum("reported_cost_usd")
    )
    for row in found.iterator():
        place = (f"{row['provider_slug']}/{row['model_name']}", row["day"])
        ours[place], theirs[place] = (row["number"], row["ours"]), row["theirs"]
    return _report(ours, theirs, tolerance)


def invoiced(*, month: date, provider: str, invoice: Mapping[Place, Decimal], tolerance: Tolerance) -> Report:
    """Our cost of the platform's keys at one provider against its invoice, late corrections of requests included.

    What tenants' own keys used is on their own invoices.
    """
    daily = any(day is not None for _, day in invoice)
    ours: dict[Place, tuple[int, Decimal]] = defaultdict(lambda: (0, ZERO))

    def add(model: str, day: date, number: int, cost: Decimal) -> None:
        place = (model, day if daily else None)
        before = ours[place]
        ours[place] = (before[0] + number, before[1] + cost)

    rows = _of_month(month).filter(provider_slug=provider, used_byok=False)
    found = rows.values("model_name", "day").annotate(number=Count("pk"), ours=Sum("cost_total_usd"))
    for row in found.iterator():
        add(row["model_name"], row["day"], row["number"], row["ours"])
    for model, day, cost in _corrections(provider, rows):
        add(model, day, 0, cost)
    return _report({place: sums for place, sums in ours.items() if any(sums)}, invoice, tolerance)


def _of_month(month: date) -> QuerySet[Any]:
    """The rows accepted in the month, each with its `day`, in UTC. Raises InvalidValue if retention took some."""
    if RolledDay.objects.filter(pruned_at__isnull=False, billing_day__in=periods.days_of(month)).exists():
        raise InvalidValue(f"Usage of {month:%Y-%m} has been pruned: there is nothing left to compare.", param="month")
    begins, ends = (datetime.combine(day, time(0), tzinfo=UTC) for day in (month, periods.following(month)))
    return (
        UsageRecord.objects.filter(created_at__gte=begins, created_at__lt=ends)
        .order_by()
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
    )


def _corrections(provider: str, rows: QuerySet[Any]) -> Iterator[tuple[str, date, Decimal]]:
    """(model, day, USD) of adjustments of the list price of these requests, on the request's day."""
    waiting: Iterator[tuple[uuid.UUID | None, Decimal]] = (
        Adjustment.objects.filter(provider_slug=provider, request_id__isnull=False)
        .exclude(cost_total_usd=ZERO)
        .order_by()
        .values_list("request_id", "cost_total_usd")
        .iterator()
    )
    while batch := list(islice(waiting, _BATCH)):
        asked = {request_id for request_id, _ in batch}
        known: dict[Any, tuple[str, date]] = {
            pk: (model, day)
            for pk, model, day in rows.filter(pk__in=asked).values_list("pk", "model_name", "day")
        }  # fmt: skip
        for request_id, cost in batch:
            if request_id in known:
                yield (*known[request_id], cost)


def _report(ours: Mapping[Place, tuple[int, Decimal]], theirs: Mapping[Place, Decimal], tolerance: Tolerance) -> Report:
    rows = []
    for place in sorted({*ours, *theirs}, key=lambda place: (place[0], place[1] or date.min)):
        number, cost = ours.get(place, (0, ZERO))
        rows.append(_row(place, number, cost, theirs.get(place, ZERO), tolerance))
    all_ours, all_theirs = sum((row.ours for row in rows), ZERO), sum((row.theirs for row in rows), ZERO)
    total = _row(("All", None), sum(row.requests for row in rows), all_ours, all_theirs, tolerance)
    return Report(rows=rows, total=total)


def _row(place: Place, number: int, ours: Decimal, theirs: Decimal, tolerance: Tolerance) -> Row:
    model, day = place
    beyond = tolerance.beyond(ours, theirs)
    return Row(model=model, day=day, requests=number, ours=ours, theirs=theirs, beyond=beyond)
