"""Sums of usage by columns, from whatever has them: months and days that are rolled up, and what came since from the
requests themselves. Every report is made of these. Amounts are USD, exact; latencies whole milliseconds.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any

from django.db.models import CharField, Count, Q, QuerySet, Sum, UUIDField, Value
from django.db.models.aggregates import Aggregate
from django.db.models.functions import Cast, TruncMonth

from billing import periods, slices
from billing.models import Adjustment, RolledDay, UsageRecord
from billing.rollup import NOT_OF_ADJUSTMENTS
from billing.rollup_models import OpenDay, RolledMonth
from tenants import scoping
from tenants.fields import UNIT

ZERO = Decimal(0)
_DAY = timedelta(days=1)
_SHORTEST_MONTH = timedelta(days=27)  # from its first day to its last


@dataclass(slots=True)
class Totals:
    """Sums of one group of a report."""

    requests: int = 0
    errors: int = 0
    byok_requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_total_usd: Decimal = ZERO
    billed_usd: Decimal = ZERO
    latency_ms_sum: int = 0

    def add(self, found: dict[str, Any]) -> None:
        """Add the sums of one query row, in columns named `of_<measure>`; missing ones and nulls are nothing."""
        for name, column, is_money in _COLUMNS:
            if value := found.get(column):
                # PostgreSQL's sum of a bigint is a numeric: counts are made whole again.
                setattr(self, name, getattr(self, name) + (value if is_money else int(value)))

    def include(self, other: "Totals") -> None:
        """Add another group's sums."""
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> dict[str, Any]:
        """The columns of a report row, averages included (0 where there was no request)."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "cost_usd": self.cost_total_usd,
            "billed_usd": self.billed_usd,
            "avg_cost_usd": average_usd(self.cost_total_usd, self.requests),
            "avg_latency_ms": average_ms(self.latency_ms_sum, self.requests),
            "byok_requests": self.byok_requests,
            "errors": self.errors,
        }


MEASURES = tuple(field.name for field in fields(Totals))
_COLUMNS = tuple((name, f"of_{name}", name.endswith("_usd")) for name in MEASURES)


def average_usd(total: Decimal, number: int) -> Decimal:
    """USD, rounded half up to 1e-10; 0 of nothing."""
    return (total / number).quantize(UNIT, ROUND_HALF_UP) if number else ZERO


def average_ms(total: int, number: int) -> int:
    """Whole milliseconds, rounded half up; 0 of nothing."""
    return (2 * total + number) // (2 * number) if number else 0


def rows_of(model: type[Any], tenant_id: uuid.UUID | None) -> QuerySet[Any]:
    """A tenant's rows; for staff (None) everybody's."""
    rows = model._default_manager.all() if tenant_id is None else scoping.rows(model, tenant_id=tenant_id)
    return rows.order_by()  # the models' own order would become part of every GROUP BY


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The billing days of a report: those of `rolled` are read from their roll-up, those of `live` from the rows.

    Of the rolled ones, whole months can be read from `months`; what is left of them then is `rest`. Days that are open
    are in `rolled` as far as they are rolled up: their requests from `since` on are read from the rows, `since` by day.
    `sliced`: whether all of the rolled ones have slices, which those of former releases get with the next roll-up.
    """

    rolled: Q
    live: Q
    months: Q
    rest: Q
    since: dict[date, uuid.UUID]
    sliced: bool

    def of_rows(self, rows: QuerySet[UsageRecord]) -> list[QuerySet[UsageRecord]]:
        """The requests among `rows` that are in no roll-up, as one or two queries."""
        found = [rows.filter(self.live)]
        if self.since:
            newer = Q()
            for day, first in self.since.items():
                newer |= Q(day_as_text=day.isoformat(), pk__gte=first)
            # As text, so that no database takes the index on the day, under which are all of its requests: a few
            # thousand are newer than `since`, and the indexes on the id find those alone.
            late = rows.filter(pk__gte=min(self.since.values())).annotate(day_as_text=Cast("billing_day", CharField()))
            found.append(late.filter(newer))
        return found

    @property
    def of_adjustments(self) -> Q:
        """The adjustments that are in no roll-up: those of open days are few, and none of them is."""
        return self.live | Q(billing_day__in=list(self.since)) if self.since else self.live


def days_of(start: date, end: date) -> Days:
    """How the days from `start` to `end`, both included, are to be read now. Ask once a report: marks come and go."""
    span = Q(billing_day__gte=start, billing_day__lte=end)
    months = _whole_months(start, end)
    within = {day for month in months for day in periods.days_of(month)}  # those without a mark have no rows
    closed = RolledDay.objects.filter(span).values_list("billing_day", Value(None, output_field=UUIDField()), "slices")
    opened = OpenDay.objects.filter(span).values_list("billing_day", "upto", Value(0))
    marks = list(closed.union(opened))
    since = {day: upto for day, upto, _ in marks if upto is not None}
    marked = sorted(within.union(day for day, *_ in marks))
    # The gaps between marked days, as ranges: those the index on the day finds, where "none of these" reads all rows.
    live = Q()
    for after, before in pairwise((None, *marked, None)):
        begins = Q(billing_day__gte=start) if after is None else Q(billing_day__gt=after)
        ends = Q(billing_day__lte=end) if before is None else Q(billing_day__lt=before)
        first, last = after or start, before or end
        if last - first > (_DAY if after and before else timedelta(0)) or (after is None and before is None):
            live |= begins & ends
    return Days(
        rolled=Q(billing_day__in=marked),
        live=live or Q(pk__in=()),
        months=Q(month__in=months),
        rest=Q(billing_day__in=[day for day in marked if day not in within]),
        since=since,
        sliced=all(number is not None for *_, number in marks),
    )


def _whole_months(start: date, end: date) -> list[date]:
    """The rolled months that lie between the two days, both included."""
    if end - start < _SHORTEST_MONTH:
        return []
    begun = RolledMonth.objects.filter(month__gte=start, month__lte=end).values_list("month", flat=True)
    return [month for month in begun if periods.days_of(month)[-1] <= end]


def rolled_up(
    columns: Collection[str], *, tenant_id: uuid.UUID | None, days: Days
) -> tuple[QuerySet[Any], QuerySet[Any]]:
    """The rows of all days and of all months, in the smallest roll-ups that have these columns."""
    daily, monthly = slices.smallest(columns, tenant_id=tenant_id, sliced=days.sliced)
    return rows_of(daily[0], tenant_id).filter(**daily[1]), rows_of(monthly[0], tenant_id).filter(**monthly[1])


def sums(
    *, tenant_id: uuid.UUID | None, days: Days, columns: tuple[str, ...], only: Q | None = None
) -> Iterator[dict[str, Any]]:
    """Sums per combination of `columns`: marked months and days from their roll-ups, others from usage and adjustments.

    Besides those of `DailyUsage`, a column may be `month`, a day's first of the month, and `user_id` with no other but
    day, month and tenant. `only`: of these rows; of a key or a provider key.
    """
    only = only or Q()
    filtered = [one[0] for one in only.children if isinstance(one, tuple)]
    of_days, of_months = rolled_up((*columns, *filtered), tenant_id=tenant_id, days=days)

    def grouped(rows: QuerySet[Any], names: Sequence[str] = columns) -> QuerySet[Any, dict[str, Any]]:
        return (rows.annotate(month=TruncMonth("billing_day")) if "month" in names else rows).values(*names)

    monthly = "billing_day" not in columns
    if monthly:
        yield from of_months.filter(days.months, only).values(*columns).annotate(**rolled_sums())
    rolled = of_days.filter(days.rest if monthly else days.rolled, only)
    yield from grouped(rolled).annotate(**rolled_sums())
    for live in days.of_rows(rows_of(UsageRecord, tenant_id).filter(only)):
        yield from grouped(live).annotate(**live_sums())
    unsaid = {name: NOT_OF_ADJUSTMENTS[name] for name in columns if name in NOT_OF_ADJUSTMENTS}
    said = [name for name in columns if name not in unsaid]
    adjustments = rows_of(Adjustment, tenant_id).filter(days.of_adjustments, only)
    money = adjusted_sums()
    if said:
        adjusted: Iterable[dict[str, Any]] = grouped(adjustments, said).annotate(**money)
    else:
        adjusted = [adjustments.aggregate(**money, of_rows=Count("pk"))]
        adjusted = [row for row in adjusted if row["of_rows"]]
    for found in adjusted:
        yield {**unsaid, **found}


def rolled_sums() -> dict[str, Aggregate]:
    return {f"of_{name}": Sum(name) for name in MEASURES}


def adjusted_sums() -> dict[str, Aggregate]:
    return {f"of_{name}": Sum(name) for name in ("cost_total_usd", "billed_usd")}


def live_sums() -> dict[str, Aggregate]:
    counts = {
        "requests": Count("pk"),
        "errors": Count("pk", filter=Q(status_code__gte=400)),
        "byok_requests": Count("pk", filter=Q(used_byok=True)),
        "latency_ms_sum": Sum("latency_ms"),
    }
    return {f"of_{name}": counts[name] if name in counts else Sum(name) for name in MEASURES}
