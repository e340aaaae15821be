"""Where our cost and a provider's differ: by what its answers said, and by its invoice. USD; days are UTC, as theirs.

Our side is the provider's list price as we reckon it (`cost_total_usd`) with what was corrected of it since, never what
tenants are billed. What lost attempts cost is not in it: an invoice that is higher by that much is right.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from typing import Any, NamedTuple

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
    """Every model and day, and all together. Small differences of one sign show in the total alone. `missing`: what of
    ours is perhaps not in it, in words."""

    rows: list[Row]
    total: Row
    missing: list[str]

    @property
    def beyond(self) -> int:
        return sum(row.beyond for row in (*self.rows, self.total))


def reported(*, month: date, provider: str | None, tolerance: Tolerance) -> Report:
    """Our cost, corrections included, against the cost that providers named in their answers; requests without one are
    left out."""
    rows, missing = _of_month(month, provider)
    ours: dict[Place, tuple[int, Decimal]] = defaultdict(_nothing)
    theirs: dict[Place, Decimal] = defaultdict(Decimal)
    for one in _used(rows.filter(reported_cost_usd__isnull=False), provider):
        place = (f"{one.provider}/{one.model}", one.day)
        _add(ours, place, one)
        theirs[place] += one.reported
    return _report(ours, theirs, tolerance, missing)


def invoiced(*, month: date, provider: str, invoice: Mapping[Place, Decimal], tolerance: Tolerance) -> Report:
    """Our cost of the platform's keys at one provider against its invoice, late corrections of requests included.

    What tenants' own keys used is on their own invoices.
    """
    daily = any(day is not None for _, day in invoice)
    rows, missing = _of_month(month, provider)
    ours: dict[Place, tuple[int, Decimal]] = defaultdict(_nothing)
    for one in _used(rows.filter(used_byok=False), provider):
        _add(ours, (one.model, one.day if daily else None), one)
    return _report({place: sums for place, sums in ours.items() if any(sums)}, invoice, tolerance, missing)


class _Used(NamedTuple):
    """A sum of some requests; or (`requests` 0) what was corrected of one since."""

    provider: str
    model: str
    day: date
    requests: int
    cost: Decimal
    reported: Decimal


def _nothing() -> tuple[int, Decimal]:
    return 0, ZERO


def _add(ours: dict[Place, tuple[int, Decimal]], place: Place, one: _Used) -> None:
    number, cost = ours[place]
    ours[place] = (number + one.requests, cost + one.cost)


def _of_month(month: date, provider: str | None) -> tuple[QuerySet[Any], list[str]]:
    """The rows accepted in the month, each with its `day`, in UTC; and what is missing, in words: a request of the
    first or the last day can have its billing day in the month beside, where its tenant is, and that can be pruned.

    Raises InvalidValue if a day of the month itself is.
    """
    days = periods.days_of(month)
    beside = {month - timedelta(days=1): days[0], periods.following(month): days[-1]}
    pruned = RolledDay.objects.filter(pruned_at__isnull=False, billing_day__in=[*days, *beside]).order_by("billing_day")
    gone = list(pruned.values_list("billing_day", flat=True))
    if not beside.keys() >= set(gone):
        raise InvalidValue(f"Usage of {month:%Y-%m} has been pruned: there is nothing left to compare.", param="month")
    missing = [
        f"Incomplete: usage of {day} has been pruned, so requests of {beside[day]} (UTC) that were of that day in "
        "their tenant's time zone are missing from ours."
        for day in gone
    ]
    begins, ends = (datetime.combine(day, time(0), tzinfo=UTC) for day in (month, periods.following(month)))
    rows = UsageRecord.objects.filter(created_at__gte=begins, created_at__lt=ends)
    if provider:
        rows = rows.filter(provider_slug=provider)
    return rows.order_by().annotate(day=TruncDate("created_at", tzinfo=UTC)), missing


def _used(rows: QuerySet[Any], provider: str | None) -> Iterator[_Used]:
    """The sums of these rows, then each correction of one of them, on its day."""
    place = ("provider_slug", "model_name", "day")
    sums = {"number": Count("pk"), "ours": Sum("cost_total_usd"), "theirs": Sum("reported_cost_usd")}
    for slug, model, day, number, cost, reported in rows.values_list(*place).annotate(**sums).iterator():
        yield _Used(slug, model, day, number, cost, reported or ZERO)
    corrected = Adjustment.objects.filter(request_id__isnull=False).exclude(cost_total_usd=ZERO).order_by()
    if provider:
        corrected = corrected.filter(provider_slug=provider)
    waiting = corrected.values_list("request_id", "cost_total_usd").iterator()
    while batch := list(islice(waiting, _BATCH)):
        asked = {request_id for request_id, _ in batch}
        known = {pk: of for pk, *of in rows.filter(pk__in=asked).values_list("pk", *place)}
        for request_id, cost in batch:
            if request_id in known:
                slug, model, day = known[request_id]
                yield _Used(slug, model, day, 0, cost, ZERO)


def _report(
    ours: Mapping[Place, tuple[int, Decimal]], theirs: Mapping[Place, Decimal], tolerance: Tolerance, missing: list[str]
) -> Report:
    rows = []
    for place in sorted({*ours, *theirs}, key=lambda place: (place[0], place[1] or date.min)):
        number, cost = ours.get(place, (0, ZERO))
        rows.append(_row(place, number, cost, theirs.get(place, ZERO), tolerance))
    all_ours, all_theirs = sum((row.ours for row in rows), ZERO), sum((row.theirs for row in rows), ZERO)
    total = _row(("All", None), sum(row.requests for row in rows), all_ours, all_theirs, tolerance)
    return Report(rows=rows, total=total, missing=missing)


def _row(place: Place, number: int, ours: Decimal, theirs: Decimal, tolerance: Tolerance) -> Row:
    model, day = place
    beyond = tolerance.beyond(ours, theirs)
    return Row(model=model, day=day, requests=number, ours=ours, theirs=theirs, beyond=beyond)
