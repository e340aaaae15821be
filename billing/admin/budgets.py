"""Budgets as bars: what each scope has spent and holds of its limits, this day and this month."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from billing import reports, windows
from tenants.admin import dress
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A scope's limits in USD (None: no limit) and the name to show."""

    kind: str
    id: uuid.UUID
    name: str
    daily: Decimal | None
    monthly: Decimal | None

    @classmethod
    def of(cls, kind: str, row: Any) -> "Budget":
        """Of a tenant, a key or a config."""
        return cls(kind=kind, id=row.pk, name=str(row), daily=row.budget_limit_daily, monthly=row.budget_limit_monthly)


def panel(*, tenant: Tenant, scopes: Iterable[Budget], now: datetime) -> SafeString:
    """A row per scope: its day and its month. One query."""
    wanted = list(scopes)
    limits = [reports.Limited(kind=one.kind, id=one.id, daily=one.daily, monthly=one.monthly) for one in wanted]
    found = iter(reports.limits_of(scopes=limits, timezone=tenant.timezone, now=now))
    rows = [(budget.kind, budget.name, [_bar(next(found), now), _bar(next(found), now)]) for budget in wanted]
    day = windows.billing_day(now, tenant.timezone)
    return render_to_string(
        "billing/admin/budgets.html", {"rows": rows, "day": day, "timezone": tenant.timezone, "month": f"{day:%B %Y}"}
    )


def _bar(limit: dict[str, Any], now: datetime) -> SafeString:
    bar = dress.bar(spent=limit["spent"], held=limit["held"], limit=limit["limit"])
    if not limit["spent"]:
        return bar
    return dress.stack(bar, ahead_in_words(limit["expected"], limit["runs_out_at"], now=now))


def ahead_in_words(expected: Decimal, runs_out_at: datetime | None, *, now: datetime) -> SafeString | str:
    """Such as “at this pace $120.00 in all, used up on 2026-11-28”."""
    words = f"at this pace {dress.usd_round(expected)} in all"
    if runs_out_at is None:
        return words
    if runs_out_at <= now:
        return dress.badge("used up", "bad")
    moment = f"{runs_out_at:%H:%M} UTC" if runs_out_at.date() == now.date() else f"{runs_out_at:%Y-%m-%d}"
    return dress.badge(f"{words}, used up {'at' if ':' in moment else 'on'} {moment}", "warn")
