"""What a budget's period will come to if it goes on as it has begun. Pure.

    expected = spent / elapsed x length of the period

`elapsed` is the time since the period began in the tenant's time zone, at least a day of a month and an hour of a day:
the first requests of a period say little. What is held is not counted, since most of it is given back. The moment at
which a limit is reached follows from the same pace: now + elapsed x (limit - spent) / spent.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from billing import windows
from tenants.fields import UNIT

LEAST = {windows.DAY: timedelta(hours=1), windows.MONTH: timedelta(days=1)}
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`expected` in USD at the end of the period; `runs_out_at` is when the limit is reached, None if not before then
    (or if there is none)."""

    expected: Decimal
    runs_out_at: datetime | None


def of(*, spent: Decimal, limit: Decimal | None, period: str, timezone: str, now: datetime) -> Forecast:
    """The forecast of a window that is open at `now`."""
    first = windows.starts_on(period, windows.billing_day(now, timezone))
    begins = windows.begins_at(first, timezone)
    ends = windows.resets_at(period, first, timezone)
    elapsed = max(now - begins, LEAST[period])
    share = Decimal((ends - begins) // _MICROSECOND) / Decimal(elapsed // _MICROSECOND)
    expected = max(spent, (spent * share).quantize(UNIT, ROUND_HALF_UP))
    return Forecast(expected=expected, runs_out_at=_runs_out(spent, limit, elapsed, now=now, ends=ends))


def _runs_out(
    spent: Decimal, limit: Decimal | None, elapsed: timedelta, *, now: datetime, ends: datetime
) -> datetime | None:
    if limit is None:
        return None
    if spent >= limit:
        return now
    if spent <= 0:
        return None
    left = Decimal(elapsed // _MICROSECOND) * (limit - spent) / spent
    if left >= Decimal((ends - now) // _MICROSECOND):
        return None
    return now + int(left) * _MICROSECOND
