"""Windows with the limits of whom they belong to, for the first page; and which of them will be used up too soon."""

from datetime import datetime
from typing import Any

from django.db.models import Case, CharField, ExpressionWrapper, F, OuterRef, Q, QuerySet, Subquery, When
from django.urls import reverse

from billing import forecast, windows
from billing.models import BudgetWindow
from llm.models import LLMConfig
from tenants.admin import dress
from tenants.fields import UsdField
from tenants.models import ApiKey, Tenant

SHOWN = 12
MOST_LOOKED_AT = 500
_FARTHEST = ("Etc/GMT+12", "Pacific/Kiritimati")  # where a month begins last, and first
# A month, the hour by which its clocks may be put back, and the day that has passed at least (see billing.forecast).
_LONGEST_DAYS = 33


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

    One query: the database leaves out what is far from its limit in every time zone; the forecast decides.
    """
    # Generous on both sides, whatever the tenant's time zone: the month as long as one can be, and begun where it
    # begins last.
    ahead = ExpressionWrapper(F("spent") * _LONGEST_DAYS, output_field=UsdField())
    near = Q()
    for month in {windows.starts_on(windows.MONTH, windows.billing_day(now, zone)) for zone in _FARTHEST}:
        days = max(1, (now - windows.begins_at(month, _FARTHEST[0])).days)
        near |= Q(starts_on=month, ahead__gt=ExpressionWrapper(F("limit") * days, output_field=UsdField()))
    rows = with_limits(BudgetWindow.objects.filter(period=windows.MONTH, spent__gt=0)).filter(limit__gt=F("spent"))
    rows = rows.annotate(ahead=ahead, zone=_zone()).filter(near)
    # Within a time zone the greatest share is used up first.
    share = ExpressionWrapper(F("spent") * 1_000_000 / F("limit"), output_field=UsdField())
    found = []
    for row in rows.order_by(share.desc())[:MOST_LOOKED_AT]:
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
