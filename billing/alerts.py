"""What is worth an alert, and who is told. It decides and writes rows; `llm.alerts` sends them.

Each alert has a key that spells out what happened, and is raised once however often, late or concurrently it is found.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q

from billing import forecast, windows
from billing.alert_models import THRESHOLDS, Alert, AlertDelivery, AlertSubscription, Event
from billing.models import BudgetWindow
from billing.reconcile import Difference
from tenants.ids import uuid7
from tenants.models import ApiKey, Tenant

# A window is looked at for so long after its end: what was spent in its last minute is told too.
LINGER = timedelta(minutes=10)
MOST_DIFFERENCES = 20
_SLICE = 100  # alerts a transaction: on SQLite the ledger waits for it
_ADJECTIVES = {windows.DAY: "daily", windows.MONTH: "monthly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A scope with a limit: whose it is, what it is called, USD a day and a month (None: no limit)."""

    kind: str
    id: uuid.UUID
    name: str
    tenant_id: uuid.UUID
    tenant_slug: str
    timezone: str
    daily: Decimal | None
    monthly: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An alert to raise, unless there is one with this key."""

    key: str
    event: str
    title: str
    data: Mapping[str, Any]
    tenant_id: uuid.UUID | None = None
    about_id: uuid.UUID | None = None
    percent: int | None = None
    window_starts_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong now and lasts: a provider that is down, a key that is refused."""

    about_id: uuid.UUID
    title: str
    data: Mapping[str, Any] = field(default_factory=dict)
    tenant_id: uuid.UUID | None = None


def raise_all(*, notices: Iterable[Notice], now: datetime) -> int:
    """Write the alerts that are not there yet, each with a delivery to everyone who wants it. How many were new."""
    ordered = sorted(notices, key=lambda notice: notice.key)  # one order for all, so that two runs do not deadlock
    return sum(_raise(ordered[start : start + _SLICE], now=now) for start in range(0, len(ordered), _SLICE))


def _raise(notices: Sequence[Notice], *, now: datetime) -> int:
    made = [
        Alert(
            id=uuid7(),
            key=notice.key,
            event=notice.event,
            title=notice.title[:300],
            data=dict(notice.data),
            tenant_id=notice.tenant_id,
            about_id=notice.about_id,
            percent=notice.percent,
            window_starts_on=notice.window_starts_on,
            created_at=now,
        )
        for notice in notices
    ]
    with transaction.atomic():
        Alert.objects.bulk_create(made, ignore_conflicts=True)
        # A run beside us may have written some of them first; those are its to deliver.
        new = list(Alert.objects.filter(pk__in=[alert.pk for alert in made]).order_by("pk"))
        wanting = _subscriptions({alert.tenant_id for alert in new}) if new else []
        AlertDelivery.objects.bulk_create(
            AlertDelivery(alert=alert, subscription=subscription, next_try_at=now, created_at=now)
            for alert in new
            for subscription in wanting
            if wants(subscription, alert)
        )
    return len(new)


def wants(subscription: AlertSubscription, alert: Alert) -> bool:
    """Whether this alert is for this subscription."""
    return (
        alert.event in subscription.events
        and subscription.tenant_id in {None, alert.tenant_id}
        and (alert.percent is None or alert.percent in subscription.thresholds)
    )


def _subscriptions(tenant_ids: set[uuid.UUID | None]) -> list[AlertSubscription]:
    theirs = Q(tenant_id__in=tenant_ids - {None}) | Q(tenant__isnull=True)
    return list(AlertSubscription.objects.filter(theirs, is_active=True))


# --- Budgets ----------------------------------------------------------------------------------------------------------


def budgets() -> Iterator[Budget]:
    """Tenants and keys that have a limit. Configs are llm's to add."""
    limited = Q(budget_limit_daily__isnull=False) | Q(budget_limit_monthly__isnull=False)
    limits = ("budget_limit_daily", "budget_limit_monthly")
    for row in Tenant.objects.filter(limited).order_by().values_list("pk", "slug", "timezone", *limits):
        pk, slug, zone, daily, monthly = row
        yield Budget(
            kind="tenant", id=pk, name=slug, tenant_id=pk, tenant_slug=slug, timezone=zone, daily=daily, monthly=monthly
        )
    keys = ApiKey.objects.filter(limited, tenant__isnull=False, revoked_at__isnull=True).order_by()
    owner = ("tenant_id", "tenant__slug", "tenant__timezone")
    for pk, name, tenant_id, slug, zone, daily, monthly in keys.values_list("pk", "name", *owner, *limits):
        yield Budget(
            kind="key", id=pk, name=name, tenant_id=tenant_id, tenant_slug=slug, timezone=zone, daily=daily,
            monthly=monthly,
        )  # fmt: skip


def about_budgets(*, limited: Iterable[Budget], now: datetime) -> list[Notice]:
    """A notice for each threshold passed in a window that is open, or was a moment ago, and for each open window whose
    limit will be reached before it ends, if it was not told.

    What counts is what is spent; what is held for requests under way may never be. A limit that was changed is another
    limit, and is told of anew. Three queries.
    """
    known = {(budget.kind, budget.id): budget for budget in limited}
    opened = {zone: _open_windows(zone, now) for zone in {budget.timezone for budget in known.values()}}
    starts = {starts_on for pairs in opened.values() for _, starts_on in pairs}
    percents = _percents()
    told = set(Alert.objects.filter(window_starts_on__in=starts).values_list("key", flat=True))
    spending = BudgetWindow.objects.filter(starts_on__in=starts, spent__gt=0).order_by()
    notices = []
    for window in spending.only("scope_kind", "scope_id", "period", "starts_on", "spent").iterator():
        budget = known.get((window.scope_kind, window.scope_id))
        if budget is None or (window.period, window.starts_on) not in opened[budget.timezone]:
            continue
        limit = budget.daily if window.period == windows.DAY else budget.monthly
        if limit is None:
            continue
        passed = [
            _of_threshold(budget, window, limit, percent)
            for percent in percents.get(budget.tenant_id, percents[None])
            if window.spent * 100 >= limit * percent
        ]
        notices += [notice for notice in (*passed, _of_pace(budget, window, limit, now)) if notice]
    return [notice for notice in notices if notice.key not in told]


def _open_windows(zone: str, now: datetime) -> set[tuple[str, date]]:
    """(period, first day) of each window that is open in that time zone, or ended a moment ago."""
    days = {windows.billing_day(moment, zone) for moment in (now, now - LINGER)}
    return {(period, windows.starts_on(period, day)) for day in days for period in windows.PERIODS}


def _percents() -> dict[uuid.UUID | None, set[int]]:
    """The thresholds that are looked at: ours and the platform's (under None) for all, and each tenant's own."""
    own: dict[uuid.UUID | None, set[int]] = {None: set(THRESHOLDS)}
    unusual = AlertSubscription.objects.filter(is_active=True).exclude(thresholds=list(THRESHOLDS))
    for tenant_id, thresholds in unusual.values_list("tenant_id", "thresholds"):
        own.setdefault(tenant_id, set()).update(thresholds)
    return {tenant_id: percents | own[None] for tenant_id, percents in own.items()}


def _of_threshold(budget: Budget, window: BudgetWindow, limit: Decimal, percent: int) -> Notice:
    said = "is used up" if percent == 100 else f"is {percent} % spent"
    notice = _of_budget(Event.BUDGET_THRESHOLD, budget, window, limit, said=said, percent=percent)
    return replace(notice, key=f"budget:{window.pk}:{percent}:{_plain(limit)}", percent=percent)


def _of_pace(budget: Budget, window: BudgetWindow, limit: Decimal, now: datetime) -> Notice | None:
    """That the limit will be reached too soon. Not of one that is used up, which is told as that, nor in the first
    tenth of a period, when one busy hour would look like many."""
    ends = windows.resets_at(window.period, window.starts_on, budget.timezone)
    begins = windows.begins_at(window.starts_on, budget.timezone)
    if window.spent >= limit or not begins + (ends - begins) / 10 <= now < ends:
        return None
    ahead = forecast.of(spent=window.spent, limit=limit, period=window.period, timezone=budget.timezone, now=now)
    if ahead.runs_out_at is None:
        return None
    there = ahead.runs_out_at.astimezone(windows.zone(budget.timezone))
    said = f"will be used up on {there:%Y-%m-%d} at about {there:%H:%M} at this pace"
    told = {"expected_usd": _plain(ahead.expected), "runs_out_at": _moment(ahead.runs_out_at)}
    notice = _of_budget(Event.BUDGET_FORECAST, budget, window, limit, said=said, **told)
    return replace(notice, key=f"forecast:{window.pk}:{_plain(limit)}")


def _of_budget(event: Event, budget: Budget, window: BudgetWindow, limit: Decimal, *, said: str, **told: Any) -> Notice:
    """What is common to all that is told of a budget. Its key is still to be given."""
    whose = "" if budget.kind == "tenant" else f" of the {budget.kind} “{budget.name}”"
    return Notice(
        key="",
        event=event,
        title=f"{budget.tenant_slug}: the {_ADJECTIVES[window.period]} budget{whose} {said}",
        tenant_id=budget.tenant_id,
        about_id=budget.id,
        window_starts_on=window.starts_on,
        data={
            "scope": budget.kind,
            "scope_id": str(budget.id),
            "scope_name": budget.name,
            "period": window.period,
            "starts_on": window.starts_on.isoformat(),
            "resets_at": _moment(windows.resets_at(window.period, window.starts_on, budget.timezone)),
            "limit_usd": _plain(limit),
            "spent_usd": _plain(window.spent),
            **told,
        },
    )


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


# --- What lasts -------------------------------------------------------------------------------------------------------


def lasting(event: Event) -> dict[uuid.UUID | None, Alert]:
    """The alerts of this event that are not over, by what they are about."""
    return {alert.about_id: alert for alert in Alert.objects.filter(event=event, ended_at__isnull=True)}


def begin(*, event: Event, faults: Iterable[Fault], now: datetime) -> int:
    """Raise an alert for each fault, unless there is one that still lasts. How many were new."""
    fresh = list(faults)
    before = Alert.objects.filter(event=event, about_id__in=[fault.about_id for fault in fresh]).order_by("pk")
    # The one before is in the key: two runs that find the same fault spell the same key, the next fault spells another.
    last = dict(before.values_list("about_id", "pk"))
    notices = [
        Notice(
            key=f"{event}:{fault.about_id}:{last.get(fault.about_id, 'first')}",
            event=event,
            title=fault.title,
            data=fault.data,
            tenant_id=fault.tenant_id,
            about_id=fault.about_id,
        )
        for fault in fresh
    ]
    return raise_all(notices=notices, now=now)


def end(*, alerts: Iterable[Alert], now: datetime) -> None:
    """What these are about is over: the same again will be another alert."""
    Alert.objects.filter(pk__in=[alert.pk for alert in alerts], ended_at__isnull=True).update(ended_at=now)


# --- The ledger -------------------------------------------------------------------------------------------------------


def reconcile_failed(*, differences: Sequence[Difference], now: datetime) -> int:
    """The money does not add up: told once a day (UTC), however often it is found."""
    number = len(differences)
    notice = Notice(
        key=f"{Event.RECONCILE_FAILED}:{now.astimezone(UTC).date()}",
        event=Event.RECONCILE_FAILED,
        title=f"The money does not add up: {number} {'figure differs' if number == 1 else 'figures differ'}",
        data={"differences": number, "first": [str(difference) for difference in differences[:MOST_DIFFERENCES]]},
    )
    return raise_all(notices=[notice], now=now)
