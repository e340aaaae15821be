"""Roll-ups: a day's usage and adjustments summed per combination of dimensions, rebuilt from the rows themselves.

A roll-up can run any number of times, in any order, and be killed at any moment: it is one transaction. A day is
marked (`RolledDay`) only when no new request can fall on it; from then on reports read its `DailyUsage`. Who settles
or adjusts something on an old day takes its mark away in the same transaction: it inserts the mark, which waits for a
roll-up under way, and then deletes it. A month is summed from its days when all of them are marked, and its own mark
(`RolledMonth`) goes with that of any of them, in the same way.
"""

import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import takewhile
from typing import Any

from django.db import transaction
from django.db.models import Count, Min, Q, Sum

from billing import charges, slices
from billing.histograms import BUCKETS, bounds
from billing.models import Adjustment, DailyUsage, Hold, RolledDay, UsageRecord
from billing.periods import days_of, month_of
from billing.rollup_models import (
    COUNTS,
    MONEY,
    TOKENS,
    DailyCharge,
    DailySlice,
    DailyUserUsage,
    MonthlySlice,
    MonthlyUsage,
    MonthlyUserUsage,
    OpenDay,
    RolledMonth,
)
from tenants.ids import uuid7_of

# Time zones reach from UTC-12 to UTC+14, so two days after a date began in UTC nobody's calendar shows it any more.
OPEN_FOR = timedelta(days=2)
_ON_ITS_WAY = timedelta(minutes=15)

# What an adjustment does not say; its money stands in the row that says the same of the rest.
NOT_OF_ADJUSTMENTS: dict[str, Any] = {"user_id": ""}
# Each table of months, and that of days which it is summed from.
OF_MONTHS: tuple[tuple[Any, Any], ...] = (
    (MonthlyUsage, DailyUsage),
    (MonthlyUserUsage, DailyUserUsage),
    (MonthlySlice, DailySlice),
)
_BATCH = 500


def is_closed(*, day: date, now: datetime) -> bool:
    """Whether no request accepted from now on can have this billing day, in any time zone."""
    return day < (now - OPEN_FOR).date()


def roll_up_day(*, day: date, now: datetime) -> int:
    """Rebuild the day's `DailyUsage`, `DailyUserUsage` and `DailySlice` rows, of all tenants, and mark the day if it is
    closed. The number of the first.

    Of an open day they have what is settled for good (see `OpenDay`), and no adjustments. A closed day also gets its
    `DailyCharge` rows, which statements read. A pruned day keeps what it has: its usage is gone.
    """
    closed = is_closed(day=day, now=now)
    # Summed before the transaction, since SQLite has one write lock for all and live requests need it. Rows are only
    # ever added, so if there are as many afterwards the sums are of all of them.
    upto = None if closed else _settled_before(now)
    before = _number(day)
    made = _made(day, upto)
    with transaction.atomic(durable=True):
        _take_turn(day=day, now=now)
        if RolledDay.objects.filter(billing_day=day, pruned_at__isnull=False).exists():
            return DailyUsage.objects.filter(billing_day=day).count()
        if closed and _number(day) != before:
            made = _made(day, upto)
        for model, rows in made.items():
            model._default_manager.filter(billing_day=day).delete()
            model._default_manager.bulk_create(rows, batch_size=_BATCH)
        numbers = {"charges": len(made[DailyCharge]), "slices": len(made[DailySlice])}
        RolledDay.objects.filter(billing_day=day).update(**numbers)
        OpenDay.objects.filter(billing_day=day).delete()
        if upto is not None:
            RolledDay.objects.filter(billing_day=day).delete()
            OpenDay.objects.create(billing_day=day, upto=upto, rolled_at=now)
        _unmark_month(month=month_of(day), now=now)
    return len(made[DailyUsage])


def roll_up(*, now: datetime) -> dict[str, int]:
    """Roll up every day that has usage or adjustments and no mark, oldest first: {ISO day: rows written}.

    Days missed while no worker ran are caught up; days still open are rolled again each time, and lose the mark that a
    clock which ran ahead has given them. Days rolled up before there were slices get theirs, pruned ones too.
    """
    for day in RolledDay.objects.filter(charges__isnull=False, slices__isnull=True).values_list("pk", flat=True):
        slice_day(day=day)
    marks = RolledDay.objects.filter(charges__isnull=False).values_list("billing_day", flat=True)
    marked = {day for day in marks if is_closed(day=day, now=now)}
    return {day.isoformat(): roll_up_day(day=day, now=now) for day in days_with_rows() if day not in marked}


def slice_day(*, day: date) -> None:
    """Make the `DailySlice` rows of a marked day out of its `DailyUsage`. No usage row is read."""
    with transaction.atomic(durable=True):
        # Who takes the mark away waits until we commit.
        if not RolledDay.objects.select_for_update().filter(pk=day).exists():
            return
        made = slices.made(DailyUsage.objects.filter(billing_day=day).order_by().iterator())
        DailySlice.objects.filter(billing_day=day).delete()
        DailySlice.objects.bulk_create(made, batch_size=_BATCH)
        RolledDay.objects.filter(pk=day).update(slices=len(made))


def days_with_rows() -> list[date]:
    """The billing days that have usage or adjustments, oldest first."""
    return sorted({*_days(UsageRecord), *_days(Adjustment)})


def days_with_usage(*, before: date) -> list[date]:
    """The billing days before that one which have usage rows, oldest first."""
    return list(takewhile(lambda day: day < before, _days(UsageRecord)))


def roll_up_month(*, month: date, now: datetime) -> int | None:
    """Sum the month's `MonthlyUsage` rows and the others from its days, and mark it. The number of the former; None if
    a day lacks its mark or its slices.

    As with days, it is summed before the transaction, and only what nobody has changed since is written.
    """
    before = _marks(month, now)
    if before is None:
        return None
    made = {model: _summed(month, model, of) for model, of in OF_MONTHS}
    with transaction.atomic(durable=True):
        mark = RolledMonth(month=month, rolled_at=now)
        RolledMonth.objects.bulk_create(
            [mark], update_conflicts=True, unique_fields=["month"], update_fields=["rolled_at"]
        )
        if _marks(month, now) != before:
            mark.delete()
            return None
        for model, rows in made.items():
            model._default_manager.filter(month=month).delete()
            model._default_manager.bulk_create(rows, batch_size=_BATCH)
    return len(made[MonthlyUsage])


def roll_up_months(*, now: datetime) -> dict[str, int]:
    """Sum every month whose days are all rolled up and which has no mark, oldest first: {month as 2026-11: rows}."""
    months = {month_of(day) for day in RolledDay.objects.values_list("billing_day", flat=True)}
    months -= set(RolledMonth.objects.values_list("month", flat=True))
    done = {month: roll_up_month(month=month, now=now) for month in sorted(months)}
    return {f"{month:%Y-%m}": number for month, number in done.items() if number is not None}


def is_complete(*, month: date, now: datetime) -> bool:
    """Whether the month is over and each of its days that has rows is rolled up."""
    return _marks(month, now) is not None


def _marks(month: date, now: datetime) -> dict[date, datetime] | None:
    """When each day of the month was rolled up; None if it is not over, or a day that has rows has no mark, or a marked
    one no slices."""
    days = days_of(month)
    if not is_closed(day=days[-1], now=now):
        return None
    of_days = RolledDay.objects.filter(billing_day__in=days)
    if of_days.filter(slices__isnull=True).exists():
        return None
    marks = dict(of_days.values_list("billing_day", "rolled_at"))
    unmarked = [day for day in days if day not in marks]
    for model in (UsageRecord, Adjustment):
        if any(model._default_manager.filter(billing_day=day).exists() for day in unmarked):
            return None
    return marks


def _summed(month: date, model: Any, of: Any) -> list[Any]:
    """The month's rows of `model`, summed from its days' rows of another."""
    same = [name for name in model.DIMENSIONS if name != "month"]
    sums = {f"sum_{name}": Sum(name) for name in (*COUNTS, *MONEY)}
    found = of.objects.filter(billing_day__in=days_of(month)).order_by().values(*same).annotate(**sums)
    return [
        model(
            month=month,
            **{name: row[name] for name in same},
            **{name: int(row[f"sum_{name}"]) for name in COUNTS},
            **{name: row[f"sum_{name}"] for name in MONEY},
        )
        for row in found.iterator()
    ]


def _unmark_month(*, month: date, now: datetime) -> None:
    """Take the month's mark away, also one that a roll-up of the month is about to commit: the insert waits for it."""
    RolledMonth.objects.bulk_create([RolledMonth(month=month, rolled_at=now)], ignore_conflicts=True)
    RolledMonth.objects.filter(pk=month).delete()


def _take_turn(*, day: date, now: datetime) -> None:
    """Set the day's mark first: another roll-up of the day, or a late settlement on it, waits until we commit.

    One statement that inserts the row or locks it. Nobody sees the mark before the commit.
    """
    RolledDay.objects.bulk_create(
        [RolledDay(billing_day=day, rolled_at=now)],
        update_conflicts=True,
        unique_fields=["billing_day"],
        update_fields=["rolled_at"],
    )


def _number(day: date) -> int:
    """How many rows a roll-up of the day is made of."""
    return sum(model._default_manager.filter(billing_day=day).count() for model in (UsageRecord, Adjustment))


def _settled_before(now: datetime) -> uuid.UUID:
    """The request id before which every request has its usage row, or will never have one. Ask before reading rows.

    A row is written when its hold goes, in the same commit, so what is older than the oldest hold is settled; and a
    request is held within seconds of its id, for which `_ON_ITS_WAY` is generous, clocks that differ included.
    """
    oldest = Hold.objects.order_by("pk").values_list("pk", flat=True).first()
    recent = uuid7_of(round((now - _ON_ITS_WAY).timestamp() * 1000), 0)
    return recent if oldest is None else min(oldest, recent)


def _made(day: date, upto: uuid.UUID | None) -> dict[type[Any], list[Any]]:
    """The day's roll-ups by their tables: of all rows if it is closed, else of those before `upto`."""
    usage = _rebuilt(day, DailyUsage, upto)
    return {
        DailyUsage: usage,
        DailySlice: slices.made(usage),
        DailyUserUsage: _rebuilt(day, DailyUserUsage, upto),
        DailyCharge: _charged(day) if upto is None else [],
    }


def _rebuilt(day: date, model: Any, upto: uuid.UUID | None) -> list[Any]:
    """The day's rows of `model`: usage and adjustments by its dimensions; or the usage before `upto` alone."""
    rows: dict[tuple[Any, ...], Any] = {}
    for found in _usage(day, model, upto):
        row = _row(found, model)
        rows[_place(row)] = row
    if upto is not None:
        return list(rows.values())
    for found in _adjustments(day, model):
        row = _row({**NOT_OF_ADJUSTMENTS, "billing_day": day, **found}, model)
        same = rows.setdefault(_place(row), row)
        if same is not row:
            for name in MONEY:
                setattr(same, name, getattr(same, name) + getattr(row, name))
    return list(rows.values())


def _charged(day: date) -> list[DailyCharge]:
    return charges.as_rows(charges.of_rows(tenant_id=None, days=[day]))


def _place(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.DIMENSIONS)


def _usage(day: date, model: Any, upto: uuid.UUID | None) -> Iterator[dict[str, Any]]:
    """One pass over the day's usage in the database: sums, counts and both histograms of each combination."""
    sums = {f"sum_{name}": Sum(name) for name in (*TOKENS, *MONEY, "latency_ms")}
    counts = {
        "count_all": Count("pk"),
        "count_errors": Count("pk", filter=Q(status_code__gte=400)),
        "count_byok": Count("pk", filter=Q(used_byok=True)),
        **_buckets("latency_ms"),
        **_buckets("ttft_ms"),
    }
    found: Iterator[dict[str, Any]] = (
        UsageRecord.objects.filter(Q() if upto is None else Q(pk__lt=upto), billing_day=day)
        .order_by()
        .values(*model.DIMENSIONS)
        .annotate(**sums, **counts)
        .iterator()
    )
    return found


def _adjustments(day: date, model: Any) -> Iterator[dict[str, Any]]:
    dimensions = [name for name in model.DIMENSIONS if name not in NOT_OF_ADJUSTMENTS]
    found: Iterator[dict[str, Any]] = (
        Adjustment.objects.filter(billing_day=day)
        .order_by()
        .values(*dimensions)
        .annotate(**{f"sum_{name}": Sum(name) for name in MONEY})
        .iterator()
    )
    return found


def _buckets(column: str) -> dict[str, Count]:
    """How many rows have `column` in each bucket; rows where it is null are in none."""
    counts = {}
    for key in BUCKETS:
        over, upto = bounds(key)
        within = Q(**{f"{column}__isnull": False})
        if over:
            within &= Q(**{f"{column}__gt": over})
        if upto is not None:
            within &= Q(**{f"{column}__lte": upto})
        counts[f"{column}_{key}"] = Count("pk", filter=within)
    return counts


def _row(found: dict[str, Any], model: Any) -> Any:
    return model(
        **{name: found[name] for name in model.DIMENSIONS},
        **{name: int(found.get(f"sum_{name}") or 0) for name in TOKENS},
        **{name: found.get(f"sum_{name}") or Decimal(0) for name in MONEY},
        requests=found.get("count_all", 0),
        errors=found.get("count_errors", 0),
        byok_requests=found.get("count_byok", 0),
        latency_ms_sum=int(found.get("sum_latency_ms") or 0),
        latency_histogram=_histogram(found, "latency_ms"),
        ttft_histogram=_histogram(found, "ttft_ms"),
    )


def _histogram(found: dict[str, Any], column: str) -> dict[str, int]:
    """The buckets that have something in them."""
    counts = {key: found.get(f"{column}_{key}", 0) for key in BUCKETS}
    return {key: count for key, count in counts.items() if count}


def _days(model: type[UsageRecord] | type[Adjustment]) -> Iterator[date]:
    """The billing days that have rows. One step of the index per day, however many rows a day has."""
    day: date | None = model._default_manager.aggregate(first=Min("billing_day"))["first"]
    while day is not None:
        yield day
        day = model._default_manager.filter(billing_day__gt=day).aggregate(first=Min("billing_day"))["first"]
