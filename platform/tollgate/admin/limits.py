"""Windows with the limits of whom they belong to, for the first page; and which of them will be used up too soon."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, CharField, ExpressionWrapper, F, OuterRef, QuerySet, Subquery, When
from django.urls import reverse

from billing import forecast, windows
from billing.models import BudgetWindow
from llm.models import LLMConfig
from tenants.admin import dress
from tenants.fields import UsdField
from tenants.models import ApiKey, Tenant

SHOWN = 12
MOST_LOOKED_AT = 500
_LONGEST_MONTH = 31


def owner(model: type[Any], name: str) -> Subquery:
    """A column of the row that a window belongs to."""
    return Subquery(model.objects.filter(pk=OuterRef("scope_id")).values(name)[:1])


def with_limits(rows: QuerySet[BudgetWindow]) -> Any:
    """Each window with its scope's limit and name, in the same query."""
    kinds: tuple[tuple[str, type[Any], str], ...] = (
        ("tenant", Tenant, "slug"),
        ("key", ApiKey, "name"),
        ("config", LLMConfig, "name"),
    )
    limits = [
        When(scope_kind=kind, period=period, then=owner(model, f"budget_limit_{word}"))
        for kind, model, _ in kinds
        for period, word in (("day", "daily"), ("month", "monthly"))
    ]
    names = [When(scope_kind=kind, then=owner(model, name)) for kind, model, name in kinds]
    return rows.annotate(
        limit=Case(*limits, output_field=UsdField(null=True)), owner_name=Case(*names, output_field=CharField())
    )


def scope_url(row: BudgetWindow) -> str:
    pages = {"tenant": "tenants_tenant", "key": "tenants_apikey", "config": "llm_llmconfig"}
    return reverse(f"admin:{pages[row.scope_kind]}_change", args=(row.scope_id,))


def running_out(now: datetime) -> list[dict[str, Any]]:
    """Monthly budgets that are used up before the month ends if they go on so, the soonest first.

    One query: the database leaves out what is far from its limit in every time zone.
    """
    today = now.date()
    months = {(today + timedelta(days=shift)).replace(day=1) for shift in (-1, 0, 1)}
    rows = with_limits(BudgetWindow.objects.filter(period=windows.MONTH, starts_on__in=months, spent__gt=0))
    # Generous on both sides: the month as long as one can be, the day as early as it is anywhere.
    days = max(1, today.day - 1)
    ahead = ExpressionWrapper(F("spent") * _LONGEST_MONTH, output_field=UsdField())
    floor = ExpressionWrapper(F("limit") * days, output_field=UsdField())
    rows = rows.filter(limit__gt=F("spent")).annotate(ahead=ahead, floor=floor, zone=_zone())
    found = []
    for row in rows.filter(ahead__gt=F("floor")).order_by("-spent")[:MOST_LOOKED_AT]:
        zone = row.zone or "UTC"
        if row.starts_on != windows.starts_on(windows.MONTH, windows.billing_day(now, zone)):
            continue
        seen = forecast.of(spent=row.spent, limit=row.limit, period=windows.MONTH, timezone=zone, now=now)
        if seen.runs_out_at is not None:
            found.append((seen.runs_out_at, row, seen.expected))
    found.sort(key=lambda one: (one[0], one[1].pk))
    return [
        {
            "name": row.owner_name or str(row.scope_id),
            "kind": row.scope_kind,
            "on": f"{at:%Y-%m-%d}",
            "expected": dress.usd_round(expected),
            "limit": dress.usd(row.limit),
            "url": scope_url(row),
        }
        for at, row, expected in found[:SHOWN]
    ]


def _zone() -> Case:
    """The time zone of a window's tenant."""
    kinds: tuple[tuple[str, type[Any], str], ...] = (
        ("tenant", Tenant, "timezone"),
        ("key", ApiKey, "tenant__timezone"),
        ("config", LLMConfig, "tenant__timezone"),
    )
    whens = [When(scope_kind=kind, then=owner(model, name)) for kind, model, name in kinds]
    return Case(*whens, output_field=CharField())
