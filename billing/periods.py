"""Months of billing days: open, over, finalised. The one place that knows that nothing lands in a finalised month.

Whoever writes money on a day that may be long gone (a late figure, an adjustment) first locks the windows it counts
in, then asks `open_day` where it belongs. `billing.statements.closing` locks the tenant's month window to finalise it,
so the answer stands until the commit.
"""

import re
import uuid
from collections.abc import Set
from datetime import UTC, date, datetime, time, timedelta

from billing import rows, windows
from billing.models import BudgetWindow, RolledDay
from billing.statement_models import Statement
from tenants.errors import InvalidValue

# The last time zone is UTC-12. What is over there is over everywhere, so that no change of a tenant's time zone, nor a
# process that has not heard of one, puts anything on a day of a month that is final.
_LAST_ZONE = timedelta(hours=12)
# A request's billing day is that of its arrival, and its hold is committed a moment later, on a machine whose clock
# may be off. Streams need no more: their holds keep the month open.
GRACE = timedelta(minutes=5)
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def parse(text: str) -> date:
    """The first day of a month written `2026-11`. Raises InvalidValue."""
    found = _MONTH.fullmatch(text)
    if found is None or found[1] in {"0000", "0001", "9999"}:  # beside them are no dates
        raise InvalidValue("Give a month as 2026-11.", param="month")
    return date(int(found[1]), int(found[2]), 1)


def month_of(day: date) -> date:
    return day.replace(day=1)


def following(day: date) -> date:
    """The first day of the next month."""
    return month_of(month_of(day) + timedelta(days=31))


def days_of(month: date) -> list[date]:
    """Every day of the month."""
    return [month + timedelta(days=number) for number in range((following(month) - month).days)]


def current(*, timezone: str, now: datetime) -> date:
    """The first day of the month it is in that time zone."""
    return month_of(windows.billing_day(now, timezone))


def ends_at(month: date) -> datetime:
    """When no new request can fall in the month any more, in any time zone: 12:05 UTC of the next month's first day."""
    return datetime.combine(following(month), time(0), tzinfo=UTC) + _LAST_ZONE + GRACE


def may_be_final(*, day: date, now: datetime) -> bool:
    """Whether the day's month is over in every time zone, by the calendar alone: no query for what is going on now."""
    return month_of((now.astimezone(UTC) - _LAST_ZONE).date()) > day


def open_day(tenant_id: uuid.UUID, day: date) -> date:
    """`day` itself, unless its month is finalised: then the first day of the next month of the tenant that is not.

    A month of which a day is pruned is closed to everybody: the roll-up of that day is all there is of it.
    """
    return open_days({(tenant_id, day)})[tenant_id, day]


def open_days(wanted: Set[tuple[uuid.UUID, date]]) -> dict[tuple[uuid.UUID, date], date]:
    """The same of many (tenant, day), in two queries."""
    if not wanted:
        return {}
    first = month_of(min(day for _, day in wanted))
    finalised = Statement.objects.filter(tenant_id__in={tenant_id for tenant_id, _ in wanted}, month__gte=first)
    closed = set(finalised.values_list("tenant_id", "month"))
    marks = RolledDay.objects.filter(pruned_at__isnull=False, billing_day__gte=first)
    pruned = {month_of(day) for day in marks.values_list("billing_day", flat=True)}
    found = {}
    for tenant_id, day in wanted:
        open_one = day
        while (tenant_id, month_of(open_one)) in closed or month_of(open_one) in pruned:
            open_one = following(open_one)
        found[tenant_id, day] = open_one
    return found


def lock(*, tenant_id: uuid.UUID, month: date) -> None:
    """Until the commit nobody books or adjusts anything in this month of this tenant. Inside a transaction."""
    scope = windows.Scope("tenant", tenant_id)
    key = windows.window_key(scope.kind, tenant_id, windows.MONTH, month)
    row = {"id": key, "scope_kind": scope.kind, "scope_id": tenant_id, "period": windows.MONTH, "starts_on": month}
    rows.WINDOWS.insert(rows.cursor_of(), [row])  # unless it is there
    list(BudgetWindow.objects.select_for_update().filter(pk=key).values_list("pk"))
