"""Calendar days and months in a tenant's time zone, and the keys of budget windows."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY, MONTH, EVER = "day", "month", "ever"
PERIODS = (DAY, MONTH)  # of budgets; prepaid credit is for ever
BEGINNING = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a budget holds: `kind` is `key`, `config` or `tenant`, or `credit`: a tenant's prepaid credit."""

    kind: str
    id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Window:
    """One scope's budget window: its key and what the key spells."""

    key: str
    scope: Scope
    period: str
    starts_on: date


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def billing_day(now: datetime, timezone_name: str) -> date:
    """The calendar day that `now` (aware) is in, in that time zone."""
    return now.astimezone(zone(timezone_name)).date()


def starts_on(period: str, day: date) -> date:
    return day if period == DAY else day.replace(day=1)


def window_key(kind: str, scope_id: uuid.UUID, period: str, first: date) -> str:
    return f"{kind}:{scope_id}:{period}:{first}"


@lru_cache(maxsize=4096)
def windows_of(scope: Scope, day: date) -> tuple[Window, ...]:
    """The day's and the month's window of a scope."""
    return tuple(
        Window(window_key(scope.kind, scope.id, period, first), scope, period, first)
        for period, first in ((period, starts_on(period, day)) for period in PERIODS)
    )


def windows_for(scopes: Iterable[Scope], day: date) -> tuple[Window, ...]:
    return tuple(window for scope in scopes for window in windows_of(scope, day))


@lru_cache(maxsize=4096)
def credit_window(tenant_id: uuid.UUID) -> Window:
    """The window of a tenant's prepaid credit, which never resets."""
    scope = Scope("credit", tenant_id)
    return Window(window_key(scope.kind, scope.id, EVER, BEGINNING), scope, EVER, BEGINNING)


def begins_at(day: date, timezone_name: str) -> datetime:
    """Local midnight of that day, in UTC."""
    return datetime.combine(day, time(0), tzinfo=zone(timezone_name)).astimezone(UTC)


def resets_at(period: str, day: date, timezone_name: str) -> datetime:
    """When the window that holds `day` ends: the next local midnight or month, in UTC (DST included)."""
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    following = day + timedelta(days=1) if period == DAY else next_month
    return begins_at(following, timezone_name)
