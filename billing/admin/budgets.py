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


def panel(*, tenant: Tenant, scopes: Iterable[Budget], now: datetime) -> SafeString:
    """A row per scope: its day and its month. One query."""
    wanted = list(scopes)
    limits = [reports.Limited(kind=one.kind, id=one.id, daily=one.daily, monthly=one.monthly) for one in wanted]
    found = iter(reports.limits_of(scopes=limits, timezone=tenant.timezone, now=now))
    rows = [(budget.kind, budget.name, [_bar(next(found)), _bar(next(found))]) for budget in wanted]
    day = windows.billing_day(now, tenant.timezone)
    return render_to_string(
        "billing/admin/budgets.html", {"rows": rows, "day": day, "timezone": tenant.timezone, "month": f"{day:%B %Y}"}
    )


def _bar(limit: dict[str, Any]) -> SafeString:
    return dress.bar(spent=limit["spent"], held=limit["held"], limit=limit["limit"])
